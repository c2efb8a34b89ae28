"""Playback speed for sources that would give frames faster: files, and playlists whose segments come in bursts."""

from __future__ import annotations

import time
from collections.abc import Callable

# A frame this much later than its turn begins the clock anew: the source paused, and will not catch up.
BEHIND_S = 0.5
# One this much before its turn is taken at once: times jumped.
AHEAD_S = 10.0
# How long a wait lasts before it is looked whether the run has ended.
LOOK_S = 0.1


class Pace:
    """Says when a frame's turn is: at the time since the first frame that its own time says."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._anchor: float | None = None

    def wait(self, media_s: float, ended: Callable[[], bool]) -> None:
        """Return when it is the turn of the frame of time `media_s`, or when `ended` says so."""
        now = self._clock()
        if self._anchor is None or not -BEHIND_S <= self._anchor + media_s - now <= AHEAD_S:
            self._anchor = now - media_s
        while (left := self._anchor + media_s - self._clock()) > 0 and not ended():
            self._sleep(min(left, LOOK_S))
