"""Several upscalers behind the door of one: which of them makes a frame is decided frame by frame."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from gtasr_video.frames import Frame, VideoSpec
from gtasr_video.models.facts import State
from gtasr_video.runtime.backends.graphed import FIRST_FRAMES
from gtasr_video.runtime.live.config import Late
from gtasr_video.runtime.live.controller import FEWEST_FRAMES, PERIOD_S, Change, Controller, Load, rungs
from gtasr_video.runtime.live.traffic import Passage, Traffic
from gtasr_video.runtime.report import Stages
from gtasr_video.runtime.upscaler import Upscaled, Upscaler

log = logging.getLogger("gtasr_video")

# Weight of the newest frame in what a frame is expected to take; at each frame that is not tried for it, it fades.
NEWEST, FADE = 0.2, 0.98
# A stream begins with what piled up while it was opened. It is not judged before a period in which no more frames came
# than this many times its rate, or so many seconds have gone by.
BURST = 2
LONGEST_BURST_S = 10.0
USUAL_RATE = 30
# Changes that are kept for the report; their number is always whole.
CHANGES_KEPT = 1000


@dataclass(frozen=True, slots=True)
class _Reading:
    """The counters of a run at one moment."""

    at: float
    arrived: int
    made: int
    stopgaps: int
    lost: int
    overdue: int
    written: int
    compute_s: float
    encode_s: float


class Ladder:
    """Makes each frame by the network that the budget leaves time for.

    upscalers  the best first, the cheapest (bicubic) last; all of one scale
    budget_s   seconds from a frame's arrival to its end
    late       what becomes of a frame that the rung's network cannot make in time: ``bicubic`` shows it enlarged by the
               cheapest network, ``drop`` leaves it out

    The session asks `admit` for every frame in turn, then has it made by `step`. A network goes on from the last frame
    it made, or that the network before it made; frames that bicubic makes in between leave its memory alone.
    """

    def __init__(
        self,
        upscalers: Sequence[Upscaler],
        traffic: Traffic,
        stages: Stages,
        budget_s: float,
        late: Late = "bicubic",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.changes: list[Change] = []
        self.changed = 0
        self._upscalers, self._traffic, self._stages = upscalers, traffic, stages
        self._budget_s, self._late, self._clock = budget_s, late, clock
        self._controller: Controller | None = None
        # Seconds from a frame's turn to its end, by network.
        self._expected: list[float] = []
        self._scenes = [-1] * len(upscalers)
        self._in_charge = 0
        self._turn = 0
        self._read = self._reading()
        self._rate = float(USUAL_RATE)
        self._settled_by: float | None = None
        self._hopeless = False

    @property
    def rung(self) -> str:
        """Name of the rung that frames are made on now."""
        return self.controller.rung.name

    @property
    def controller(self) -> Controller:
        """Who decides; there from `start` on."""
        assert self._controller is not None, "the ladder has not been started"
        return self._controller

    def start(self, source: VideoSpec, output: VideoSpec) -> None:
        """Begin a new stream, and measure what a frame costs each network on this machine now."""
        costs = [self._try(upscaler, source, output) for upscaler in self._upscalers]
        ladder = rungs([upscaler.model.facts.name for upscaler in self._upscalers])
        self._controller, self._expected = Controller(ladder, costs, self._budget_s), costs.copy()
        self._rate = float(source.frame_rate or USUAL_RATE)
        said = ", ".join(f"{u.model.facts.name} {c * 1000:.1f} ms" for u, c in zip(self._upscalers, costs, strict=True))
        log.info("latency: at most %.0f ms a frame; the networks take %s", self._budget_s * 1000, said)

    def _try(self, upscaler: Upscaler, source: VideoSpec, output: VideoSpec) -> float:
        """Return the seconds of a frame after the first, for which memory is found and kernels are chosen."""
        sizes = (source.layout.plane_size(i, source.width, source.height) for i in range(source.layout.planes))
        blank = Frame(tuple(torch.zeros(size, dtype=source.layout.dtype) for size in sizes), 0, cut=True)
        upscaler.start(source, output)
        seconds = 0.0
        # On a GPU one more than are made before the work is recorded, so that no frame of the stream waits for that.
        on_gpu = upscaler.device.torch_device.type == "cuda"
        for _ in range(FIRST_FRAMES + 1 if on_gpu else 2):
            begin = self._clock()
            upscaler.push(blank)
            seconds = self._clock() - begin
            if seconds > self._budget_s and not on_gpu:
                break
        upscaler.flush()
        return seconds

    def admit(self, pts: int) -> bool:
        """Decide how the next frame is made, or return False to leave it out."""
        self._control()
        passage, rung = self._traffic.begin(pts), self.controller.rung
        self._turn += 1
        if self._turn % rung.every:
            self._traffic.leave_out(pts, late=False)
            return False
        in_time = passage.begun - passage.arrived + self._expected[rung.network] <= self._budget_s
        if in_time:
            self._traffic.make(passage, rung.network, stopgap=False)
            return True
        # Or one slow frame would keep its network from ever being tried again.
        self._expected[rung.network] *= FADE
        if self._late == "drop":
            self._traffic.leave_out(pts, late=True)
            return False
        last = len(self._upscalers) - 1
        self._traffic.make(passage, last, stopgap=rung.network != last)
        return True

    def step(self, frame: Frame) -> Upscaled:
        """Make a frame that was admitted; where there was a cut since its network made one, that begins anew."""
        passage = self._traffic.passage(frame.pts)
        if passage.cut is None:
            passage.cut = self._begins_anew(passage)
        return self._upscalers[passage.network].step(replace(frame, cut=passage.cut))

    def redo(self, frame: Frame, before: State) -> Upscaled:
        """Make a frame again that came out broken; see `Upscaler.redo`."""
        return self._upscalers[self._traffic.passage(frame.pts).network].redo(frame, before)

    def _begins_anew(self, passage: Passage) -> bool:
        """Put the frame's network in charge; return whether there was a cut since the last frame it remembers."""
        number, before = passage.network, self._in_charge
        if number not in (before, len(self._upscalers) - 1):
            self._upscalers[number].continue_from(self._upscalers[before])
            self._scenes[number], self._in_charge = self._scenes[before], number
        remembered, self._scenes[number] = self._scenes[number], passage.scene
        return remembered != passage.scene

    def ended(self, passage: Passage, seconds: float) -> None:
        """Learn from a frame that has been encoded, `seconds` after its turn came; for the encoder's thread."""
        before = self._expected[passage.network]
        self._expected[passage.network] = before + NEWEST * (seconds - before)

    def _control(self) -> None:
        """Every period, let the controller look at what has happened since."""
        now = self._reading()
        if self._turn == 0:
            self._read, self._settled_by = now, now.at + LONGEST_BURST_S
        load = _difference(self._read, now)
        if load.seconds < PERIOD_S or load.arrived < FEWEST_FRAMES:
            return
        self._read = now
        if self._settled_by is not None:
            calm = load.arrived <= BURST * self._rate * load.seconds
            self._settled_by = None if calm or now.at > self._settled_by else self._settled_by
            return
        change = self.controller.update(load, now.at)
        if change is not None:
            self._note(change)
        elif self.controller.stuck and not self._hopeless:
            self._hopeless = True
            log.warning("latency: %.0f ms cannot be kept here, even by %s", self._budget_s * 1000, self.rung)

    def _note(self, change: Change) -> None:
        log.warning("keeping up: %s", change)
        self.changed += 1
        self.changes = [*self.changes, change][-CHANGES_KEPT:]
        network = self.controller.rung.network
        self._expected[network] = self.controller.costs[network]

    def _reading(self) -> _Reading:
        traffic, busy = self._traffic, self._stages.busy()
        return _Reading(
            at=self._clock(),
            arrived=traffic.arrived,
            made=traffic.made.total(),
            stopgaps=traffic.stopgaps,
            lost=traffic.lost + traffic.late,
            overdue=traffic.overdue,
            written=traffic.written,
            compute_s=max(busy["upload"], busy["compute"], busy["download"]),
            encode_s=busy["encode"],
        )


def _difference(then: _Reading, now: _Reading) -> Load:
    return Load(
        seconds=now.at - then.at,
        arrived=now.arrived - then.arrived,
        enhanced=now.made - then.made - (now.stopgaps - then.stopgaps),
        stopgaps=now.stopgaps - then.stopgaps,
        lost=now.lost - then.lost,
        overdue=now.overdue - then.overdue,
        compute_s=now.compute_s - then.compute_s,
        encode_s=now.encode_s - then.encode_s,
        written=now.written - then.written,
    )
