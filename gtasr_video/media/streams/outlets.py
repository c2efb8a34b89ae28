"""Where the bytes of an output go: standard output, or a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Protocol

from gtasr_video.errors import OutputError, UsageError
from gtasr_video.frames import Vitals
from gtasr_video.media.codecs import Container
from gtasr_video.media.encoding import container_for
from gtasr_video.media.source import file_url
from gtasr_video.media.streams.byteflow import Outflow
from gtasr_video.media.target import Target

# The raw formats hold pictures as they are unless a codec is asked for.
PIPE_FORMATS: Final = {
    "y4m": Container("yuv4mpegpipe", ("rawvideo",), sound="", options={"strict": "-1"}),
    "rawvideo": Container("rawvideo", ("rawvideo",), sound=""),
    "nut": Container(
        "nut",
        ("rawvideo", "h264", "h265", "ffv1", "vp9", "av1", "prores"),
        # It knows no times before 0, where the run-up of AAC lies: picture and sound move together.
        options={"avoid_negative_ts": "make_non_negative"},
    ),
    "mpegts": Container("mpegts", ("h264", "h265"), options={"pes_payload_size": "0", "muxdelay": "0"}),
    "matroska": Container(
        "matroska",
        ("h264", "h265", "av1", "vp9", "prores", "ffv1", "rawvideo"),
        options={"live": "1", "cluster_time_limit": "0"},
    ),
}
_ALSO_KNOWN_AS: Final = {"yuv4mpegpipe": "y4m", "matroska,webm": "matroska"}


class Outlet(Protocol):
    """What a `StreamWriter` writes to."""

    name: str
    form: Container

    @property
    def sound_taken(self) -> frozenset[str] | None:
        """Codecs of sound that may be copied, None: all that the format can hold."""

    @property
    def needs_sound(self) -> bool:
        """Whether those who receive it refuse a stream without sound."""

    def open(self) -> Any:
        """Return what PyAV opens for writing: an object with `write`, or the address of a file."""

    @property
    def closed(self) -> bool:
        """True once nobody takes the bytes any more, which ends the output without an error."""

    def sent(self, seconds: float, *, key: bool, pictures: int) -> None:
        """Hear that a packet has been written, due at `seconds`; `key`: a picture at which one can begin."""

    def hurry(self) -> None:
        """Wait no longer than a few seconds, from now on, for someone to take what is written; from any thread."""

    def stop(self) -> None:
        """Let a write that waits, and all later ones, fail at once; from any thread, any number of times."""

    def commit(self) -> None:
        """Make the output final. Raises OutputError."""

    def discard(self) -> None:
        """Let go of an output that is not whole; never raises."""

    def error(self, error: Exception, what: str) -> OutputError:
        """Return `error` as one line about this output."""

    def vitals(self) -> Vitals:
        """Return how it is doing now."""

    def facts(self) -> dict[str, Any]:
        """Return what is known of the way there."""

    def warnings(self) -> Iterable[str]:
        """Return one line for each of those who should have received it and did not get all."""


class _Plain:
    """An outlet that need not know of packets, and takes any sound."""

    sound_taken: frozenset[str] | None = None
    needs_sound = False

    def sent(self, seconds: float, *, key: bool, pictures: int) -> None:
        """Do nothing."""

    def hurry(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""

    def vitals(self) -> Vitals:
        """Return nothing: whoever reads makes us wait, and gets all."""
        return Vitals()

    def warnings(self) -> Iterable[str]:
        """Return none."""
        return ()


class PipeOutlet(_Plain):
    """Standard output, or another file descriptor, in one of `PIPE_FORMATS`; `like` is the input's format.

    Raises UsageError for a format that is not among them, or if it is a terminal.
    """

    def __init__(self, form: str | None, like: str, fd: int | None = None) -> None:
        self.name = "standard output"
        if fd is None and sys.stdout.name == os.devnull:  # what the command line has for one that is closed
            raise UsageError("standard output is closed; name an output file")
        fd = sys.stdout.fileno() if fd is None else fd
        if os.isatty(fd):
            raise UsageError("standard output is a terminal; pipe it into a program or a file, or name an output file")
        wanted = form or _ALSO_KNOWN_AS.get(like, like)
        if wanted not in PIPE_FORMATS:
            known = ", ".join(PIPE_FORMATS)
            reason = f"unknown --output-format '{form}'" if form else f"the input's format ({like}) cannot be written"
            raise UsageError(f"{reason}; use --output-format with one of {known}")
        self.form = PIPE_FORMATS[wanted]
        self._flow = Outflow(fd)

    def open(self) -> Outflow:
        """Return the flow of bytes."""
        return self._flow

    @property
    def closed(self) -> bool:
        """True once the reader at the other end has gone."""
        return self._flow.closed

    def hurry(self) -> None:
        """Give up on a reader who takes nothing for 3 s."""
        self._flow.hurry()

    def stop(self) -> None:
        """Give up on the reader."""
        self._flow.stop()

    def commit(self) -> None:
        """Let go of the descriptor."""
        self._flow.close()

    def discard(self) -> None:
        """Let go of the descriptor."""
        self._flow.close()

    def error(self, error: Exception, what: str) -> OutputError:
        """Return `error` as one line."""
        return OutputError(f"{self.name}: {what} ({getattr(error, 'strerror', None) or error})")

    def facts(self) -> dict[str, Any]:
        """Return the bytes written, and whether the reader went away before the end."""
        return {"bytes": self._flow.total, "closed_early": self._flow.closed}


class FileOutlet(_Plain):
    """A local file, in the format of its extension, under its own name only when it is whole.

    A stream cannot be had again: what was written of it before an error stays under the name of the part.
    """

    closed = False
    _holds_pictures = False

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.name = str(path)
        self.form = container_for(path)
        self._target = Target(path, overwrite=overwrite)

    def open(self) -> str:
        """Return the address of the part file."""
        return file_url(self._target.part)

    def sent(self, seconds: float, *, key: bool, pictures: int) -> None:
        """Take note that there is something to keep."""
        self._holds_pictures |= pictures > 0

    def commit(self) -> None:
        """Give the file its name."""
        self._target.commit()

    def discard(self) -> None:
        """Leave the part file where it is if a picture is in it, and delete it otherwise."""
        if self._holds_pictures:
            self._target.leave()
        else:
            self._target.discard()

    def error(self, error: Exception, what: str) -> OutputError:
        """Return `error` as one line, naming a full disk as such."""
        return self._target.error(error, what)

    def facts(self) -> dict[str, Any]:
        """Return nothing more."""
        return {}
