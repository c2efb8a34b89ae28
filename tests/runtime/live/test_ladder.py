"""The ladder with real upscalers: the right network makes each frame, and goes on from the right memory."""

from __future__ import annotations

import pytest
import torch

from gtasr_video.device import Device
from gtasr_video.frames import Frame
from gtasr_video.models.bicubic import Bicubic
from gtasr_video.models.gtasr import TIERS, GTASRVideo
from gtasr_video.runtime.live.ladder import Ladder
from gtasr_video.runtime.live.traffic import Traffic
from gtasr_video.runtime.report import Stages
from gtasr_video.runtime.upscaler import Upscaler
from tests import fakes
from tests.runtime.live.simulation import Clock

SPEC = fakes.spec(32, 24)


def network(tier: str) -> GTASRVideo:
    torch.manual_seed(1)
    model = GTASRVideo(TIERS[tier], (2,)).eval()
    torch.nn.init.normal_(model.adapter.head.weight, std=0.02)
    torch.nn.init.normal_(model.adapter.reference.weight, std=0.02)
    return model


class Run:
    """A ladder on a clock that stands still unless a test moves it."""

    def __init__(self, *models: GTASRVideo | Bicubic, late: str = "bicubic", device: Device | str = "cpu") -> None:
        self.clock = Clock()
        self.traffic = Traffic(self.clock, 0.5)
        self.upscalers = [Upscaler(model, device=device, backend="torch") for model in models]
        self.ladder = Ladder(self.upscalers, self.traffic, Stages(), 0.5, late, self.clock)  # type: ignore[arg-type]
        self.ladder.start(SPEC, SPEC.scaled(2))

    def push(self, frame: Frame, *, waited_s: float = 0.0) -> Frame | None:
        self.traffic.arrive(frame)
        self.clock.now += waited_s
        if not self.ladder.admit(frame.pts):
            return None
        made = self.ladder.step(frame).frame
        self.traffic.end(frame.pts)
        return made


def same(one: Frame | None, other: Frame) -> bool:
    return one is not None and all(torch.equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))


def alone(model: GTASRVideo | Bicubic, frames: list[Frame]) -> list[Frame]:
    return list(Upscaler(model, device="cpu", backend="torch")(frames, spec=SPEC))


def test_frames_in_time_are_those_of_the_network_alone() -> None:
    run, frames = Run(network("s"), Bicubic(2)), list(fakes.frames(SPEC, 4))
    expected = alone(network("s"), frames)
    assert all(same(run.push(frame), wanted) for frame, wanted in zip(frames, expected, strict=True))


def test_a_frame_that_is_late_is_bicubic_and_leaves_the_network_s_memory_alone() -> None:
    run, frames = Run(network("s"), Bicubic(2)), list(fakes.frames(SPEC, 4))
    first, _, third, fourth = frames
    kept = alone(network("s"), [first, third, fourth])
    assert same(run.push(first), kept[0])
    assert same(run.push(frames[1], waited_s=0.6), alone(Bicubic(2), [frames[1]])[0])
    assert same(run.push(third), kept[1])
    assert same(run.push(fourth), kept[2])
    assert run.traffic.stopgaps == 1
    assert dict(run.traffic.made) == {0: 3, 1: 1}


def test_late_frames_are_left_out_by_the_other_policy() -> None:
    run, frames = Run(network("s"), Bicubic(2), late="drop"), list(fakes.frames(SPEC, 2))
    assert run.push(frames[0]) is not None
    assert run.push(frames[1], waited_s=0.6) is None
    assert run.traffic.late == 1


def test_a_cut_among_frames_left_out_is_not_forgotten() -> None:
    run = Run(network("s"), Bicubic(2), late="drop")
    first, second, third = fakes.frames(SPEC, 3)
    run.push(first)
    run.push(Frame(second.planes, second.pts, second.duration, cut=True), waited_s=0.6)
    assert same(run.push(third), alone(network("s"), [third])[0])


def test_a_network_takes_over_the_reference_of_another() -> None:
    run, frames = Run(network("m"), network("s"), Bicubic(2)), list(fakes.frames(SPEC, 3))
    run.push(frames[0])
    passage = run.traffic.begin  # the network is chosen by the ladder; here by hand, for the second frame
    run.traffic.arrive(frames[1])
    run.traffic.make(passage(frames[1].pts), 1, stopgap=False)
    taken = run.ladder.step(frames[1]).frame
    m, s = Upscaler(network("m"), device="cpu", backend="torch"), Upscaler(network("s"), device="cpu", backend="torch")
    m.start(SPEC)
    s.start(SPEC)
    m.push(frames[0])
    s.continue_from(m)
    assert same(taken, s.push(frames[1])[0])
    assert not same(taken, alone(network("s"), [frames[1]])[0])


def test_going_on_from_nothing_begins_anew() -> None:
    s = Upscaler(network("s"), device="cpu", backend="torch")
    s.start(SPEC)
    s.continue_from(Upscaler(network("m"), device="cpu", backend="torch"))
    frame = next(fakes.frames(SPEC, 1))
    assert same(s.push(frame)[0], alone(network("s"), [frame])[0])


@pytest.mark.parametrize("count", [1, 5])
def test_starting_leaves_no_trace_of_its_trials(count: int) -> None:
    run, frames = Run(network("s"), Bicubic(2)), list(fakes.frames(SPEC, count))
    assert run.traffic.arrived == 0
    assert same([run.push(frame) for frame in frames][-1], alone(network("s"), frames)[-1])


def test_a_frame_made_again_is_made_by_its_own_network_from_the_state_before_it() -> None:
    half = Device(torch.device("cpu"), torch.bfloat16, "for this test")
    run, (first, second) = Run(network("s"), Bicubic(2), device=half), list(fakes.frames(SPEC, 2))
    run.push(first)
    run.traffic.arrive(second)
    assert run.ladder.admit(second.pts)
    before = run.ladder.step(second).before
    again = run.ladder.redo(second, before).frame
    by_itself = Upscaler(network("s"), device=half, backend="torch")
    by_itself.start(SPEC)
    by_itself.push(first)
    assert same(again, by_itself.redo(second, by_itself.step(second).before).frame)
    assert run.upscalers[0].redone == 1
