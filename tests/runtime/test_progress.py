"""Progress tells the truth: rates of the last seconds by a clock of our own, time left, what limits."""

from __future__ import annotations

import io
import json
import threading
from fractions import Fraction

import pytest

from gtasr_video.runtime.progress import (
    WINDOW_S,
    JsonDisplay,
    Monitor,
    RichDisplay,
    Status,
    describe,
    showing,
)
from gtasr_video.runtime.report import Stages


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def advance(monitor: Monitor, clock: Clock, seconds: float, frames: int, frame_s: float = 0.04) -> None:
    for _ in range(frames):
        monitor.decoded()
        monitor.written((monitor.frames_out + 1) * frame_s)
    clock.now += seconds


def test_nothing_to_say_before_the_first_frame(clock: Clock) -> None:
    assert Monitor(10, clock=clock).status() is None


def test_rate_ratio_share_and_time_left(clock: Clock) -> None:
    monitor = Monitor(100, Fraction(4), clock=clock)
    advance(monitor, clock, 2.0, 25)
    status = monitor.status()
    assert status is not None
    assert (status.frame, status.frames) == (25, 100)
    assert status.fps == pytest.approx(12.5)
    assert status.ratio == pytest.approx(0.5)
    assert status.done == pytest.approx(0.25)
    assert status.eta_s == pytest.approx(6.0)
    assert status.elapsed_s == pytest.approx(2.0)


def test_rates_are_about_now_not_about_the_whole(clock: Clock) -> None:
    monitor = Monitor(1000, clock=clock)
    for _ in range(20):
        advance(monitor, clock, 1.0, 50)
        monitor.status()
    for _ in range(int(WINDOW_S) + 1):
        advance(monitor, clock, 1.0, 5)
        status = monitor.status()
    assert status is not None
    assert status.fps == pytest.approx(5)
    # 1000 + 6 * 5 frames are written: no more are left than there are.
    assert status.eta_s == 0
    assert status.done == 1


def test_variable_rate_is_judged_by_playing_time(clock: Clock) -> None:
    monitor = Monitor(None, Fraction(10), clock=clock)
    advance(monitor, clock, 1.0, 1, frame_s=5.0)
    status = monitor.status()
    assert status is not None
    assert status.ratio == pytest.approx(5)
    assert status.done == pytest.approx(0.5)
    assert status.eta_s == pytest.approx(1)


def test_an_unknown_length_gives_no_time_left(clock: Clock) -> None:
    monitor = Monitor(clock=clock)
    advance(monitor, clock, 1.0, 3)
    status = monitor.status()
    assert status is not None
    assert (status.frames, status.done, status.eta_s) == (None, None, None)


def test_the_frame_count_serves_where_the_length_is_unknown(clock: Clock) -> None:
    monitor = Monitor(40, clock=clock)
    advance(monitor, clock, 1.0, 10)
    status = monitor.status()
    assert status is not None
    assert status.done == 0.25
    assert status.eta_s == pytest.approx(3)


def test_the_stage_that_limits_now(clock: Clock) -> None:
    stages = Stages()
    monitor = Monitor(clock=clock)
    monitor.watch(stages, {"staged": [1, 2], "pending": []})
    stages.compute.busy_s = 50.0
    monitor.decoded()
    clock.now += 1
    stages.compute.busy_s += 0.2
    stages.encode.busy_s += 0.9
    status = monitor.status()
    assert status is not None
    assert status.limiting == "encode"
    assert status.queues == {"staged": 2, "pending": 0}


STATUS = Status(123, 456, 23.94, 0.998, 0.27, 3723.4, 5.1, "compute", {"staged": 4, "pending": 0})


def test_one_line_for_people() -> None:
    assert describe(STATUS) == "frame 123/456  23.9 fps  1.00x real time  1:02:03 left  limited by compute"
    short = Status(3, None, 0.0, 0.0, None, 61.0, 0.0, None, {})
    assert describe(short) == "frame 3  0.0 fps  0.00x real time  1:01 left"


def test_one_line_of_json() -> None:
    out = io.StringIO()
    JsonDisplay(out).show(STATUS)
    assert json.loads(out.getvalue()) == {
        "frame": 123,
        "frames": 456,
        "fps": 23.94,
        "ratio": 0.998,
        "done": 0.27,
        "eta_s": 3723.4,
        "elapsed_s": 5.1,
        "limiting": "compute",
        "queues": {"staged": 4, "pending": 0},
    }
    assert out.getvalue().count("\n") == 1


def test_rich_shows_the_line_and_leaves_the_terminal_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    out = Terminal()
    display = RichDisplay(out)
    display.show(STATUS)
    display.close()
    assert "frame 123/456  23.9 fps" in out.getvalue()
    assert out.getvalue().endswith("\x1b[2K")


def test_json_ends_with_a_last_line_and_the_thread_with_the_block(clock: Clock) -> None:
    out = io.StringIO()
    monitor = Monitor(3, clock=clock)
    with showing(monitor, "json", out):
        advance(monitor, clock, 1.0, 3)
    assert json.loads(out.getvalue().splitlines()[-1])["frame"] == 3
    assert "progress" not in [t.name for t in threading.enumerate()]


@pytest.mark.parametrize("mode", ["none", "auto"])
def test_nothing_is_shown_where_no_one_looks(mode: str, clock: Clock) -> None:
    out = io.StringIO()
    monitor = Monitor(3, clock=clock)
    with showing(monitor, mode, out):  # type: ignore[arg-type]
        advance(monitor, clock, 1.0, 3)
    assert out.getvalue() == ""


def test_a_closed_stderr_ends_the_display_not_the_run(clock: Clock) -> None:
    out = io.StringIO()
    out.close()
    monitor = Monitor(3, clock=clock)
    with showing(monitor, "json", out):
        advance(monitor, clock, 1.0, 3)
    assert monitor.frames_out == 3


def test_the_display_ends_when_the_run_fails(clock: Clock) -> None:
    with pytest.raises(ValueError, match="broken"), showing(Monitor(clock=clock), "json", io.StringIO()):
        raise ValueError("broken")
    assert "progress" not in [t.name for t in threading.enumerate()]
