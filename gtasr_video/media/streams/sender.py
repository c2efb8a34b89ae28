"""One receiver: an ffmpeg program that sends, its queue, and a thread that watches over both."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from gtasr_video.errors import MediaError
from gtasr_video.media.streams.back_off import BackOff
from gtasr_video.media.streams.byteflow import Outflow
from gtasr_video.media.streams.child import Child
from gtasr_video.media.streams.lists import ListFiles
from gtasr_video.media.streams.send_queue import Chunk, SendQueue

log = logging.getLogger("gtasr_video")

# Seconds a program may take to get on with what it was given, and to finish at the end.
STALL_S: Final = 10.0
FINISH_S: Final = 10.0
# Seconds for what waits for a list that everything is meant for, on however slow a disk.
LIST_FINISH_S: Final = 60.0
_TICK_S: Final = 0.25
_LOOK_S: Final = 0.5
_PROGRESS: Final = re.compile(rb"out_time_us=(\d+)")


class Sender:
    """Sends chunks through the program that `start` gives, and through another when that one ends or stands still.

    The first is started when there is something to send.

    name          the receiver, without secrets
    files         what it writes, if that is a list on this machine
    waits         whether whoever writes waits for it, see `SendQueue`
    fault         what is wrong with `files` now
    breaks        how often a program ended, or was ended, before it had written all: each time something is lost
    reconnects    how often another program had to be started after one that had sent something
    stalls        how often one was ended because it stood still
    reason        why the last one ended
    """

    def __init__(
        self, name: str, start: Callable[[], Child], *, files: ListFiles | None = None, waits: bool = False
    ) -> None:
        self.name, self._start, self._files = name, start, files
        self._looked = time.monotonic()
        self.waits = waits
        self.queue = SendQueue(waits=waits)
        self.reconnects = self.breaks = self.stalls = self.bytes = 0
        self.connected = self.was_connected = False
        self.reason = self.fault = ""
        self._ended = threading.Event()
        self._flow: Outflow | None = None
        self._back_off = BackOff()
        self._thread = threading.Thread(target=self._run, name=f"send to {name}", daemon=True)
        self._thread.start()

    @property
    def loss(self) -> str:
        """Why a list is not all that it should be, "" where it is; one that everything is meant for has no gaps."""
        if self.fault or not (self.waits and self.breaks):
            return self.fault
        return self.reason or "interrupted"

    def _run(self) -> None:
        try:
            self._send_all()
        finally:
            # Whoever waits for room must not wait for a thread that is no more.
            self.queue.end(empty=True)

    def _send_all(self) -> None:
        self.queue.wait()
        while not self._sends_the_rest():
            if self._ended.is_set():
                return
            self.breaks += 1
            if self.queue.ended:
                # A receiver may leave once it has been given all; a list is not finished then.
                self.connected = self.connected and self._files is None
                break
            log.warning("%s: %s; trying again", self.name, self.reason or "the connection ended")
            self.reconnects += self.connected
            self.connected = False
            self._ended.wait(self._back_off.next_s())
            self.queue.restart()
        if self._files is not None:
            self.fault = self._files.fault(at_end=True)
            # Of a list that was never begun the program knows better why.
            self.reason = (self.fault or self.reason) if self.was_connected else (self.reason or self.fault)

    def _sends_the_rest(self) -> bool:
        """Send through a new program; returns whether there is no more to send."""
        if self.queue.ended:
            return True
        try:
            return self._send_through(self._start())
        except (OSError, MediaError) as error:  # the program cannot be started: no memory, no file
            self.reason = str(error)
            return False

    def _send_through(self, child: Child) -> bool:
        """Send until `child` ends, fails or stands still, or until the end; returns whether it came to that."""
        self._child = child
        watch = _Progress(child, STALL_S)
        flow = self._flow = Outflow(child.fd)
        try:
            while not self._ended.is_set():
                chunk = self.queue.get(_TICK_S)
                if chunk is None and self.queue.ended:
                    flow.close()
                    self._finish(child, watch)
                    return True
                if not self._send(chunk, flow, watch) or child.code is not None or self._finds_fault():
                    break
            self.reason = self.fault or (f"stood still for {STALL_S:g} s" if watch.stalled else child.reason())
            self.stalls += watch.stalled
            return False
        finally:
            flow.close()
            child.end()

    def _send(self, chunk: Chunk | None, flow: Outflow, watch: _Progress) -> bool:
        """Write `chunk` and look after the program; returns whether all is well."""
        try:
            if chunk is not None:
                flow.write(chunk.data, watch.tick)
                self.bytes += len(chunk.data)
                watch.given()
            watch.tick()
        except BrokenPipeError:
            return False
        if watch.moves and not self.connected:
            self._child.hide()
            self.connected = self.was_connected = True
            self._back_off.reset()
            log.info("%s: connected", self.name)
        return True

    def _finds_fault(self) -> bool:
        """Look, not at each packet, whether what is written has room."""
        if self._files is not None and time.monotonic() - self._looked > _LOOK_S:
            self._looked = time.monotonic()
            self.fault = self._files.fault(at_end=False)
        return bool(self.fault)

    def _finish(self, child: Child, watch: _Progress) -> None:
        """Let the program send the rest, for as long as that makes sense."""
        child.close_input()
        deadline = time.monotonic() + FINISH_S
        while child.wait(_TICK_S) is None and not self._ended.is_set() and time.monotonic() < deadline:
            watch.read()
        told = child.reason()
        if child.code is None:
            self.breaks += 1
            self.reason = "did not finish in time"
            log.warning("%s: %s", self.name, self.reason)
        elif (child.code or child.lacks_picture) and watch.given_something:
            self.breaks += 1
            self.reason = told or f"ended with code {child.code}"
            log.warning("%s: %s", self.name, self.reason)
        watch.read()
        self.connected = self.connected or watch.moves
        self.was_connected = self.was_connected or watch.moves

    def finish(self) -> None:
        """Send what waits, and end; takes no longer than a receiver that stands still deserves."""
        self.queue.end()
        self._thread.join(LIST_FINISH_S if self.waits else FINISH_S)
        self.breaks += self._thread.is_alive()
        self.stop()

    def stop(self) -> None:
        """End now; what waits is given up."""
        self._ended.set()
        self.queue.end(empty=True)
        if self._flow is not None:
            self._flow.stop()
        self._thread.join()

    def facts(self) -> dict[str, Any]:
        """Return how it went so far, as plain JSON-able values."""
        return {
            "to": self.name,
            "connected": self.connected,
            "bytes": self.bytes,
            "dropped": self.queue.dropped,
            "reconnects": self.reconnects,
            "stalls": self.stalls,
            "reason": self.reason,
        }


class _Progress:
    """What a program says of how far it has come: `tick` raises BrokenPipeError if it stands still for too long."""

    def __init__(self, child: Child, stall_s: float) -> None:
        self.stalled = self.moves = self.given_something = False
        self._fd, self._stall_s = child.progress_fd, stall_s
        self._reached = 0
        self._since = time.monotonic()
        self._owed = False

    def given(self) -> None:
        """Take note that it has been given something to do."""
        self.given_something = True
        if not self._owed:
            self._owed, self._since = True, time.monotonic()

    def tick(self) -> None:
        """Look whether it has got on."""
        self.read()
        if self._owed and time.monotonic() - self._since > self._stall_s:
            self.stalled = True
            raise BrokenPipeError

    def read(self) -> None:
        """Read what it has said."""
        with contextlib.suppress(BlockingIOError, OSError):
            while data := os.read(self._fd, 1 << 16):
                found = _PROGRESS.findall(data)
                if found and int(found[-1]) != self._reached:
                    self._reached, self._owed, self.moves = int(found[-1]), False, True
