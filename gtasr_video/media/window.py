"""Which part of a file is wanted, and how much that is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from gtasr_video.media.decoder import StreamFacts
from gtasr_video.media.deinterlace import Timed

# A time given in decimals may miss the tick it means by less than this.
_TOLERANCE: Final = Fraction(1, 1_000_000)
_LASTING: Final = Fraction(1)


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` seconds after the beginning on (None: from there), `duration` seconds (None: to the end).

    The first frame is the first whose pts is not before the start, the last is the last that begins before the end.
    Before the first comes the one that is on at the start, from there on, where it lasts over a second, as slides do.
    frames   at most so many of them
    """

    start: Fraction | None = None
    duration: Fraction | None = None
    frames: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether everything is wanted."""
        return self == WHOLE

    def begin(self, facts: StreamFacts) -> Fraction:
        """Return the file time in seconds at which it begins in a stream like `facts`."""
        return facts.begin + (self.start or 0)

    def seek_to(self, facts: StreamFacts) -> Fraction | None:
        """Return the file time to look for, None where reading begins at the beginning."""
        return self.begin(facts) if self.start else None

    def end(self, facts: StreamFacts) -> Fraction | None:
        """Return the file time in seconds at which it ends in a stream like `facts`, None if that does."""
        return None if self.duration is None else self.begin(facts) + self.duration

    def trim(self, frames: Iterable[Timed], facts: StreamFacts) -> Iterator[Timed]:
        """Yield those of `frames` that lie between the start and the end; how many, the caller counts."""
        unit, begin, end = facts.time_base, self.begin(facts), self.end(facts)
        before: Timed | None = None
        for timed in frames:
            time = timed.pts * unit
            if self.start and time < begin - _TOLERANCE:
                before = timed
                continue
            yield from self._still_on(before, time, facts)
            before = None
            if end is not None and time >= end - _TOLERANCE:
                return
            yield timed
        if facts.ending is not None and facts.ending.own:
            yield from self._still_on(before, facts.ending.time, facts)

    def _still_on(self, before: Timed | None, until: Fraction, facts: StreamFacts) -> Iterator[Timed]:
        """Yield the last frame before the start, from there on, if it is on `until` later, and for long in all."""
        unit, end = facts.time_base, self.end(facts)
        if before is None or until - before.pts * unit <= _LASTING:
            return
        first = math.ceil(self.begin(facts) / unit)
        last = math.floor((until if end is None else min(until, end)) / unit)
        if first < last:
            yield before._replace(pts=first, duration=last - first)

    def length(self, facts: StreamFacts, rate: Fraction | None) -> Fraction | None:
        """Return its seconds as far as the container knows."""
        total = facts.length
        if total is not None:
            total = max(Fraction(0), total - (self.start or 0))
        known = [seconds for seconds in (total, self.duration) if seconds is not None]
        if self.frames is not None and rate:
            known.append(self.frames / rate)
        return min(known, default=None)

    def count(self, facts: StreamFacts, rate: Fraction | None) -> int | None:
        """Return how many frames lie in it as far as the container knows."""
        if facts.frames and not self.start and self.duration is None:
            return facts.frames if self.frames is None else min(facts.frames, self.frames)
        seconds = self.length(facts, rate)
        if seconds is None or not rate:
            return self.frames
        return max(1, round(seconds * rate))


WHOLE: Final = Window()
