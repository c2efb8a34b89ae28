"""``gtasr-video bench``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from gtasr_video.errors import EvaluationError, OutputError, UsageError

# Those of the setting `backend`; written out, as --help loads no torch.
BACKENDS = ("auto", "torch", "cuda-graph", "openvino", "openvino-int8")


@click.command("bench", short_help="Measure speed, stage by stage, and beside peers.")
@click.argument("source", metavar="[INPUT]", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--model", default="s", show_default=True, metavar="s|m|l|FILE|bicubic", help="The network.")
@click.option("--scale", default=4, show_default=True, help="How many times larger.")
@click.option("--size", default="320x180", show_default=True, metavar="WxH", help="Of the video made if none is given.")
@click.option("--frames", default=60, show_default=True, help="Frames of it.")
@click.option("--rounds", default=3, show_default=True, help="How often all that is measured takes turns.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--backend", default="auto", show_default=True, type=click.Choice(BACKENDS), help="Who computes.")
@click.option("--codec", help="h264, h265, av1, vp9, prores or ffv1.  [default: h264]")
@click.option(
    "--peer", "peers", multiple=True, metavar="FILE.param", type=click.Path(path_type=Path), help="An ncnn model."
)
@click.option("--compact", is_flag=True, help="Also a Compact network of 0.6 M in plain torch; --peer includes it.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Add the measurement here, as JSON.")
@click.option("--check", type=click.Path(dir_okay=False, path_type=Path), help="Fail if ratios fell against this file.")
def command(source: Path | None, out: Path | None, check: Path | None, **options: Any) -> None:
    """Measure how fast INPUT is upscaled (a video is made if none is given), and where the time goes.

    Each stage alone (decode, upload, model, download, encode), then from file to file; with --peer also what ncnn
    models need for their network alone. All take turns. Compare ratios of one run: times are of one moment.

    \b
      gtasr-video bench
      gtasr-video bench --peer realesr-animevideov3-x4.param --out results.jsonl
      gtasr-video bench --check results.jsonl
    """
    from gtasr_video.cli.messages import log_to_stderr
    from gtasr_video.evaluation.speed.check import baseline, read, slower

    log_to_stderr(verbose=False)
    before = [] if check is None else read(check)
    if out is not None and not out.absolute().parent.is_dir():
        raise OutputError(f"there is no folder {out.parent} for the measurement; make it first")
    width, height = _size(options.pop("size"))
    with tempfile.TemporaryDirectory(prefix="gtasr-video-bench-") as name:
        found = _measure(source, Path(name), width, height, **options)
    _show(found)
    if out is not None:
        _append(out, found)
    worse = [] if check is None else slower(found, baseline(before, found))
    if worse:
        raise EvaluationError(f"slower than in {check}: {'; '.join(worse)}")


def _measure(
    source: Path | None,
    folder: Path,
    width: int,
    height: int,
    *,
    model: str,
    scale: int,
    frames: int,
    rounds: int,
    device: str,
    backend: Any,
    codec: str | None,
    peers: tuple[Path, ...],
    compact: bool,
) -> dict[str, Any]:
    from gtasr_video.device import choose
    from gtasr_video.evaluation.speed.bench import Bench, measure
    from gtasr_video.evaluation.speed.material import make_clip
    from gtasr_video.media import Encoding
    from gtasr_video.models import load_model
    from gtasr_video.runtime.upscaler import Upscaler

    if frames < 4 or rounds < 1:
        raise UsageError("at least 4 frames and 1 round are needed to measure")
    upscaler = Upscaler(load_model(model, scale=scale), device=choose(device), backend=backend)
    if source is None:
        source = folder / "made.mp4"
        make_clip(source, width, height, frames)
    bench = Bench(
        source, folder, upscaler, Encoding(codec=codec), frames, rounds, peers, compact=compact or bool(peers)
    )
    return measure(bench, lambda text: click.echo(f"gtasr-video: {text}", err=True))


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) >= 16 and int(height) >= 16):
        raise UsageError(f"--size {text}: give width and height in pixels, of at least 16, as 320x180")
    return int(width), int(height)


def _append(out: Path, found: dict[str, Any]) -> None:
    try:
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror or error})") from error


def _show(found: dict[str, Any]) -> None:
    from rich.table import Table

    from gtasr_video.cli.messages import console

    out = console()
    described = found["machine"]
    features = ", ".join(described["features"])
    out.print(
        f"{found['model']} by {found['backend']} on {described['device']}: {found['input']} to {found['output']}, "
        f"{found['frames']} frames"
    )
    out.print(f"{described['cpu']}, {described['cores']} cores ({features}), load {described['load']} at the end")
    table = Table("stage", "fps", "ms p50", "ms p95", "processor ms", box=None, header_style="bold")
    for name, facts in [*found["stages"].items(), *found["peers"].items()]:
        table.add_row(name, *(str(facts[key]) for key in ("fps", "ms_p50", "ms_p95", "cpu_ms")))
    out.print(table)
    out.print(
        f"end to end {found['fps']} fps, {found['output_mpx_per_s']} Mpx/s; slowest stage: {found['slowest']}; "
        f"memory {found['peak_rss_mib']} MiB, on the device {found['peak_device_mib']} MiB"
    )
    for name, value in found["ratios"].items():
        out.print(f"  {name} {value:.3f}")
