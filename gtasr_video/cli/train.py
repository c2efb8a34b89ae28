"""``gtasr-video train``."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gtasr_video.errors import ConfigError, TrainingError, UsageError

if TYPE_CHECKING:
    from gtasr_video.training.settings import TrainSettings

_log = logging.getLogger("gtasr_video")


@click.command("train", short_help="Train or fine-tune a network on videos and pictures.")
@click.option(
    "--config",
    "config_name",
    metavar="NAME|FILE",
    help="How to train: a shipped name or file; without it train/finetune after --init, else train/two_stages.",
)
@click.option("--data", multiple=True, type=click.Path(path_type=Path), metavar="DIR...", help="Videos and pictures.")
@click.argument("more_data", nargs=-1, type=click.Path(path_type=Path), metavar="")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Where the run is kept.")
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    metavar="s|m|l|FILE",
    help="Weights to start from; those of a smaller tier are grown.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the run in --out, from its last checkpoint, by its own settings and data.",
)
@click.option(
    "--vgg", metavar="FILE|none", envvar="GTASR_VGG", help="VGG16 weights for the perceptual distance (or $GTASR_VGG)."
)
@click.option("--device", default="auto", metavar="auto|cpu|cuda[:N]", show_default=True, help="Where to compute.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="One setting; may be repeated.")
def command(
    config_name: str | None,
    data: tuple[Path, ...],
    more_data: tuple[Path, ...],
    out: Path | None,
    init: Path | None,
    resume: bool,
    vgg: str | None,
    device: str,
    overrides: tuple[str, ...],
) -> None:
    """Train a network on videos, pictures and packs, or folders of them.

    Weights come out as OUT/best.safetensors, for upscale --model; OUT/report.html shows how it goes. A run that
    was stopped goes on with --resume; Ctrl-C writes a checkpoint first. Several GPUs or machines: start it with
    torchrun.

    \b
      gtasr-video train --config train/two_stages --data clips/ photos/ --out runs/mine
      gtasr-video train --config train/finetune --init s --data footage/ --out runs/footage
      torchrun --nproc-per-node 4 -m gtasr_video train --config train/two_stages --data clips/ --out runs/mine
    """
    if not data and not resume:
        raise UsageError("no training data given; name folders with --data DIR...")
    if out is None:
        raise UsageError("no folder for the run given; name one with --out DIR")
    from gtasr_video.cli.messages import log_to_stderr
    from gtasr_video.config import load_config
    from gtasr_video.models import weights_path
    from gtasr_video.training.loop import train
    from gtasr_video.training.progress import showing
    from gtasr_video.training.ranks import choose_local, is_first
    from gtasr_video.training.run import description
    from gtasr_video.training.settings import TrainSettings

    log_to_stderr(verbose=is_first(), quiet=not is_first())
    folders = [*data, *more_data]
    before = description(out) if resume and (config_name is None or not folders) else {}
    if config_name is None and not resume:
        config_name = "train/finetune" if init else "train/two_stages"
        _log.info("no --config given: training by %s", config_name)
    begin_with = before.get("settings") if config_name is None else None
    if begin_with is not None:
        _check_kept(out, begin_with)
    settings = load_config(TrainSettings, config_name, overrides, section="train", begin=begin_with)
    if vgg:
        settings = dataclasses.replace(settings, vgg=vgg)
    settings = _from_any_folder(settings)
    begin = str(init or settings.init)
    start = weights_path(begin) if begin else None
    with showing(settings, quiet=not is_first()) as on_step:
        best = train(
            settings,
            folders or [*map(Path, before["data"])],
            out,
            device=choose_local(device),
            init=start,
            resume=resume,
            on_step=on_step,
        )
    if is_first():
        click.echo(f"gtasr-video: weights are in {best}, how it went in {out / 'report.html'}", err=True)


def _check_kept(out: Path, settings: dict[str, Any]) -> None:
    """Raise TrainingError where the settings that a run has kept are not those of this version."""
    from gtasr_video.config import load_config
    from gtasr_video.training.settings import TrainSettings

    try:
        load_config(TrainSettings, begin=settings)
    except ConfigError as error:
        raise TrainingError(
            f"{out / 'run.json'}: {error}; of another version? Give --config and --data again"
        ) from error


def _from_any_folder(settings: TrainSettings) -> TrainSettings:
    """Return `settings` with the paths of its files absolute: --resume may be said in another folder."""
    vgg, teacher = settings.vgg, settings.teacher
    if vgg not in ("", "none"):
        vgg = str(Path(vgg).absolute())
    if teacher.endswith(".safetensors"):  # else a tier
        teacher = str(Path(teacher).absolute())
    return dataclasses.replace(settings, vgg=vgg, teacher=teacher)
