"""``gtasr-video pack``."""

from __future__ import annotations

import re
from pathlib import Path

import click

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


class Bytes(click.ParamType[int]):
    """A number of bytes such as ``24M``; K, M and G are powers of 1024."""

    name = "bytes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes, or fail saying what is expected."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?", str(value).strip().lower())
        if not found or not float(found[1]):
            self.fail(f"'{value}' is not a size; write 24M, 500K or 1G", param, ctx)
        return int(float(found[1]) * _UNITS[found[2]])


@click.command("pack", short_help="Make a training set small enough to carry.")
@click.option(
    "--data", "paths", multiple=True, required=True, type=click.Path(path_type=Path), help="Folder or file; repeatable."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New folder for the pack.")
@click.option("--max-bytes", type=Bytes(), default="24M", show_default=True, help="Largest size of the whole pack.")
@click.option("-y", "overwrite", is_flag=True, help="Replace a pack that is already there.")
def command(paths: tuple[Path, ...], out: Path, max_bytes: int, overwrite: bool) -> None:
    """Write pictures and videos as a compact pack that `train` reads like any other data, without PyAV.

    Pictures become WebP and excerpts of videos H.264. What is too much is shrunk, then thinned out evenly. Sources and
    licences are taken from a manifest.csv beside the data.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from gtasr_video.training.pack import pack

    console = Console(stderr=True)
    columns = (TextColumn("packing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("packing", total=None)
        done = pack(
            paths,
            out,
            max_bytes,
            overwrite=overwrite,
            on_progress=lambda n, of: bar.update(task, completed=n, total=of),
        )
    for item in done.skipped:
        click.echo(f"skipped {item.name}: {item.reason}", err=True)
    stills = sum(e.kind == "still" for e in done.entries)
    frames = sum(e.frames for e in done.entries if e.kind == "clip")
    click.echo(
        f"{out}: {stills} pictures and {len(done.entries) - stills} clips of {frames} frames, {done.bytes} bytes"
    )
    if done.shrink < 1:
        click.echo(f"pictures were shrunk to {done.shrink:.0%} of their sides, to no less than 512 pixels")
    if done.left_out:
        click.echo(f"{done.left_out} pictures and excerpts did not fit")
    unknown = sum(not e.licence for e in done.entries)
    if unknown:
        click.echo(f"{unknown} have no licence in a manifest.csv", err=True)
