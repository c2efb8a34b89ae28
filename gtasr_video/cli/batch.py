"""``gtasr-video upscale`` with a folder, several files or a pattern."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gtasr_video.errors import one_line

if TYPE_CHECKING:
    from gtasr_video.api import UpscaleConfig
    from gtasr_video.batch import Outcome


def run_batch(
    sources: Sequence[str],
    folder: str,
    config: UpscaleConfig,
    *,
    report: Path | None,
    progress: str,
    watch: bool,
    **options: Any,
) -> int:
    """Do all of `sources`, print a table, and return the exit code: 1 if any failed."""
    from gtasr_video.batch import upscale_folder

    outcomes: list[Outcome] = []

    def note(outcome: Outcome) -> None:
        outcomes.append(outcome)
        _tell(outcome, quiet=progress == "none")

    try:
        upscale_folder(sources, folder, config=config, on_outcome=note, watch=watch, progress=progress, **options)
    finally:
        if outcomes:
            _print(outcomes)
        if outcomes and report is not None:
            _write(outcomes, report)
    return 1 if any(outcome.state == "failed" for outcome in outcomes) else 0


def _tell(outcome: Outcome, *, quiet: bool) -> None:
    """Say on stderr what became of a file, as soon as it is known."""
    if outcome.state == "failed":
        click.echo(f"gtasr-video: error: {outcome.message}", err=True)
    elif outcome.report is not None and not quiet:
        click.echo(outcome.report.summary(), err=True)


def _print(outcomes: Sequence[Outcome]) -> None:
    """Print the table: what became of each file, and how many of each there are."""
    from rich.table import Table
    from rich.text import Text

    from gtasr_video.cli.messages import console

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("file", "result", "frames", "fps", ""):
        table.add_column(name, overflow="fold", justify="right" if name in ("frames", "fps") else "left")
    for outcome in outcomes:
        report = outcome.report
        figures = ("", "") if report is None else (str(report.frames_out), f"{report.fps:.1f}")
        about = outcome.message or str(outcome.output)
        table.add_row(*(Text(one_line(text)) for text in (str(outcome.source), outcome.state, *figures, about)))
    out = console()
    out.print(table)
    counts = {state: sum(o.state == state for o in outcomes) for state in ("done", "there", "failed")}
    out.print(f"{counts['done']} done, {counts['there']} there already, {counts['failed']} failed")


def _write(outcomes: Sequence[Outcome], report: Path) -> None:
    from gtasr_video.runtime.report import write_json

    files = [
        {
            "source": str(outcome.source),
            "output": str(outcome.output),
            "state": outcome.state,
            "message": outcome.message,
            "report": None if outcome.report is None else asdict(outcome.report),
        }
        for outcome in outcomes
    ]
    write_json(report, json.dumps({"files": files}, indent=2))
