"""What the program says on stderr besides errors."""

from __future__ import annotations

import logging

import click
from rich.console import Console

from gtasr_video.errors import one_line
from gtasr_video.masking import mask


class _ToStderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Print one line without secrets; looks stderr up anew each time, as tests and shells replace it."""
        kind = "warning: " if record.levelno >= logging.WARNING else ""
        text = mask(one_line(record.getMessage()))
        click.echo(f"gtasr-video: {kind}{text}", err=True)


# What everyone is told but is no warning, such as that a job goes on.
_NOTICE = 25
_HANDLER = _ToStderr()


def log_to_stderr(*, verbose: bool, quiet: bool = False) -> None:
    """Show the package's warnings, with `verbose` also what it uses and why, with `quiet` neither."""
    log = logging.getLogger("gtasr_video")
    log.setLevel(logging.ERROR if quiet else logging.INFO if verbose else _NOTICE)
    log.propagate = False
    if _HANDLER not in log.handlers:
        log.addHandler(_HANDLER)


def console() -> Console:
    """Return a console for stdout that does not fold lines where no terminal limits them."""
    out = Console()
    return out if out.is_terminal else Console(width=200)
