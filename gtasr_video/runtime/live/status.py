"""How a live run is doing: one line a second for programs, a panel for people, and a part of the report."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from gtasr_video.frames import Live, Vitals
from gtasr_video.media.streams.stopwatch import Stopwatch
from gtasr_video.runtime.live.ladder import Ladder
from gtasr_video.runtime.live.traffic import WINDOW_S, Traffic
from gtasr_video.runtime.progress import Monitor, Status
from gtasr_video.runtime.upscaler import Upscaler

QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class LiveStatus(Status):
    """One look at a live run: what a `Status` says, of the last seconds, and

    fps_in          frames a second that came in; `fps` is those that went out
    tier            what frames are made by now: a network, or ``bicubic 1/2`` for every second frame by bicubic
    latency_p50_ms, latency_p95_ms, latency_p99_ms   from a frame's arrival to its encoding; None before the first
    stopgaps        frames so far for whose network there was no time, shown enlarged by bicubic
    dropped         frames so far that were left out, output_dropped: that an output gave up for a slow receiver
    reconnects      times so far that an input or output had to connect anew
    lost_packets    packets so far that the network lost on their way to us
    av_offset_ms    by which sound is ahead of the picture, bitrate_kbps: of the output; None where not known
    """

    fps_in: float
    tier: str
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    stopgaps: int
    dropped: int
    output_dropped: int
    reconnects: int
    lost_packets: int
    av_offset_ms: float | None
    bitrate_kbps: float | None


class LiveMonitor(Monitor):
    """A `Monitor` that also watches the latency, the ladder, and what input and output tell of themselves."""

    def __init__(
        self,
        frames: int | None = None,
        duration: Fraction | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(frames, duration, clock=clock)
        self.traffic = Traffic(clock)
        self.ladder: Ladder | None = None
        # Runs while a frame of a source that would go faster waits for its turn.
        self.paced = Stopwatch(clock)
        self._names: list[str] = [""]
        self._ends: tuple[Any, ...] = ()
        self._arrivals: deque[tuple[float, int]] = deque()

    def follow(
        self, traffic: Traffic, ladder: Ladder | None, upscalers: Sequence[Upscaler], ends: tuple[Any, ...]
    ) -> None:
        """Look at these from now on; `ends` are the reader and the writer."""
        self.traffic, self.ladder, self._ends = traffic, ladder, ends
        self._names = [upscaler.model.facts.name for upscaler in upscalers]

    @property
    def tier(self) -> str:
        """What frames are made by now."""
        return self._names[0] if self.ladder is None else self.ladder.rung

    @property
    def changed(self) -> int:
        """How often the ladder was climbed or descended."""
        return self.ladder.changed if self.ladder else 0

    def made(self) -> dict[str, int]:
        """Return how many frames each network made so far."""
        return {self._names[number]: count for number, count in sorted(self.traffic.made.items())}

    def vitals(self) -> Vitals:
        """Return what input and output tell of themselves; where both know one thing, the output's word counts."""
        return together(end.vitals() for end in self._ends if isinstance(end, Live))

    @property
    def waited_s(self) -> float:
        """Seconds in which the source had nothing, since its first frame."""
        source = self._ends[0] if self._ends else None
        return source.vitals().get("waited_s", 0.0) if isinstance(source, Live) else 0.0

    def busy(self) -> dict[str, float]:
        """Return the seconds each stage was at work, and those in which the source or playback speed held it up."""
        return super().busy() | {"source": self.waited_s + self.paced.seconds}

    def status(self) -> LiveStatus | None:
        """Return how it is going, or None before the first frame. For one thread."""
        plain = super().status()
        if plain is None:
            return None
        vitals, traffic = self.vitals(), self.traffic
        p50, p95, p99 = traffic.latencies.recent(QUANTILES) or (None,) * 3
        fields = asdict(plain) | {"queues": plain.queues | vitals.get("queues", {})}
        return LiveStatus(
            **fields,
            fps_in=self._fps_in(),
            tier=self.tier,
            latency_p50_ms=_times(p50, 1000),
            latency_p95_ms=_times(p95, 1000),
            latency_p99_ms=_times(p99, 1000),
            stopgaps=traffic.stopgaps,
            dropped=traffic.dropped,
            output_dropped=vitals.get("dropped", 0),
            reconnects=vitals.get("reconnects", 0),
            lost_packets=vitals.get("lost", 0),
            av_offset_ms=_times(vitals.get("av_offset_s"), 1000),
            bitrate_kbps=_times(vitals.get("bitrate_bps"), 0.001),
        )

    def _fps_in(self) -> float:
        self._arrivals.append((self._clock(), self.frames_in))
        (then, before), (now, count) = self._arrivals[0], self._arrivals[-1]
        while len(self._arrivals) > 1 and self._arrivals[1][0] <= now - WINDOW_S:
            self._arrivals.popleft()
        return (count - before) / (now - then) if now > then else 0.0

    def report(self) -> dict[str, Any]:
        """Return what the whole run was like, as plain JSON-able values."""
        traffic, vitals = self.traffic, self.vitals()
        quantiles = traffic.latencies.overall(QUANTILES)
        return {
            "latency_ms": None if quantiles is None else [round(1000 * seconds, 1) for seconds in quantiles],
            "budget_ms": _times(traffic.budget_s, 1000) if self.ladder else None,
            "frames": self.made(),
            "stopgaps": traffic.stopgaps,
            "overdue": traffic.overdue,
            "dropped": {"queue": traffic.lost, "late": traffic.late, "rate": traffic.skipped},
            "output_dropped": vitals.get("dropped", 0),
            "reconnects": vitals.get("reconnects", 0),
            "lost_packets": vitals.get("lost", 0),
            "av_offset_ms": _times(vitals.get("av_offset_s"), 1000),
            "changes": self._changes(),
            "changed": self.changed,
        }

    def _changes(self) -> list[dict[str, Any]]:
        """Return the last changes of the ladder, with seconds since the first frame."""
        changes = self.ladder.changes if self.ladder else []
        return [asdict(change) | {"at_s": round(change.at_s - self._began, 3)} for change in changes]


def together(told: Iterable[Vitals]) -> Vitals:
    """Return what several ends tell as one: counts are added, and the last word counts for the rest."""
    joined = Vitals(reconnects=0, dropped=0, queues={})
    for one in told:
        reconnects = joined["reconnects"] + one.get("reconnects", 0)
        dropped = joined["dropped"] + one.get("dropped", 0)
        queues = joined["queues"] | one.get("queues", {})
        joined.update(one)
        joined.update(Vitals(reconnects=reconnects, dropped=dropped, queues=queues))
    return joined


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
