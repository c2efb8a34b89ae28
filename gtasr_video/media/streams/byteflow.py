"""Bytes to and from file descriptors, as PyAV wants them: whoever waits can be woken, and nothing is held back."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from gtasr_video.media.streams.stopwatch import Stopwatch

# Linux gives pipes 64 KiB; a raw frame of 1080p is fifty times that.
_PIPE_BYTES: Final = 1 << 20
_SET_PIPE_SIZE: Final = 1031  # F_SETPIPE_SZ
_RATE_WINDOW_S: Final = 5.0
_TICK_S: Final = 0.25
# poll counts milliseconds in an int; what is longer is as good as for ever.
_LONGEST_S: Final = 2e6
# What someone who reads our output may leave untaken once the end has been asked for.
HURRY_S: Final = 3.0

Ending = Literal["", "end", "silent", "stopped", "too fast"]


class _Waiter:
    """Waits for a file descriptor, or for `wake` from any thread, whichever comes first."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._lock = threading.Lock()
        self._hear, call = os.pipe()
        self._call: int | None = call
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, _SET_PIPE_SIZE, _PIPE_BYTES)

    def wait(self, event: int, timeout_s: float | None) -> bool:
        """Return whether `event` has come to the descriptor: not woken, not timed out."""
        poll = select.poll()
        poll.register(self.fd, event)
        poll.register(self._hear, select.POLLIN)
        if timeout_s is not None and timeout_s > _LONGEST_S:
            timeout_s = None
        ready = [fd for fd, _ in poll.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000)]
        return self.fd in ready and self._hear not in ready

    def wake(self) -> None:
        with self._lock:
            if self._call is not None:
                os.write(self._call, b"!")

    def close(self) -> None:
        with self._lock:
            call, self._call = self._call, None
        if call is not None:
            os.close(call)
            os.close(self._hear)


class Inflow:
    """Bytes that come in through `fd`, given out as soon as they are there, however few.

    first_s   after so many seconds without a first byte the flow ends; None waits for ever
    idle_s    after so many seconds without a further byte it ends; None waits for ever. It may be changed on the way
    most      bytes a second, over a few seconds, above which the flow ends; None for no limit
    waits     runs while nothing has come; heed: is given all that comes
    ended     why it ended: "end" of the stream, "silent", "stopped" by `stop`, "too fast"; "" while it goes on
    total     bytes so far
    """

    def __init__(
        self,
        fd: int,
        *,
        first_s: float | None = None,
        idle_s: float | None = None,
        most: float | None = None,
        waits: Stopwatch | None = None,
        heed: Callable[[bytes], object] | None = None,
    ) -> None:
        self._first_s, self.idle_s, self._most = first_s, idle_s, most
        self._waits, self._heed = waits or Stopwatch(), heed
        self.total = 0
        self.ended: Ending = ""
        self._waiter = _Waiter(fd)
        self._stopped = False
        self._window = (time.monotonic(), 0)

    def begins(self) -> bool:
        """Wait for the first byte, or the end, and return whether the flow goes on."""
        if not self.ended:
            with self._waits.running():
                ready = self._waiter.wait(select.POLLIN, self.idle_s if self.total else self._first_s)
            self.ended = "stopped" if self._stopped else "" if ready else "silent"
        return not self.ended

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; none at the end."""
        if not self.begins():
            return b""
        data = os.read(self._waiter.fd, size)
        self.total += len(data)
        if not data:
            return self._end("end")
        if self._heed is not None:
            self._heed(data)
        return self._end("too fast") if self._is_too_fast() else data

    def _end(self, why: Ending) -> bytes:
        self.ended = why
        return b""

    def _is_too_fast(self) -> bool:
        began, before = self._window
        now = time.monotonic()
        if now - began > _RATE_WINDOW_S:
            self._window = (now, self.total)
        return self._most is not None and self.total - before > self._most * _RATE_WINDOW_S

    def stop(self) -> None:
        """End the flow at once, from any thread."""
        self._stopped = True
        self._waiter.wake()

    def close(self) -> None:
        """Let go of what waiting took; the descriptor is its owner's."""
        self._waiter.close()


class FileFlow:
    """The bytes of a file, in which the demuxer may go to and fro: an MP4 has its index at the end.

    file   its path, or a descriptor of it, which stays its owner's
    """

    def __init__(self, file: Path | int) -> None:
        self.total = 0
        self.ended: Ending = ""
        self._file = file.open("rb") if isinstance(file, Path) else os.fdopen(os.dup(file), "rb")

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; none at the end."""
        data = b"" if self.ended else self._file.read(size)
        self.total += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to another place in the file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place in the file."""
        return self._file.tell()

    def stop(self) -> None:
        """Let the file end here, from any thread."""
        self.ended = "stopped"

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def is_whole_file(fd: int) -> bool:
    """Return whether `fd` is a file, at its beginning, rather than a pipe."""
    return stat.S_ISREG(os.fstat(fd).st_mode) and os.lseek(fd, 0, os.SEEK_CUR) == 0


class Outflow:
    """Bytes that leave through `fd`, each write whole; `closed` is True once nobody reads them any more."""

    def __init__(self, fd: int) -> None:
        self.closed = False
        self.total = 0
        self._stopped = self._hurried = False
        self._writing = threading.Lock()
        self._fd = _apart(fd)
        self._waiter = _Waiter(self._fd)

    def write(self, data: bytes, meanwhile: Callable[[], None] = lambda: None) -> int:
        """Write all of `data`, or raise BrokenPipeError once the other end is closed or `stop` was called.

        Raises TimeoutError if `hurry` was called and nothing can be written for 3 s.

        `meanwhile` is called now and then while nothing can be written; what it raises ends the writing.
        """
        with self._writing:
            return self._write(memoryview(data), meanwhile)

    def _write(self, rest: memoryview, meanwhile: Callable[[], None]) -> int:
        size, taken = len(rest), time.monotonic()
        while rest:
            if self._stopped or self.closed:
                raise BrokenPipeError
            try:
                rest = rest[os.write(self._fd, rest) :]
                taken = time.monotonic()
            except BlockingIOError:
                self._waiter.wait(select.POLLOUT, _TICK_S)
                if not self._hurried:
                    taken = time.monotonic()
                elif time.monotonic() - taken > HURRY_S:
                    raise TimeoutError(f"nobody took it for {HURRY_S:g} s after the end had been asked for") from None
                meanwhile()
            except BrokenPipeError:
                self.closed = True
                raise
        self.total += size
        return size

    def hurry(self) -> None:
        """Make a write fail, from now on, that waits for more than 3 s; from any thread."""
        self._hurried = True

    def stop(self) -> None:
        """Make a write that waits, and all later ones, fail at once; from any thread."""
        self._stopped = True
        self._waiter.wake()

    def close(self) -> None:
        """Let go of what writing took, after a write that waits has failed; the descriptor is its owner's."""
        self.stop()
        with self._writing:
            self._waiter.close()
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _apart(fd: int) -> int:
    """Return a descriptor of the same thing which, if it is a pipe, never blocks.

    A pipe is opened anew: to make the given descriptor non-blocking would do so for all processes that share it.
    """
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        with contextlib.suppress(OSError):
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.dup(fd)
