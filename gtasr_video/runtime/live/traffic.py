"""What became of each frame of a live stream, and how long it took: counted where it happens, read from anywhere."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from gtasr_video.frames import Frame

# Latencies shown are those of the last seconds.
WINDOW_S = 5.0
# Those of the whole run are kept in classes that are this much wider than the one before: a day takes no more memory.
CLASS = 1.02


@dataclass(slots=True)
class Passage:
    """One frame on its way; times by the clock, `scene` counts the cuts before it.

    network  number of the one that makes it; stopgap: True if it stands in for the one that was meant to
    cut      whether that network begins anew at it, None until its turn has come
    """

    arrived: float
    scene: int
    begun: float = 0.0
    network: int = 0
    stopgap: bool = False
    cut: bool | None = None


class Traffic:
    """Counts the frames of one run and times them from their arrival (decoded) to their end (encoded).

    Every figure is written by one thread: `arrived`, `lost` by the decoder's, `skipped`, `late`, `made` by the calling
    one, the rest by the encoder's. Any thread may read.

    arrived   frames decoded
    lost      frames pushed out of the queue by newer ones
    skipped   frames left out to lower the frame rate
    late      frames left out because they could not be made in time (where that is the policy)
    stopgaps  frames the cheapest network made in place of the one that was meant to
    made      frames by the number of the network that made them
    written   frames encoded; overdue: those that were no stopgap and were ready only after the budget
    """

    def __init__(self, clock: Callable[[], float], budget_s: float = math.inf) -> None:
        self.arrived = self.lost = self.skipped = self.late = self.stopgaps = self.written = self.overdue = 0
        self.made: Counter[int] = Counter()
        self.latencies = Latencies()
        self.budget_s = budget_s
        self._clock = clock
        self._scene = 0
        self._passages: dict[int, Passage] = {}

    @property
    def dropped(self) -> int:
        """Frames that came and are not shown, for whatever reason."""
        return self.lost + self.skipped + self.late

    def arrive(self, frame: Frame) -> None:
        """Count a frame in."""
        self._scene += frame.cut
        self._passages[frame.pts] = Passage(self._clock(), self._scene)
        self.arrived += 1

    def lose(self, pts: int) -> None:
        """Count a frame that newer ones pushed out."""
        self._passages.pop(pts, None)
        self.lost += 1

    def begin(self, pts: int) -> Passage:
        """Return the passage of the frame whose turn it is."""
        passage = self._passages[pts]
        passage.begun = self._clock()
        return passage

    def passage(self, pts: int) -> Passage:
        """Return the passage of a frame under way."""
        return self._passages[pts]

    def leave_out(self, pts: int, *, late: bool) -> None:
        """Count a frame that is left out."""
        self._passages.pop(pts, None)
        if late:
            self.late += 1
        else:
            self.skipped += 1

    def make(self, passage: Passage, network: int, *, stopgap: bool) -> None:
        """Note which network makes a frame."""
        passage.network, passage.stopgap = network, stopgap
        self.made[network] += 1
        self.stopgaps += stopgap

    def end(self, pts: int) -> tuple[Passage, float]:
        """Count a frame out; return its passage and the seconds since its turn came."""
        passage, now = self._passages.pop(pts), self._clock()
        self.latencies.add(now, now - passage.arrived)
        self.written += 1
        self.overdue += not passage.stopgap and now - passage.arrived > self.budget_s
        return passage, now - passage.begun


class Latencies:
    """Seconds that frames took: of the last seconds exactly, of the whole run within 1 %."""

    def __init__(self) -> None:
        self.total_s = 0.0
        self._recent: deque[tuple[float, float]] = deque()
        self._classes: Counter[int] = Counter()

    def add(self, now: float, seconds: float) -> None:
        """Take in one frame that ended `now`."""
        self.total_s += seconds
        self._classes[math.floor(math.log(max(seconds, 1e-6), CLASS))] += 1
        self._recent.append((now, seconds))
        while self._recent[0][0] < now - WINDOW_S:
            self._recent.popleft()

    def recent(self, shares: Sequence[float]) -> tuple[float, ...] | None:
        """Return the quantiles `shares` (0 to 1) of the last seconds in which frames ended, None before the first."""
        # One call into C, during which no other thread can append.
        found = sorted(seconds for _, seconds in list(self._recent))
        return tuple(found[min(int(share * len(found)), len(found) - 1)] for share in shares) if found else None

    def overall(self, shares: Sequence[float]) -> tuple[float, ...] | None:
        """Return the quantiles `shares` of the whole run, None before its first frame."""
        classes = sorted(dict(self._classes).items())
        total = sum(count for _, count in classes)
        return tuple(_quantile(classes, share * total) for share in shares) if total else None

    def at_most(self, bounds: Sequence[float]) -> tuple[int, ...]:
        """Return how many frames took at most each of `bounds` seconds, and last how many there were."""
        classes = dict(self._classes)
        counts = (sum(n for number, n in classes.items() if CLASS ** (number + 0.5) <= bound) for bound in bounds)
        return (*counts, sum(classes.values()))


def _quantile(classes: Sequence[tuple[int, int]], rank: float) -> float:
    upto = accumulate(count for _, count in classes)
    number = next((number for (number, _), seen in zip(classes, upto, strict=True) if seen > rank), classes[-1][0])
    return float(CLASS ** (number + 0.5))
