"""The file being written: under another name until it is whole, and locked against a second writer."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from gtasr_video.errors import OutputError, UsageError
from gtasr_video.media.durable import NO_SPACE, sync_folder
from gtasr_video.media.source import refuse_address


class Target:
    """``NAME.part.EXT`` beside the final file, renamed onto it by `commit`, deleted by `discard`.

    Raises UsageError if `path` is one of `inputs`, also by another name or link; OutputError if it exists and
    `overwrite` is False, if its folder is missing or cannot be written, or if someone else is writing it.
    """

    def __init__(self, path: Path, *, overwrite: bool, inputs: tuple[Path, ...] = ()) -> None:
        refuse_address(path, "write")
        self.path, self._overwrite = path, overwrite
        self.part = path.with_name(f"{path.stem}.part{path.suffix}")
        for source in inputs:
            if _same(path, source) or _same(self.part, source):
                raise UsageError(f"output {path} is the input itself; choose another name")
        try:
            self._check_free()
        except OSError as error:
            raise self.error(error, "cannot be written") from error
        self._file: int | None = self._claim()

    def _check_free(self) -> None:
        if self.path.is_dir():
            raise OutputError(f"{self.path} is a folder; give a file name for the output")
        if not self.path.parent.is_dir():
            raise OutputError(f"there is no folder {self.path.parent} for the output; make it first")
        if self.path.exists() and not self._overwrite:
            raise OutputError(f"{self.path} exists; use -y to replace it")

    def _claim(self) -> int:
        """Create the part file, or take over one that a dead process left, and lock it."""
        try:
            file = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise self.error(error, "cannot be written") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(file, 0)
        except BlockingIOError as error:
            os.close(file)
            raise OutputError(f"{self.path} is being written by another process") from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # some network file systems cannot lock
                os.close(file)
                raise self.error(error, "cannot be written") from error
        return file

    def error(self, error: OSError | Exception, what: str) -> OutputError:
        """Return `error` as one line about this output, naming a full disk as such."""
        number = getattr(error, "errno", None)
        reason = NO_SPACE.get(number or 0) or getattr(error, "strerror", None) or str(error)
        return OutputError(f"{self.path}: {what} ({reason})")

    def commit(self) -> None:
        """Make the data durable and give the file its final name. Raises OutputError."""
        if self._file is None:
            return
        if self.path.exists() and not self._overwrite:
            raise OutputError(f"{self.path} has appeared meanwhile; use -y to replace it")
        try:
            os.fsync(self._file)
            self.part.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise self.error(error, "cannot be finished") from error
        self._close()

    def set_aside(self) -> Path:
        """Keep the file as ``NAME.suspect.EXT`` instead, and return that path. Raises OutputError."""
        aside = self.path.with_name(f"{self.path.stem}.suspect{self.path.suffix}")
        try:
            self.part.replace(aside)
        except OSError as error:
            raise self.error(error, "cannot be kept") from error
        self._close()
        return aside

    def discard(self) -> None:
        """Delete the part file; does nothing after `commit` or another `discard`, and never raises."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self.part.unlink()
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None


def _same(path: Path, other: Path) -> bool:
    """Return whether both names lead to one existing file."""
    try:
        return path.samefile(other)
    except OSError:
        return False
