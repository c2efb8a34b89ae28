"""Which part of a file is wanted, and how much that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from gtasr_video.media.decoder import StreamFacts
from gtasr_video.media.deinterlace import Timed

# A time given in decimals may miss the tick it means by less than this.
_TOLERANCE: Final = Fraction(1, 1_000_000)


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` seconds after the beginning on (None: from there), `duration` seconds (None: to the end).

    The first frame is the first whose pts is not before the start, the last is the last that begins before the end.
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

    def trim(self, frames: Iterable[Timed], facts: StreamFacts) -> Iterator[Timed]:
        """Yield those of `frames` that lie between the start and the end; how many, the caller counts."""
        unit, begin = facts.time_base, self.begin(facts)
        end = None if self.duration is None else begin + self.duration
        for timed in frames:
            if self.start and timed.pts * unit < begin - _TOLERANCE:
                continue
            if end is not None and timed.pts * unit >= end - _TOLERANCE:
                return
            yield timed

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
