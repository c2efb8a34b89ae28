"""An ffmpeg program of our own, which can be ended at any time: what goes over a network goes through one.

FFmpeg inside our process could freeze it (PyAV opens network outputs while it holds the interpreter's lock, and
knows no time-out for them), cannot be interrupted while it waits, and lacks SRT. A program can always be killed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any, Final, Literal

from gtasr_video.errors import MediaError
from gtasr_video.masking import mask
from gtasr_video.media.streams.address import Address
from gtasr_video.media.streams.arguments import hide_arguments

# Why a connection failed whose other end could not prove who it is.
UNTRUSTED: Final = "its certificate is not trusted; name who signed it with --set stream.ca_file=FILE"
_UNTRUSTED_MARK: Final = "certificate verify failed"
# What it says when sound of seconds has come and the picture, which is known by its next but one, has not.
_UNKNOWN_PICTURE: Final = re.compile(r"Could not find codec parameters for stream \d+ \(Video")
TOO_FEW: Final = "too few pictures beside so much sound to know them by; repeat the last one until the sound ends"
_WORDS_KEPT: Final = 20
_GRACE_S: Final = 2.0
_CHATTER: Final = re.compile(r"\[(?:info|verbose|debug|trace)\]")
# Why a program ends it says as an error; a warning ends nothing.
_ERROR: Final = re.compile(r"\[(?:error|fatal|panic)\] (.*)")
# Lines that say nothing but that another line has been written.
_EMPTY: Final = (
    "Error opening input file",
    "Error opening input files",
    "Error opening output file",
    "Conversion failed",
    "Nothing was written into output file",
    "Error sending frames to consumers",
    "Task finished with error code",
    "Terminating thread with return code",
)
# What it takes for the cause, whatever that is.
_GUESSED: Final = "Could not write header (incorrect codec parameters ?): "


@cache
def program() -> str:
    """Return the path of the ffmpeg program. Raises MediaError if there is none."""
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise MediaError("there is no ffmpeg program for the network; install imageio-ffmpeg anew") from error


@cache
def _tied() -> list[str]:
    """Return what to put before a command so that it ends when the thread that started it does, however that ends."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


class Child:
    """A running ffmpeg, built with ffmpeg-python, that writes to us or is written to.

    graph     what ffmpeg-python makes of its inputs and outputs; ``pipe:0`` and ``pipe:1`` are ours
    address   the address it was given, whose secrets are taken out of what the program says; None: a file
    reads     whether we write into it; else it writes to us
    progress_fd   where one that reads says how far it has come
    lacks_picture   whether it has said that it could not make out the picture
    ca_file   certificates to trust besides the system's
    on_line   is given each line that it says, without secrets; lines are taken in by `heard`, and at its end
    level     how much it says to `on_line`, as FFmpeg names it; `heard` returns no more than warnings in any case
    """

    def __init__(
        self,
        graph: Any,
        address: Address | None,
        *,
        reads: bool,
        ca_file: str | None = None,
        on_line: Callable[[str], object] | None = None,
        level: Literal["warning", "trace"] = "warning",
    ) -> None:
        import ffmpeg

        # Without "repeat" equal lines would be told as one and their number.
        options = ("-hide_banner", "-nostats", "-loglevel", f"repeat+level+{level}", "-nostdin")
        command = ffmpeg.compile(graph.global_args(*options), cmd=program(), overwrite_output=True)
        self._hide = address.hide if address is not None else mask
        self._hidden = self.lacks_picture = False
        self._words: deque[str] = deque(maxlen=_WORDS_KEPT)
        self._on_line = on_line
        self._half = b""
        self._hear, speak = _unheeded_pipe()
        self.progress_fd, progress = _unheeded_pipe()
        try:
            self._process = subprocess.Popen(
                [*_tied(), *command],
                stdin=subprocess.PIPE if reads else subprocess.DEVNULL,
                stdout=progress if reads else subprocess.PIPE,
                stderr=speak,
                # Given as an option it would not reach the segments of a playlist.
                env=None if ca_file is None else {**os.environ, "SSL_CERT_FILE": ca_file},
                bufsize=0,
                # Ctrl-C in a terminal goes to its whole group; when this program ends is ours to say.
                start_new_session=True,
            )
        finally:
            os.close(speak)
            os.close(progress)

    @property
    def fd(self) -> int:
        """The descriptor to read from, or to write to."""
        pipe = self._process.stdin or self._process.stdout
        assert pipe is not None
        return pipe.fileno()

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def hide(self) -> None:
        """Hide the address's secrets from those who list programs; to be called once the program has connected."""
        if not self._hidden and self.code is None:
            self._hidden = hide_arguments(self._hide, self._process.pid)

    def heard(self) -> list[str]:
        """Return the last lines it has said, with the address's secrets hidden."""
        with contextlib.suppress(BlockingIOError, OSError):
            while data := os.read(self._hear, 1 << 16):
                *lines, self._half = (self._half + data).split(b"\n")
                for line in lines:
                    self._take(line)
        return list(self._words)

    def _take(self, told: bytes) -> None:
        line = self._hide(told.decode("utf-8", "replace").strip())
        if not _CHATTER.search(line):
            self._words.append(line)
            self.lacks_picture = self.lacks_picture or _UNKNOWN_PICTURE.search(line) is not None
        if self._on_line is not None:
            self._on_line(line)

    def reason(self) -> str:
        """Return why it ended, in a few words of its own, or "" if it told of no error."""
        errors = (found[1] for line in self.heard() if (found := _ERROR.search(line)))
        told = [error for error in errors if not error.startswith(_EMPTY)]
        if any(_UNTRUSTED_MARK in line for line in told):
            return UNTRUSTED
        if self.lacks_picture:
            return TOO_FEW
        return told[-1].removeprefix(_GUESSED) if told else ""

    def close_input(self) -> None:
        """Let it read its end: it then writes out what it has."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def wait(self, timeout_s: float) -> int | None:
        """Return its exit code, None if it still runs after so many seconds."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def end(self, grace_s: float = 0) -> None:
        """End it, at first gently for `grace_s` seconds, and let go of all it took; calling it again does nothing."""
        self.close_input()
        if grace_s and self.wait(grace_s) is None:
            self._process.terminate()
            self.wait(_GRACE_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self.heard()
        for fd in (self._hear, self.progress_fd):
            if fd >= 0:
                os.close(fd)
        self._hear = self.progress_fd = -1


def _unheeded_pipe() -> tuple[int, int]:
    """Return a pipe for what a program says: it loses words if we listen too little, and never waits for us."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write
