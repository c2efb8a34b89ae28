"""Overloads on a virtual clock: the real queue, ladder and controller, for minutes of playing time in milliseconds."""

from __future__ import annotations

import pytest

from gtasr_video.runtime.live.traffic import Traffic
from tests.runtime.live.simulation import QUEUE, Simulation

FITS = {"s": 0.02, "bicubic": 0.002}
BUDGET_S = 0.5


def all_shown(simulation: Simulation) -> bool:
    """Nothing but what is still on its way is missing, and all came out in order."""
    shown = list(simulation.shown)
    return shown == list(range(len(shown))) and simulation.number - len(shown) <= QUEUE


def test_nothing_changes_where_all_fits() -> None:
    run = Simulation(FITS).run(60)
    assert all_shown(run)
    assert run.path() == ["s"]
    assert {shown.by for shown in run.shown.values()} == {"s"}


def test_a_network_that_is_too_slow_gives_way_to_the_next_and_every_frame_is_shown() -> None:
    run = Simulation({"m": 0.2, **FITS}).run(60)
    assert run.path() == ["m", "s"]
    assert all_shown(run)
    assert run.changes[0].at_s - run.begin < 4
    assert {shown.by for shown in run.since(5)} == {"s"}
    assert max(shown.latency for shown in run.since(5)) < BUDGET_S
    # Until the change, what m had no time for was enlarged by bicubic.
    assert {shown.by for shown in run.shown.values()} == {"m", "s", "bicubic"}


def test_a_network_that_is_hopeless_is_left_for_good() -> None:
    run = Simulation({"m": 3.0, "s": 0.3, "bicubic": 0.01}).run(120)
    assert run.path() == ["m", "bicubic"]
    assert all_shown(run)
    assert max(shown.latency for shown in run.shown.values()) < BUDGET_S


def test_an_overload_that_passes_is_climbed_back_from() -> None:
    run = Simulation(FITS, load=lambda now: 5.0 if 20 < now < 40 else 1.0).run(90)
    assert run.path() == ["s", "bicubic", "s"]
    down, up = (change.at_s for change in run.changes)
    assert 20 < down < 23
    assert 40 < up < 46
    assert all_shown(run)


def test_a_hiccup_changes_nothing() -> None:
    run = Simulation(FITS, load=lambda now: 20.0 if 20 < now < 20.3 else 1.0).run(60)
    assert run.path() == ["s"]
    assert all_shown(run)


def test_what_piled_up_before_the_start_is_no_overload(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly five seconds of frames come within the first two: older ones make room, and the network stays."""
    run = Simulation({"s": 0.03, "bicubic": 0.002})
    monkeypatch.setattr(run, "_arrival", lambda n: run.begin + (n / 60 if n < 120 else 2 + (n - 120) / 25))
    run.run(30)
    assert run.path() == ["s"]
    assert run.traffic.lost > 10
    assert {shown.by for shown in run.since(4)} == {"s"}


def test_load_that_comes_and_goes_does_not_make_it_flutter() -> None:
    run = Simulation(FITS, load=lambda now: 6.0 if now % 20 < 10 else 1.0).run(600)
    assert run.ladder.changed < 2 * 600 / 20
    assert all_shown(run)


@pytest.mark.parametrize("encode_s", [0.07, 0.11, 0.3])
def test_where_even_bicubic_is_too_much_whole_frames_are_left_out(encode_s: float) -> None:
    run = Simulation(FITS, encode_s=encode_s).run(60)
    assert run.path()[-1].startswith("bicubic 1/")
    settled = run.since(10)
    gaps = {b - a for a, b in zip(list(run.shown)[-20:], list(run.shown)[-19:], strict=False)}
    assert len(gaps) == 1
    assert max(shown.latency for shown in settled) < BUDGET_S + 2 * encode_s


def test_a_budget_that_no_rung_can_keep_costs_no_frames() -> None:
    run = Simulation({"s": 0.02, "bicubic": 0.01}, budget_s=0.005).run(60)
    assert run.path() == ["s", "bicubic"]
    assert run.ladder.controller.stuck
    assert all_shown(run)


def test_late_frames_are_left_out_where_that_is_the_policy() -> None:
    run = Simulation({"m": 0.06, **FITS}, late="drop").run(30)
    assert run.path() == ["m", "s"]
    assert run.traffic.late > 0
    assert run.traffic.stopgaps == 0
    assert "bicubic" not in {shown.by for shown in run.shown.values()}
    assert list(run.shown) == sorted(run.shown)


def test_the_next_network_goes_on_where_the_one_before_it_stopped() -> None:
    m, s, bicubic = Simulation({"m": 0.2, **FITS}).run(10).networks
    assert (m.taken_over, s.taken_over, bicubic.taken_over) == ([], ["m"], [])
    assert m.cuts == [0]
    assert s.cuts == []


def test_a_cut_that_another_network_saw_is_a_cut_all_the_same() -> None:
    """A stall at frame 100 leaves the next ones, a cut among them, to bicubic; s must not go on from before it."""
    run = Simulation(FITS, load=lambda now: 40.0 if 4 < now < 4.1 else 1.0).run(10, cut_at=(0, 105))
    s, bicubic = run.networks
    assert 105 in bicubic.made
    first_after = min(pts for pts in s.made if pts > 105)
    assert s.cuts == [0, first_after]
    assert run.path() == ["s", "bicubic", "s"]


def test_the_figures_of_a_run_add_up() -> None:
    run = Simulation({"m": 0.06, **FITS}, load=lambda now: 8.0 if 20 < now < 30 else 1.0).run(60)
    traffic: Traffic = run.traffic
    assert traffic.arrived == run.number
    under_way = len(run.staged) + len(run.pending)
    assert traffic.arrived == traffic.written + traffic.lost + traffic.late + traffic.skipped + under_way
    assert traffic.made.total() == traffic.written + len(run.pending)
    shown = sorted(frame.latency for frame in run.shown.values())
    middle = traffic.latencies.overall((0.5,))
    assert middle is not None
    assert middle[0] == pytest.approx(shown[len(shown) // 2], rel=0.02)
