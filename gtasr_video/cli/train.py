"""``gtasr-video train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gtasr_video.errors import UsageError


@click.command("train", short_help="Train or fine-tune a network on videos and pictures.")
@click.option(
    "--config", "config_name", metavar="NAME|FILE", help="What to train: a shipped name (train/smoke) or file."
)
@click.option("--data", multiple=True, type=click.Path(path_type=Path), metavar="DIR...", help="Videos and pictures.")
@click.argument("more_data", nargs=-1, type=click.Path(path_type=Path), metavar="")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Where the run is kept.")
@click.option("--init", type=click.Path(path_type=Path), metavar="s|m|l|FILE", help="Weights to start from.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out, exactly where it stopped.")
@click.option("--device", default="auto", metavar="auto|cpu|cuda[:N]", show_default=True, help="Where to compute.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="One setting; may be repeated.")
def command(
    config_name: str | None,
    data: tuple[Path, ...],
    more_data: tuple[Path, ...],
    out: Path | None,
    init: Path | None,
    resume: bool,
    device: str,
    overrides: tuple[str, ...],
) -> None:
    """Train a network on videos, pictures and packs, or folders of them.

    Weights come out as OUT/best.safetensors, for upscale --model. A run that was stopped goes on with --resume.

    \b
      gtasr-video train --config train/smoke --data clips/ photos/ --out runs/mine
    """
    if not data:
        raise UsageError("no training data given; name folders with --data DIR...")
    if out is None:
        raise UsageError("no folder for the run given; name one with --out DIR")
    from gtasr_video.config import load_config
    from gtasr_video.device import choose
    from gtasr_video.models import weights_path
    from gtasr_video.training.loop import schedule, train
    from gtasr_video.training.settings import TrainSettings

    settings = load_config(TrainSettings, config_name, overrides, section="train")
    start = None if init is None else weights_path(str(init))
    with _Watch(sum(schedule(settings))) as watch:
        best = train(
            settings, [*data, *more_data], out, device=choose(device), init=start, resume=resume, on_step=watch.step
        )
    click.echo(f"gtasr-video: weights are in {best}", err=True)


class _Watch:
    """A bar on stderr: optimiser steps, loss terms, clips a second, time left."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        text = TextColumn("{task.description}", markup=False)
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), text)
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task("", total=total)

    def step(self, line: dict[str, Any]) -> None:
        """Show one line of metrics."""
        losses = [
            f"{name.removeprefix('loss/')} {value:.4f}" for name, value in line.items() if name.startswith("loss/")
        ]
        speed = f"{line['perf/clips_per_second']:.1f} clips/s"
        self._progress.update(self._task, completed=line["step"], description="  ".join([*losses, speed]))

    def __enter__(self) -> _Watch:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
