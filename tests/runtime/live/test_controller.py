"""The controller alone: numbers in, a rung out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gtasr_video.runtime.live.controller import (
    FULL,
    HOLD_S,
    LONGEST_HOLD_S,
    PERIOD_S,
    TRIAL_S,
    Change,
    Controller,
    Load,
    Rung,
    rungs,
)

FINE = Load(PERIOD_S, arrived=12, enhanced=12, stopgaps=0, lost=0, overdue=0, compute_s=0.2, encode_s=0.1, written=12)
# s takes more than 100 ms of the 40 that a frame has, bicubic then 1 ms; later all of that takes a quarter.
OVERLOADED = replace(FINE, enhanced=4, stopgaps=8, compute_s=0.5)
BUSY = replace(FINE, compute_s=0.012)
RELAXED = replace(FINE, compute_s=0.003)


class Driven:
    """A controller, and a clock that moves by a period with every update."""

    def __init__(self, *costs: float, budget_s: float = 0.5) -> None:
        names = ["m", "s", "bicubic"][-len(costs) :]
        self.controller = Controller(rungs(names), costs, budget_s)
        self.now = 0.0
        self.changes: list[Change] = []

    def feed(self, load: Load, seconds: float) -> Driven:
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now += PERIOD_S
            change = self.controller.update(load, self.now)
            if change is not None:
                self.changes.append(change)
        return self

    @property
    def rung(self) -> str:
        return self.controller.rung.name


def test_the_ladder_goes_down_by_network_and_then_by_rate() -> None:
    assert rungs(["s", "bicubic"])[:3] == (Rung("s", 0), Rung("bicubic", 1), Rung("bicubic 1/2", 1, 2))
    assert [r.name for r in rungs(["bicubic"])] == [f"bicubic{s}" for s in ("", " 1/2", " 1/3", " 1/4", " 1/8")]


def test_it_starts_at_the_best_and_stays_while_all_is_well() -> None:
    driven = Driven(0.1, 0.02, 0.001).feed(FINE, 60)
    assert driven.rung == "m"
    assert driven.changes == []


def test_one_bad_period_changes_nothing_and_two_do() -> None:
    driven = Driven(0.1, 0.001)
    for _ in range(10):
        driven.feed(OVERLOADED, PERIOD_S).feed(FINE, PERIOD_S)
    assert driven.changes == []
    driven.feed(OVERLOADED, 2 * PERIOD_S)
    assert driven.rung == "bicubic"
    assert str(driven.changes[0]) == "s -> bicubic: 8 of 12 frames missed 500 ms"


def test_a_few_frames_that_miss_are_tolerated() -> None:
    driven = Driven(0.02, 0.001).feed(replace(FINE, enhanced=11, stopgaps=1), 30)
    assert driven.changes == []


@pytest.mark.parametrize("miss", ["stopgaps", "lost", "overdue"])
def test_every_way_of_missing_counts(miss: str) -> None:
    assert Driven(0.1, 0.001).feed(replace(FINE, **{miss: 3}), 2 * PERIOD_S).rung == "bicubic"


@pytest.mark.parametrize(
    ("costs", "expected"),
    [((0.1, 0.03, 0.001), "s"), ((0.1, 0.08, 0.001), "bicubic"), ((0.1, 0.09, 0.06), "bicubic 1/2")],
)
def test_it_falls_at_once_to_the_first_rung_that_is_foretold_to_fit(costs: tuple[float, ...], expected: str) -> None:
    assert Driven(*costs).feed(OVERLOADED, 2 * PERIOD_S).rung == expected


def test_frames_in_flight_are_not_held_against_the_new_rung() -> None:
    driven = Driven(0.1, 0.001).feed(OVERLOADED, 2 * PERIOD_S)
    driven.feed(OVERLOADED, 2 * PERIOD_S)
    assert driven.rung == "bicubic"


def test_it_climbs_when_there_was_room_for_a_while() -> None:
    driven = Driven(0.1, 0.001).feed(OVERLOADED, 2 * PERIOD_S)
    assert driven.feed(BUSY, 60).rung == "bicubic"
    assert driven.feed(RELAXED, HOLD_S - PERIOD_S).rung == "bicubic"
    assert driven.feed(RELAXED, PERIOD_S).rung == "s"
    assert driven.changes[-1].reason.startswith("room for it: busy ")


def test_room_that_comes_and_goes_is_not_climbed_into() -> None:
    driven = Driven(0.1, 0.001).feed(OVERLOADED, 2 * PERIOD_S).feed(BUSY, 5)
    for _ in range(20):
        driven.feed(RELAXED, HOLD_S - PERIOD_S).feed(BUSY, PERIOD_S)
    assert driven.rung == "bicubic"


def test_it_does_not_climb_to_what_is_foretold_not_to_fit() -> None:
    driven = Driven(0.1, 0.02).feed(OVERLOADED, 2 * PERIOD_S)
    assert driven.feed(replace(FINE, compute_s=0.2), 600).rung == "bicubic"


def test_it_does_not_climb_to_what_takes_longer_than_the_budget() -> None:
    driven = Driven(0.02, 0.001, budget_s=0.015).feed(replace(OVERLOADED, enhanced=0, stopgaps=12), 2 * PERIOD_S)
    assert driven.feed(replace(FINE, compute_s=0.012), 600).rung == "bicubic"


def test_it_climbs_one_rung_at_a_time() -> None:
    driven = Driven(0.03, 0.004, 0.001).feed(replace(BUSY, overdue=6, encode_s=0.6, compute_s=0.3), 2 * PERIOD_S)
    assert driven.rung == "bicubic 1/2"
    driven.feed(BUSY, 60)
    assert [change.after for change in driven.changes] == ["bicubic 1/2", "bicubic", "s", "m"]


def test_a_climb_that_fails_is_tried_ever_more_seldom_and_one_that_lasts_is_forgiven() -> None:
    driven = Driven(0.1, 0.001).feed(OVERLOADED, 2 * PERIOD_S).feed(BUSY, 5)

    def wait() -> float:
        """Return the seconds until the next climb, then fall again."""
        begin = driven.now
        while driven.rung == "bicubic":
            driven.feed(RELAXED, PERIOD_S)
        waited = driven.now - begin
        driven.feed(OVERLOADED, 4 * PERIOD_S).feed(BUSY, 2 * PERIOD_S)
        assert driven.rung == "bicubic"
        return waited

    waits = [wait() for _ in range(7)]
    assert waits[0] == HOLD_S
    assert waits[1:5] == [2 * HOLD_S, 4 * HOLD_S, 8 * HOLD_S, 16 * HOLD_S]
    assert waits[5:] == [LONGEST_HOLD_S] * 2
    driven.feed(RELAXED, LONGEST_HOLD_S).feed(FINE, 2 * TRIAL_S)
    assert driven.rung == "s"
    driven.feed(OVERLOADED, 3 * PERIOD_S).feed(BUSY, 2 * PERIOD_S)
    assert wait() == HOLD_S


def test_fewer_frames_are_tried_only_where_a_stage_has_no_time_left() -> None:
    """Where a frame alone takes longer than its budget, leaving others out makes it no faster."""
    driven = Driven(0.02).feed(replace(FINE, overdue=12, compute_s=0.1), 60)
    assert driven.rung == "bicubic"
    assert driven.controller.stuck
    assert Driven(0.05).feed(replace(FINE, overdue=12, compute_s=0.6), 2 * PERIOD_S).rung == "bicubic 1/2"


def test_a_slow_encoder_lowers_the_rate() -> None:
    driven = Driven(0.02, 0.001).feed(replace(FINE, lost=4, written=8, encode_s=0.5), 2 * PERIOD_S)
    assert driven.rung == "bicubic 1/2"


def test_what_slows_one_network_down_is_taken_to_slow_all() -> None:
    driven = Driven(0.02, 0.001).feed(FINE, 5).feed(replace(FINE, compute_s=0.4), 5)
    own, cheapest = driven.controller.costs
    assert own == pytest.approx(0.4 / 12)
    assert cheapest == pytest.approx(0.001 * own / (0.2 / 12))


def test_periods_without_frames_are_borne() -> None:
    nothing = Load(PERIOD_S, 0, 0, 0, 0, 0, 0.0, 0.0, 0)
    driven = Driven(0.02, 0.001).feed(nothing, 5).feed(OVERLOADED, 1).feed(nothing, 60)
    assert driven.rung == "bicubic"
    assert 0 < FULL < 1
