"""Which rung of the ladder to stand on. Pure: driven by measurements and the time they were taken at, nothing else.

It goes down when frames miss their budget for two periods on end, at once to the first rung that is foretold to fit,
and up by one rung at a time when the next one is foretold to fit for a while. A climb that fails doubles that while.
So a hiccup changes nothing, an overload is answered within a second or so, and a rung that the machine cannot hold
is tried ever more seldom. The same hysteresis holds senders of video calls steady.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Seconds between two looks, and how many frames there must be to judge by.
PERIOD_S = 0.5
FEWEST_FRAMES = 4
# Share of a period's frames that may miss their budget before the period counts as bad, and bad periods in a row.
TOLERATED = 0.1
PATIENCE = 2
# A rung fits if it is foretold to keep its busiest stage at work for at most this share of the time, and if a frame
# alone takes it less than the budget.
FULL = 0.9
# Seconds for which the next rung must have fitted before a climb: at first, and at most after climbs that failed.
HOLD_S = 3.0
LONGEST_HOLD_S = 60.0
# A climb has failed if it is undone within this many seconds; if not, the one before that failed is forgiven.
TRIAL_S = 30.0
# Lower frame rates, as one frame in so many.
SPARSER = (2, 3, 4, 8)


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to keep up: the network with the number `network`, for one frame in `every`."""

    name: str
    network: int
    every: int = 1


def rungs(networks: Sequence[str]) -> tuple[Rung, ...]:
    """Return the ladder for networks by name, the best first: each of them, then the last for ever fewer frames.

    Example::

        >>> [rung.name for rung in rungs(["s", "bicubic"])]
        ['s', 'bicubic', 'bicubic 1/2', 'bicubic 1/3', 'bicubic 1/4', 'bicubic 1/8']
    """
    last = len(networks) - 1
    full = [Rung(name, number) for number, name in enumerate(networks)]
    return (*full, *(Rung(f"{networks[last]} 1/{every}", last, every) for every in SPARSER))


@dataclass(frozen=True, slots=True)
class Load:
    """One period, measured.

    seconds    its length
    arrived    frames that came in
    enhanced   frames the rung's network made
    stopgaps   frames the cheapest network made because there was no time for the rung's
    lost       frames given up for want of time
    overdue    frames the rung's network made that were ready only after their budget
    compute_s  seconds at work on `enhanced` and `stopgaps`
    encode_s   seconds at work encoding `written` frames
    """

    seconds: float
    arrived: int
    enhanced: int
    stopgaps: int
    lost: int
    overdue: int
    compute_s: float
    encode_s: float
    written: int

    @property
    def missed(self) -> int:
        """Frames that are not what they should have been."""
        return self.stopgaps + self.lost + self.overdue


@dataclass(frozen=True, slots=True)
class Change:
    """A step down or up the ladder, and why; `at_s` by the caller's clock."""

    at_s: float
    before: str
    after: str
    reason: str

    def __str__(self) -> str:
        return f"{self.before} -> {self.after}: {self.reason}"


