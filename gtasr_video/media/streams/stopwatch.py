"""Seconds spent waiting, told while the wait still lasts: a source that has fallen silent shows at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up the time of `running` blocks, one at a time, of one thread; any thread may read `seconds`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Both change together, or one who reads in between would see time go back.
        self._state: tuple[float, float | None] = (0.0, None)

    @property
    def seconds(self) -> float:
        """Seconds so far, with those of the block that runs."""
        total, began = self._state
        return total if began is None else total + self._clock() - began

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of the block."""
        self._state = (self._state[0], self._clock())
        try:
            yield
        finally:
            self._state = (self.seconds, None)
