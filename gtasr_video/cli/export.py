"""``gtasr-video export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

FORMATS = ("onnx", "openvino", "pt2")


@click.command("export", short_help="Write a network as a file that runs without this program.")
@click.argument("output", metavar="OUTPUT", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--format", "kind", type=click.Choice(FORMATS), help="Of OUTPUT.  [default: by its ending]")
@click.option("--model", default="s", show_default=True, metavar="s|m|l|FILE", help="The network.")
@click.option("--scale", default=4, show_default=True, help="How many times larger.")
@click.option("--int8", is_flag=True, help="Convolutions in 8 bits (openvino only).")
@click.option("-y", "--overwrite", is_flag=True, help="Replace OUTPUT if it exists.")
def command(output: Path, kind: Any, model: str, scale: int, int8: bool, overwrite: bool) -> None:
    """Write one step of a network, with its state as inputs and outputs, for frames of any size.

    OUTPUT ends in .onnx, .xml (OpenVINO; a .bin beside it) or .pt2 (torch.export). docs/export.md shows how to run it.

    \b
      gtasr-video export s.onnx
      gtasr-video export s.xml --int8
    """
    from gtasr_video.cli.messages import log_to_stderr
    from gtasr_video.errors import OutputError, UsageError
    from gtasr_video.models import load_model
    from gtasr_video.runtime.export import SUFFIXES, beside, export

    log_to_stderr(verbose=False)
    kind = kind or next((name for name, suffix in SUFFIXES.items() if output.suffix == suffix), None)
    if kind is None:
        raise UsageError(f"{output}: its ending names no format; use .onnx, .xml or .pt2")
    there = [file for file in (output, *beside(output, kind)) if file.exists()]
    if there and not overwrite:
        raise OutputError(f"{there[0]} exists; give --overwrite to replace it")
    if not output.absolute().parent.is_dir():
        raise OutputError(f"there is no folder {output.parent} for {output.name}; make it first")
    for file in export(load_model(model, scale=scale), output, kind, int8=int8):
        click.echo(f"{file}  {file.stat().st_size / 1e6:.2f} MB")