class Controller:
    """Stands on one rung of `ladder`, the first of which is the best, and changes it by what is measured.

    costs     seconds a frame takes each network, the best first, as far as is known before
    budget_s  seconds a frame may take; frames in flight after a change are not held against the new rung
    stuck     True while frames miss their budget and no lower rung would help

    Example::

        >>> controller = Controller(rungs(["s", "bicubic"]), costs=[0.1, 0.002], budget_s=0.5)
        >>> busy = Load(0.5, 12, enhanced=5, stopgaps=7, lost=0, overdue=0, compute_s=0.5, encode_s=0.1, written=12)
        >>> controller.update(busy, now=0.5), str(controller.update(busy, now=1.0))
        (None, 's -> bicubic: 7 of 12 frames missed 500 ms')
    """

    def __init__(self, ladder: Sequence[Rung], costs: Sequence[float], budget_s: float) -> None:
        self._ladder, self._budget_s = tuple(ladder), budget_s
        self._costs = [max(cost, 1e-6) for cost in costs]
        self.stuck = False
        self._at = 0
        self._learned = False
        self._bad = 0
        self._room_since: float | None = None
        self._judging_from = -float("inf")
        self._holds = [HOLD_S] * len(self._ladder)
        self._climbed_at: float | None = None

    @property
    def rung(self) -> Rung:
        """The rung to stand on."""
        return self._ladder[self._at]

    @property
    def costs(self) -> Sequence[float]:
        """Seconds a frame takes each network, as far as is known."""
        return tuple(self._costs)

    def update(self, load: Load, now: float) -> Change | None:
        """Take in the measurements of the period that ends `now`; return the change that follows from them, if any."""
        if now - load.seconds < self._judging_from:
            return None
        self._learn(load)
        bad = load.missed > TOLERATED * load.arrived
        self._bad = self._bad + 1 if bad else 0
        if bad:
            self._room_since = None
            return self._fall(load, now) if self._bad >= PATIENCE else None
        self._forgive(now)
        return self._climb(load, now)

    def _learn(self, load: Load) -> None:
        """Take the cost of a frame from what was measured: the network's own at first, afterwards that of all alike.

        What slows one network down after it has been running for a while is the machine, which slows the others too.
        """
        if load.enhanced == 0 or load.compute_s <= 0:
            return
        own, cheapest = self._costs[self.rung.network], self._costs[-1]
        cost = load.compute_s / (load.enhanced + load.stopgaps * cheapest / own)
        if self._learned:
            self._costs = [known * cost / own for known in self._costs]
        else:
            self._costs[self.rung.network] = cost
            self._learned = True

    def _need(self, rung: Rung, load: Load) -> float:
        """Return the share of the time that the busiest stage would be at work on `rung`; above 1 it cannot keep up."""
        encode = load.encode_s / load.written if load.written else 0.0
        return max(self._costs[rung.network], encode) * load.arrived / rung.every / load.seconds

    def _fits(self, rung: Rung, load: Load) -> bool:
        return self._need(rung, load) <= FULL and self._costs[rung.network] <= self._budget_s

    def _fall(self, load: Load, now: float) -> Change | None:
        below = self._cheaper(load)
        fits = [number for number in below if self._fits(self._ladder[number], load)]
        target = next(iter(fits or below[-1:]), None)
        self.stuck = target is None
        if target is None:
            return None
        if self._climbed_at is not None and now - self._climbed_at < TRIAL_S:
            self._holds[self._at] = min(2 * self._holds[self._at], LONGEST_HOLD_S)
        self._climbed_at = None
        return self._go(target, f"{load.missed} of {load.arrived} frames missed {self._budget_s * 1000:.0f} ms", now)

    def _cheaper(self, load: Load) -> list[int]:
        """Return the rungs below that would help: fewer frames relieve a full stage, but make none of them faster."""
        below = range(self._at + 1, len(self._ladder))
        if self._need(self.rung, load) > FULL:
            return list(below)
        return [number for number in below if self._ladder[number].every == 1]

    def _climb(self, load: Load, now: float) -> Change | None:
        above = self._at - 1
        if above < 0 or load.enhanced == 0 or not self._fits(self._ladder[above], load):
            self._room_since = None
            return None
        if self._room_since is None:
            self._room_since = now - load.seconds
        if now - self._room_since < self._holds[above]:
            return None
        self._climbed_at = now
        return self._go(above, f"room for it: busy {self._need(self._ladder[above], load):.0%} of the time", now)

    def _forgive(self, now: float) -> None:
        if self._climbed_at is not None and now - self._climbed_at >= TRIAL_S:
            self._holds[self._at] = HOLD_S
            self._climbed_at = None

    def _go(self, number: int, reason: str, now: float) -> Change:
        change = Change(now, self.rung.name, self._ladder[number].name, reason)
        same = self.rung.network == self._ladder[number].network
        self._at, self._bad, self._room_since = number, 0, None
        self._learned = self._learned and same
        self._judging_from = now + max(PERIOD_S, self._budget_s)
        return change
