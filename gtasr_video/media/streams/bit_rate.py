"""How many bits a second a stream takes, over its last seconds."""

from __future__ import annotations

from collections import deque
from typing import Final

_WINDOW_S: Final = 5.0


class BitRate:
    """The sizes of packets by the time they are due, forgotten after five seconds. One thread adds, any may ask."""

    def __init__(self) -> None:
        self.bits_per_second: float | None = None
        self._packets: deque[tuple[float, int]] = deque()
        self._bytes = 0

    def add(self, size: int, seconds: float) -> None:
        """Take note of a packet of `size` bytes, due at `seconds`."""
        self._packets.append((seconds, size))
        self._bytes += size
        while self._packets[0][0] < seconds - _WINDOW_S:
            self._bytes -= self._packets.popleft()[1]
        span = seconds - self._packets[0][0]
        if span > 0.5:
            self.bits_per_second = self._bytes * 8 / span
