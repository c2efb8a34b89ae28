"""``gtasr-video verify``."""

from __future__ import annotations

import json
from typing import Any

import click


@click.command("verify", short_help="Compare an upscaled video with its source: INPUT OUTPUT.")
@click.argument("source", metavar="INPUT", type=click.Path())
@click.argument("output", metavar="OUTPUT", type=click.Path())
@click.option("--start", metavar="T", help="OUTPUT was made of INPUT from here on.")
@click.option("--duration", metavar="T", help="... of this much.")
@click.option("--frames", type=int, metavar="N", help="... of this many frames.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    source: str, output: str, start: str | None, duration: str | None, frames: int | None, as_json: bool
) -> int:
    """Say whether OUTPUT is INPUT, only larger: every frame at its time, no picture lost, every track there.

    Both are decoded whole. Exit code 0 if all is well, 1 if not. For any pair, whoever made it.
    """
    from gtasr_video.api import verify
    from gtasr_video.cli.messages import log_to_stderr

    log_to_stderr(verbose=False)
    audit = verify(source, output, start=start, duration=duration, frames=frames)
    if as_json:
        click.echo(json.dumps(audit.to_json(), indent=2))
    else:
        _print(output, audit)
    return 0 if audit.passed else 1


def _print(output: str, audit: Any) -> None:
    rows = [(name.replace("_", " "), str(value)) for name, value in audit.facts.items()]
    rows += [("note", note) for note in audit.notes] + [("FAULT", fault) for fault in audit.faults]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")
    click.echo(f"{' '.join(output.split())}: {'as it should be' if audit.passed else 'NOT as it should be'}")
