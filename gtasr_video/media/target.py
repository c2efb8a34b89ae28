"""The file being written: under another name until it is whole, and locked against a second writer."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
from pathlib import Path
from typing import Final

from gtasr_video.errors import OutputError, UsageError
from gtasr_video.media.codecs import CONTAINERS
from gtasr_video.media.durable import NO_SPACE, free_name, sync_folder
from gtasr_video.media.source import refuse_address, refuse_pipe, same_file

log = logging.getLogger("gtasr_video")

# The muxers whose files need no index, and those whose files are nothing without the one they get at the end.
_PLAYABLE: Final = ("matroska", "webm", "mpegts")
_INDEXED: Final = ("mp4", "mov")


class Target:
    """``NAME.part.EXT`` beside the final file, renamed onto it by `commit`, deleted by `discard`, kept by `leave`.

    workplace   a folder in which it lies instead, made where there is none and `discard` leaves it empty. Nothing else
                is kept there under that name: what a dead process left is written over. Beside the final file it may
                be a recording, or the user's, and is moved to ``NAME.part-1.EXT`` with a warning

    Raises UsageError if `path` is one of `inputs`, also by another name or link; OutputError if it exists and
    `overwrite` is False, if what exists is no file, if its folder is missing or cannot be written, or if someone else
    is writing it.
    """

    def __init__(
        self, path: Path, *, overwrite: bool, inputs: tuple[Path, ...] = (), workplace: Path | None = None
    ) -> None:
        refuse_address(path, "write")
        self.path, self._overwrite, self._workplace = path, overwrite, workplace
        self.part = (workplace or path.parent) / f"{path.stem}.part{path.suffix}"
        for source in inputs:
            if same_file(path, source) or same_file(self.part, source):
                raise UsageError(f"output {path} is the input itself; choose another name")
        try:
            self._check_free()
        except OSError as error:
            raise self.error(error, "cannot be written") from error
        self._make_workplace()
        self._file: int | None = self._claim()

    def _make_workplace(self) -> None:
        if self._workplace is not None:
            try:
                self._workplace.mkdir(exist_ok=True)
            except OSError as error:
                raise OutputError(f"{self._workplace}: cannot be written ({error.strerror or error})") from error

    def _check_free(self) -> None:
        if self.path.is_dir():
            raise OutputError(f"{self.path} is a folder; give a file name for the output")
        refuse_pipe(self.path)
        if not self.path.parent.is_dir():
            raise OutputError(f"there is no folder {self.path.parent} for the output; make it first")
        if self.path.exists() and not self._overwrite:
            raise OutputError(f"{self.path} exists; use -y to replace it")

    def _claim(self) -> int:
        """Return the part file, empty and locked; what somebody left under its name is moved away."""
        while True:
            try:
                file = self._locked()
            except OSError as error:
                raise self.error(error, "cannot be written") from error
            try:
                if self._is_free(file):
                    return file
            except OSError as error:
                os.close(file)
                raise self.error(error, "cannot be written") from error
            os.close(file)

    def _locked(self) -> int:
        """Open the part file and lock it, where the file system can."""
        file = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise OutputError(f"{self.path} is being written by another process") from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
                os.close(file)
                raise
        return file

    def _is_free(self, file: int) -> bool:
        """Return whether `file` is empty, or could be emptied; else its name has been cleared for another."""
        if not _leads_to(self.part, file):
            return False  # who held the lock has just given it its final name
        if os.fstat(file).st_size == 0:
            return True
        if self._workplace is None:
            self._move_aside()
            return False
        os.ftruncate(file, 0)
        return True

    def _move_aside(self) -> None:
        aside = free_name(self.path, "part")
        self.part.rename(aside)
        log.warning("%s was left by a run that was killed, or is yours: it is now %s%s", self.part, aside, _hint(aside))

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
        """Keep the file as ``NAME.suspect.EXT``, or the next free name, and return that. Raises OutputError."""
        aside = free_name(self.path, "suspect")
        try:
            self.part.replace(aside)
        except OSError as error:
            raise self.error(error, "cannot be kept") from error
        self._close()
        return aside

    def leave(self) -> None:
        """Let go of the part file as it is, and say where; does nothing after `commit` or `discard`, never raises."""
        if self._file is not None:
            log.warning("what was made until then is kept: %s%s", self.part, _hint(self.part))
            self._close()

    def discard(self) -> None:
        """Delete the part file; does nothing after `commit` or another `discard`, and never raises."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self.part.unlink()
                if self._workplace is not None:
                    self._workplace.rmdir()
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = None


def _leads_to(path: Path, file: int) -> bool:
    """Return whether `path` is the name of the open `file`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _hint(path: Path) -> str:
    """Return how what was written of a file before the end can be had, as the end of a line."""
    form = CONTAINERS.get(path.suffix.lower())
    if form is not None and form.muxer in _PLAYABLE:
        return f"; it plays, and 'ffmpeg -i {path.name} -map 0 -c copy NAME{path.suffix}' makes a whole file of it"
    if form is not None and form.muxer in _INDEXED:
        return (
            "; cut short it lacks its index, which untrunc rebuilds by a whole file made alike (.mkv and .ts need none)"
        )
    return ""
