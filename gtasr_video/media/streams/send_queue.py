"""What waits to be sent to one receiver: bounded. Where too much waits it is given up, or whoever writes waits."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final, NamedTuple

# A receiver may fall behind by this much before what waits for it is given up, or it is waited for.
MOST_SECONDS: Final = 4.0
MOST_BYTES: Final = 64 << 20


class Chunk(NamedTuple):
    """The bytes of one packet; `key`: a receiver can begin here; `pictures`: how many are in it (0 for sound)."""

    data: bytes
    key: bool
    pictures: int
    time: float


class SendQueue:
    """Chunks from the thread that writes to the one that sends.

    waits     whether `put` waits for room: for a receiver as fast as this machine, and a source that can be made to
              wait. Otherwise `put` never waits, and what a receiver has no time for is given up
    dropped   pictures that were given up
    """

    def __init__(self, *, waits: bool = False) -> None:
        self.dropped = 0
        self._waits = waits
        self._chunks: deque[Chunk] = deque()
        self._bytes = 0
        self._skipping = True
        self._ended = False
        self._change = threading.Condition()

    def __len__(self) -> int:
        return len(self._chunks)

    def put(self, chunk: Chunk) -> None:
        """Add `chunk` once there is room; or at once, giving up all that waits and what comes until a key picture."""
        with self._change:
            if self._waits:
                self._change.wait_for(lambda: self._ended or not self._is_full(chunk))
            elif self._is_full(chunk):
                self._give_up()
            if self._ended or (self._skipping and not chunk.key):
                self.dropped += chunk.pictures
                return
            self._skipping = False
            self._chunks.append(chunk)
            self._bytes += len(chunk.data)
            self._change.notify_all()

    def _is_full(self, chunk: Chunk) -> bool:
        if not self._chunks:
            return False
        behind = chunk.time - self._chunks[0].time
        return behind > MOST_SECONDS or self._bytes + len(chunk.data) > MOST_BYTES

    def _give_up(self) -> None:
        self.dropped += sum(chunk.pictures for chunk in self._chunks)
        self._chunks.clear()
        self._bytes = 0
        self._skipping = True
        self._change.notify_all()

    def restart(self) -> None:
        """Give up what comes before the last key picture that waits: a new receiver begins there."""
        with self._change:
            keys = [number for number, chunk in enumerate(self._chunks) if chunk.key]
            if not keys:
                self._give_up()
                return
            for _ in range(keys[-1]):
                chunk = self._chunks.popleft()
                self._bytes -= len(chunk.data)
                self.dropped += chunk.pictures
            self._change.notify_all()

    def wait(self) -> None:
        """Wait until there is a chunk, or no more will come."""
        with self._change:
            self._change.wait_for(lambda: self._chunks or self._ended)

    def get(self, timeout_s: float) -> Chunk | None:
        """Return the next chunk, or None if there is none after `timeout_s`, or if no more will come."""
        with self._change:
            self._change.wait_for(lambda: self._chunks or self._ended, timeout_s)
            if not self._chunks:
                return None
            chunk = self._chunks.popleft()
            self._bytes -= len(chunk.data)
            self._change.notify_all()
            return chunk

    def end(self, *, empty: bool = False) -> None:
        """Say that no more will come; `empty` gives up what waits."""
        with self._change:
            self._ended = True
            if empty:
                self._give_up()
            self._change.notify_all()

    @property
    def ended(self) -> bool:
        """Whether no more will come, and nothing waits."""
        return self._ended and not self._chunks
