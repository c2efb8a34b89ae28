"""Standard input as a stream, and a file read as one."""

from __future__ import annotations

import os
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from gtasr_video.errors import UsageError
from gtasr_video.media.source import check_file
from gtasr_video.media.streams.byteflow import FileFlow, Inflow, is_whole_file
from gtasr_video.media.streams.clock import StreamClock
from gtasr_video.media.streams.config import StreamConfig
from gtasr_video.media.streams.connection import Connection
from gtasr_video.media.streams.stopwatch import Stopwatch

DEMUXERS: Final = {
    "y4m": "yuv4mpegpipe",
    "nut": "nut",
    "mpegts": "mpegts",
    "matroska": "matroska",
    "rawvideo": "rawvideo",
}


class PipeSource:
    """Standard input, or another file descriptor; a file may be behind it. Raises UsageError if it is a terminal.

    video_stream   index of the picture's stream; None takes the first that is no still
    """

    reconnects = lost = lost_segments = 0
    can_wait = True

    def __init__(self, config: StreamConfig, fd: int | None = None, *, video_stream: int | None = None) -> None:
        if fd is None and sys.stdin.name == os.devnull:  # what the command line has for one that is closed
            raise UsageError("standard input is closed; name an input file")
        self._fd = sys.stdin.fileno() if fd is None else fd
        if os.isatty(self._fd):
            raise UsageError("standard input is a terminal; pipe a video into it, or give a file")
        self._form = _demuxer(config.input_format)
        self._options = _raw_options(config) if self._form == "rawvideo" else {}
        self._video_stream = video_stream
        self.waits = Stopwatch()
        self._inflow = FileFlow(self._fd) if is_whole_file(self._fd) else Inflow(self._fd, waits=self.waits)
        self.name = "standard input"
        self.clock = StreamClock(anew=False, ahead=None)

    def open(self) -> Connection:
        """Open the stream; waits for it to begin. Raises InputError."""
        return Connection(
            self._inflow,
            self.name,
            self._form,
            self._options,
            video_stream=self._video_stream,
            way_out="; give --input-format",
        )

    def again(self) -> Connection | None:
        """Return None: what ends in a pipe has ended."""
        return None

    def stop(self) -> None:
        """End the stream now, from any thread."""
        self._inflow.stop()

    def close(self) -> None:
        """Leave the descriptor to its owner."""

    def facts(self) -> dict[str, Any]:
        """Return what is known of the way here."""
        return {"bytes": self._inflow.total, "ended": self._inflow.ended or "end"}


class FileSource:
    """A local file, read from beginning to end. Raises InputError if it is not there.

    video_stream   index of the picture's stream; None takes the first that is no still
    """

    reconnects = lost = lost_segments = 0
    can_wait = True

    def __init__(self, path: Path, *, video_stream: int | None = None) -> None:
        check_file(path)
        self.name = str(path)
        self._video_stream = video_stream
        self.clock = StreamClock(anew=False, ahead=None)
        self.waits = Stopwatch()
        self._flow = FileFlow(path)

    def open(self) -> Connection:
        """Open the file as media. Raises InputError."""
        return Connection(self._flow, self.name, video_stream=self._video_stream)

    def again(self) -> Connection | None:
        """Return None: a file ends once."""
        return None

    def stop(self) -> None:
        """End the file here."""
        self._flow.stop()

    def close(self) -> None:
        """Do nothing: the connection has closed the file."""

    def facts(self) -> dict[str, Any]:
        """Return nothing more."""
        return {}


def _demuxer(name: str | None) -> str | None:
    if name is None:
        return None
    if name not in DEMUXERS:
        raise UsageError(f"unknown --input-format '{name}'; use one of {', '.join(DEMUXERS)}")
    return DEMUXERS[name]


def _raw_options(config: StreamConfig) -> dict[str, str]:
    width, height = config.picture_size
    rate: Fraction = config.frame_rate
    return {"video_size": f"{width}x{height}", "framerate": str(rate), "pixel_format": config.pixel_format}
