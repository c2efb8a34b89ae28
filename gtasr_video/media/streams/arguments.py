"""Secrets out of what ``ps`` shows: the arguments of a running program, overwritten where the kernel keeps them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

# Of /proc/PID/stat, counted from the state: where the arguments begin and end.
_BEGIN: Final = 45
_END: Final = 46


def hide_arguments(hide: Callable[[str], str], process: int | None = None) -> bool:
    """Put what `hide` makes of each argument of `process` (this one) in its place; returns whether that could be done.

    Every user of a machine can read the arguments of every program. What the program has copied by then, as Python
    does at its start and ffmpeg when it opens an address, is not touched. Linux only; elsewhere nothing happens.
    """
    folder = Path(f"/proc/{process or os.getpid()}")
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        begin, end = int(fields[_BEGIN]), int(fields[_END])
        with (folder / "mem").open("r+b", buffering=0) as memory:
            memory.seek(begin)
            old = memory.read(end - begin)
            memory.seek(begin)
            memory.write(b"\0".join(_hidden(argument, hide) for argument in old.split(b"\0")))
    except (OSError, ValueError, IndexError, OverflowError):
        return False
    return True


def _hidden(argument: bytes, hide: Callable[[str], str]) -> bytes:
    """Return `argument`, hidden, in as many bytes."""
    text = os.fsdecode(argument)
    hidden = os.fsencode(hide(text))
    return argument if hidden == argument else hidden[: len(argument)].ljust(len(argument))
