"""Writing so that it survives: whole files or none, on the disk before they are relied on, patient with a full disk."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from gtasr_video.errors import OutputError

log = logging.getLogger("gtasr_video")
T = TypeVar("T")

NO_SPACE: Final = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
LOOK_AGAIN_S = 2.0


class Space:
    """What to do where `folder` has no room left: raise, or with `wait` say so once and try again until there is.

    `stop` ends the waiting, from any thread.
    """

    def __init__(self, folder: Path, *, wait: bool = False) -> None:
        self.folder, self._wait = folder, wait
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let whoever waits for space give up."""
        self._stopped.set()

    def attempt(self, action: Callable[[], T]) -> T:
        """Return what `action` returns, called again as long as it raises for want of space and waiting is wanted.

        `action` must be one that can be repeated. Raises OutputError once the disk is full and nobody waits.
        """
        told = False
        while True:
            try:
                return action()
            except OSError as error:
                if error.errno not in NO_SPACE:
                    raise
                if not self._wait or self._stopped.is_set():
                    raise OutputError(f"{self.folder}: {NO_SPACE[error.errno]}; make room") from error
                if not told:
                    log.warning("%s: %s; waiting for room", self.folder, NO_SPACE[error.errno])
                told = True
                self._stopped.wait(LOOK_AGAIN_S)

    def wait_for(self, count: int) -> bool:
        """Wait until there is room for `count` bytes; return False where waiting is not wanted (any more)."""
        if self._wait:
            log.warning("%s: the disk is full; waiting until %d MB are free", self.folder, count // 10**6 + 1)
        while self._wait and not self._stopped.wait(LOOK_AGAIN_S):
            if shutil.disk_usage(self.folder).free > count:
                return True
        return False

    def append(self, file: int, data: bytes | memoryview) -> None:
        """Write all of `data` to the descriptor `file`."""
        rest = memoryview(data)
        while rest:
            written = self.attempt(lambda rest=rest: os.write(file, rest))  # type: ignore[misc]
            rest = rest[written:]

    def write_whole(self, path: Path, data: bytes) -> None:
        """Write `data` so that `path` holds the old content or the whole new one, also after a power cut."""
        self.attempt(lambda: _write_whole(path, data))


def _write_whole(path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    sync_folder(path.parent)


def free_name(path: Path, word: str) -> Path:
    """Return the first of ``NAME.word.EXT``, ``NAME.word-1.EXT``, ``NAME.word-2.EXT`` and so on that nothing has."""
    counted = (f"{word}-{n}" for n in itertools.count(1))
    names = (path.with_name(f"{path.stem}.{ending}{path.suffix}") for ending in itertools.chain([word], counted))
    return next(name for name in names if not os.path.lexists(name))


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or deleted in `folder` survive a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
