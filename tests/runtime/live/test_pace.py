"""Playback speed on a virtual clock."""

from __future__ import annotations

import pytest

from gtasr_video.runtime.live.pace import AHEAD_S, BEHIND_S, LOOK_S, Pace
from tests.runtime.live.simulation import Clock


class Paced:
    def __init__(self) -> None:
        self.clock = Clock()
        self.naps: list[float] = []
        self.pace = Pace(self.clock, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.clock.now += seconds

    def at(self, media_s: float) -> float:
        """Return when the turn of a frame comes."""
        self.pace.wait(media_s, lambda: False)
        return self.clock.now


def test_a_burst_is_spread_out_by_the_frames_own_times() -> None:
    paced = Paced()
    paced.clock.now = 5.0
    assert [paced.at(100 + time) for time in (0.0, 0.04, 0.2, 0.9)] == pytest.approx([5.0, 5.04, 5.2, 5.9])
    assert max(paced.naps) <= LOOK_S


def test_a_source_that_is_a_little_late_catches_up_and_one_that_paused_does_not() -> None:
    paced = Paced()
    paced.at(0.0)
    paced.clock.now = 1.0 + BEHIND_S / 2
    assert paced.at(1.0) == 1.0 + BEHIND_S / 2
    assert paced.at(2.0) == pytest.approx(2.0)
    paced.clock.now = 10.0
    assert paced.at(3.0) == 10.0
    assert paced.at(4.0) == pytest.approx(11.0)


def test_times_that_jump_are_not_waited_for() -> None:
    paced = Paced()
    paced.at(0.0)
    assert paced.at(AHEAD_S + 1) == 0.0
    assert paced.at(AHEAD_S + 2) == pytest.approx(1.0)


def test_a_wait_ends_with_the_run() -> None:
    paced = Paced()
    paced.at(0.0)
    paced.pace.wait(5.0, lambda: paced.clock.now > 0.25)
    assert paced.clock.now == pytest.approx(0.3)
