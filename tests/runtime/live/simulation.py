"""A live pipeline on a virtual clock: the real queue, ladder and controller; only what a frame costs is made up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from gtasr_video.device import Device
from gtasr_video.frames import Frame
from gtasr_video.models.facts import ModelFacts
from gtasr_video.runtime.channels import Channel
from gtasr_video.runtime.live.controller import Change
from gtasr_video.runtime.live.ladder import Ladder
from gtasr_video.runtime.live.traffic import Traffic
from gtasr_video.runtime.report import Stages
from gtasr_video.runtime.upscaler import Upscaled
from tests import fakes

QUEUE = 16
PENDING = 2


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Costly:
    """Stands in for an `Upscaler`: a frame moves the clock on by ``cost_s`` times the load of the machine."""

    name: str
    cost_s: float
    clock: Clock
    load: Callable[[float], float]
    made: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    taken_over: list[str] = field(default_factory=list)

    @property
    def device(self) -> Device:
        return Device(torch.device("cpu"), torch.float32, "simulated")

    @property
    def model(self) -> Any:
        return type("Model", (), {"facts": ModelFacts(self.name, 1, 1, 0)})

    def start(self, spec: Any, output: Any = None) -> None:
        pass

    def flush(self) -> list[Frame]:
        self.made, self.cuts = [], []
        return []

    def continue_from(self, other: Costly) -> None:
        self.taken_over.append(other.name)

    def push(self, frame: Frame) -> list[Frame]:
        return [self.step(frame).frame]

    def step(self, frame: Frame) -> Upscaled:
        self.clock.now += self.cost_s * self.load(self.clock.now)
        self.made.append(frame.pts)
        if frame.cut:
            self.cuts.append(frame.pts)
        return Upscaled(frame, torch.tensor(True), None)  # type: ignore[arg-type]


@dataclass
class Shown:
    """What came out: time of arrival, of the end, and who made it, by pts."""

    arrived: float
    ended: float
    by: str

    @property
    def latency(self) -> float:
        return self.ended - self.arrived


class Simulation:
    """Frames at `fps` through networks of ``costs`` seconds and an encoder; `load(t)` multiplies all costs at t."""

    def __init__(
        self,
        costs: dict[str, float],
        *,
        fps: float = 25.0,
        budget_s: float = 0.5,
        encode_s: float = 0.004,
        load: Callable[[float], float] = lambda now: 1.0,
        **options: Any,
    ) -> None:
        self.clock, self.stages, self.load, self.encode_s = Clock(), Stages(), load, encode_s
        self.traffic = Traffic(self.clock, budget_s)
        self.networks = [Costly(name, cost, self.clock, load) for name, cost in costs.items()]
        self.ladder = Ladder(self.networks, self.traffic, self.stages, budget_s, clock=self.clock, **options)  # type: ignore[arg-type]
        self.staged = Channel[Frame](QUEUE, when_full="drop_oldest", on_drop=lambda f: self.traffic.lose(f.pts))
        self.pending: deque[tuple[float, int]] = deque()
        self.encoder_free = 0.0
        self.shown: dict[int, Shown] = {}
        self.fps = fps
        spec = fakes.spec(4, 4)
        self.ladder.start(spec, spec)
        self.begin = self.clock.now
        self.number = 0

    def run(self, seconds: float, *, cut_at: tuple[int, ...] = (0,)) -> Simulation:
        """Go on for so many seconds."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self._arrivals(cut_at)
            self._endings()
            if len(self.staged):
                self._one(self.staged.get())
            else:
                self.clock.now = self._arrival(self.number)
        return self

    def _arrival(self, number: int) -> float:
        return self.begin + number / self.fps

    def _arrivals(self, cut_at: tuple[int, ...]) -> None:
        """Let in what has come by now; each is counted at its own time."""
        now = self.clock.now
        while self._arrival(self.number) <= now:
            self.clock.now = self._arrival(self.number)
            frame = Frame((), self.number, 1, self.number in cut_at)
            self.traffic.arrive(frame)
            self.staged.put(frame)
            self.number += 1
        self.clock.now = now

    def _one(self, frame: Frame) -> None:
        if not self.ladder.admit(frame.pts):
            return
        begin = self.clock.now
        self.ladder.step(frame)
        self.stages.compute.busy_s += self.clock.now - begin
        if len(self.pending) == PENDING:
            self.clock.now = max(self.clock.now, self.pending[0][0])
            self._endings()
        cost = self.encode_s * self.load(self.clock.now)
        self.encoder_free = max(self.encoder_free, self.clock.now) + cost
        self.stages.encode.busy_s += cost
        self.pending.append((self.encoder_free, frame.pts))

    def _endings(self) -> None:
        now = self.clock.now
        while self.pending and self.pending[0][0] <= now:
            self.clock.now, pts = self.pending.popleft()
            passage, seconds = self.traffic.end(pts)
            self.ladder.ended(passage, seconds)
            self.shown[pts] = Shown(passage.arrived, self.clock.now, self.networks[passage.network].name)
        self.clock.now = now

    @property
    def changes(self) -> list[Change]:
        return self.ladder.changes

    def path(self) -> list[str]:
        """The rungs in the order they were stood on."""
        names = [change.after for change in self.changes]
        return [self.changes[0].before, *names] if names else [self.ladder.rung]

    def since(self, at: float) -> list[Shown]:
        """What arrived at least `at` seconds after the beginning."""
        return [shown for shown in self.shown.values() if shown.arrived >= self.begin + at]
