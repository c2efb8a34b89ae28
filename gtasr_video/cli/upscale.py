"""``gtasr-video upscale``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gtasr_video.cli.live_options import live_options, with_live
from gtasr_video.cli.stream_options import hide_secrets, stream_options, with_streams
from gtasr_video.errors import OutputError, UsageError

_CODECS = "h264, h265, av1, vp9, prores or ffv1; h264_nvenc or hevc_nvenc on an NVIDIA GPU"


@click.command("upscale", short_help="Upscale a video: INPUT OUTPUT.")
@click.argument("paths", metavar="INPUT... OUTPUT", nargs=-1, required=True, type=click.Path())
@click.option("--model", metavar="s|m|l|FILE", help="Network: a tier, a .safetensors file, or bicubic.  [default: s]")
@click.option("--scale", type=int, metavar="1|2|3|4|8", help="Times as wide and high; 1 restores only.  [default: 4]")
@click.option("--steps", type=int, metavar="N", help="Read each frame so often: slower; for experiments.  [default: 1]")
@click.option("--device", metavar="auto|cpu|cuda[:N]", help="Where to compute.  [default: auto]")
@click.option("--seed", type=int, metavar="N", help="Of the network's noise; same seed, same bytes.  [default: 0]")
@click.option("--codec", metavar="C", help=f"{_CODECS}.  [default: the container's usual one]")
@click.option(
    "--crf", type=int, metavar="N", help="Quality; lower is better and larger.  [default: the codec's, 18 for h264]"
)
@click.option("--preset", metavar="P", help="The encoder's speed against size.  [default: the codec's]")
@click.option("--pix-fmt", metavar="F", help="Pixel format, such as yuv420p10le.  [default: as the input]")
@click.option(
    "--deinterlace",
    type=click.Choice(["auto", "always", "never"]),
    help="Make whole pictures of fields.  [default: auto, where there are any]",
)
@click.option("--bake-rotation", is_flag=True, default=None, help="Turn the picture itself, not only for players.")
@click.option("--start", metavar="T", help="Begin here: seconds, mm:ss or hh:mm:ss, fractions allowed.")
@click.option("--duration", metavar="T", help="Do this much.")
@click.option("--frames", type=int, metavar="N", help="Do this many frames.")
@click.option("--video-stream", type=int, metavar="N", help="Enlarge this stream, by the index that info shows.")
@click.option("--drop-unsupported", is_flag=True, help="Leave out streams OUTPUT's format cannot hold; else refuse.")
@stream_options
@live_options
@click.option("--config", "config_name", metavar="NAME|FILE", help="Settings by name (quality, fast, live) or file.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="One setting; may be repeated.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.json", help="Write a report.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "rich", "json", "none"]),
    default="auto",
    show_default=True,
    help="On stderr: a bar on terminals, a line of JSON a second, nothing.",
)
@click.option("--workers", type=int, default=1, metavar="N", help="Processes that share a file, one a GPU.")
@click.option("--restart", is_flag=True, help="Begin anew instead of going on where an earlier run ended.")
@click.option("--wait-for-space", is_flag=True, help="Where the disk is full, wait for room instead of failing.")
@click.option("--watch", is_flag=True, help="INPUT is a folder: go on with what is put into it, until Ctrl-C.")
@click.option("-y", "--overwrite", is_flag=True, help="Replace OUTPUT if it exists.")
@click.option("-v", "--verbose", is_flag=True, help="Say what is used, and why.")
def command(
    paths: tuple[str, ...],
    config_name: str | None,
    overrides: tuple[str, ...],
    report: Path | None,
    watch: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Upscale the video INPUT into OUTPUT, with its sound, its exact times and its tags.

    OUTPUT's extension names its format: mp4, m4v, mov, mkv, webm, ts or m2ts. Pictures (photo.jpg photo.png),
    numbered pictures (frames/%05d.png) and animations (gif, webp) do, too. Either may be - for a pipe, or an address;
    OUTPUT also an HLS or DASH list (.m3u8, .mpd).

    Interrupted, it keeps what is finished in OUTPUT.job: the same command goes on from there.

    INPUT may be a folder, a pattern or several files; OUTPUT is a folder then, and the tree is kept. A bad file does
    not stop the others, and what is there already is left alone.

    \b
      gtasr-video upscale holiday.mp4 holiday-4x.mp4
      gtasr-video upscale in.mkv out.mkv --scale 2 --codec h265 --crf 18
      gtasr-video upscale in.mp4 sample.mp4 --start 1:30 --duration 10
      gtasr-video upscale my_videos/ enlarged/
      ffmpeg -i in.mkv -f nut -c:v rawvideo -c:a copy - | gtasr-video upscale - - | ffplay -
    """
    from gtasr_video.api import UpscaleConfig
    from gtasr_video.batch import is_many
    from gtasr_video.cli.messages import log_to_stderr

    *sources, output = paths
    if not sources:
        raise click.UsageError("missing argument 'OUTPUT'")
    log_to_stderr(verbose=verbose)
    if any("://" in str(name) for name in (*paths, *options["also"], *overrides)):
        hide_secrets()
    if report is not None:
        _check_report(report, paths)
    names = (sources[0], output)
    config = with_live(with_streams(UpscaleConfig.load(config_name, overrides), options, names), options, names)
    if watch or is_many(sources, output):
        from gtasr_video.cli.batch import run_batch

        return run_batch(sources, output, config, report=report, watch=watch, **options)
    return _one(sources[0], output, config, report, **options)


def _one(source: str, output: str, config: Any, report: Path | None, **options: Any) -> int:
    from gtasr_video.api import upscale

    done = upscale(source, output, config=config, **options)
    if report is not None:
        done.write(report)
    if options["progress"] != "none":
        click.echo(done.summary(), err=True)
    return 0


def _check_report(report: Path, others: tuple[str, ...]) -> None:
    """Refuse now what would be learned only after hours."""
    if not report.absolute().parent.is_dir():
        raise OutputError(f"there is no folder {report.parent} for the report; make it first")
    if report.is_dir():
        raise UsageError(f"the report {report} is a folder; give a file name")
    if report.absolute() in [Path(other).absolute() for other in others]:
        raise UsageError(f"the report {report} is also the input or the output; choose another name")
