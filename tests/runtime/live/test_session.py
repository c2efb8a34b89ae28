"""Whole live runs in real threads: every frame accounted for, whatever ends them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from gtasr_video.errors import InputError, OutputError
from gtasr_video.frames import Frame, Vitals
from gtasr_video.media import MemoryReader, MemoryWriter
from gtasr_video.models import load_model
from gtasr_video.models.bicubic import Bicubic
from gtasr_video.runtime import session as plain_session
from gtasr_video.runtime.lanes.cuda import CudaLane
from gtasr_video.runtime.live import session
from gtasr_video.runtime.live.session import LONGEST_QUEUE, queue_for, run
from gtasr_video.runtime.live.status import LiveMonitor
from gtasr_video.runtime.report import Report
from gtasr_video.runtime.session import QUEUE
from gtasr_video.runtime.upscaler import Upscaler
from tests import fakes
from tests.runtime.simulated import SimulatedDevice

SPEC = fakes.spec()
ROOMY_S = 60.0


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    yield
    assert [t.name for t in threading.enumerate() if t.name in ("decode", "encode", "ending")] == []
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers


def go(reader: MemoryReader, *models: object, writer: MemoryWriter | None = None, **options: object):
    upscalers = [Upscaler(model, device="cpu", backend="torch") for model in models or (fakes.Nearest(2), Bicubic(2))]  # type: ignore[arg-type]
    writer = writer or MemoryWriter(reader.spec.scaled(upscalers[0].scale))
    with writer:
        report = run(reader, upscalers, writer, **options)  # type: ignore[arg-type]
    return report, writer


def accounts(report: Report) -> None:
    """Every frame that came in went out or is named among those that did not, with the reason."""
    assert report.live is not None
    assert report.frames_in == report.frames_out + report.frames_dropped
    assert sum(report.live["dropped"].values()) == report.frames_dropped
    assert sum(report.live["frames"].values()) == report.frames_out


@pytest.mark.parametrize("budget_s", [None, ROOMY_S])
def test_frames_that_are_in_time_are_those_of_a_file(budget_s: float | None) -> None:
    report, writer = go(fakes.reader(60), budget_s=budget_s)
    with MemoryWriter(SPEC.scaled(2)) as expected:
        plain_session.run(fakes.reader(60), Upscaler(fakes.Nearest(2), device="cpu"), expected)
    assert [f.pts for f in writer.frames] == [f.pts for f in expected.frames]
    assert all(torch.equal(a.planes[0], b.planes[0]) for a, b in zip(writer.frames, expected.frames, strict=True))
    accounts(report)
    assert report.live["frames"] == {"nearest": 60}
    assert report.live["budget_ms"] == (None if budget_s is None else 60_000)
    assert len(report.live["latency_ms"]) == 3


def test_waiting_for_the_source_is_no_work() -> None:
    class Slow(MemoryReader):
        waited_s = 0.0

        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                self.waited_s += 100.0
                yield frame

        def vitals(self) -> Vitals:
            return Vitals(waited_s=self.waited_s)

    report, _ = go(Slow(list(fakes.reader(5)), SPEC))
    assert report.limited_by == "source"
    assert report.stages["decode"]["wait_s"] >= 500
    assert report.stages["decode"]["busy_s"] < 0


class Gate(MemoryWriter):
    """Takes no frame until `open` says so."""

    def __init__(self, is_open: Callable[[], bool]) -> None:
        super().__init__(SPEC.scaled(2))
        self.is_open = is_open

    def write(self, frame: Frame) -> None:
        while not self.is_open():
            time.sleep(0.001)
        super().write(frame)


def test_without_a_budget_nothing_is_ever_left_out() -> None:
    """The writer waits until all queues are full: the source has to wait."""
    monitor = LiveMonitor()

    def full() -> bool:
        status = monitor.status()
        return status is not None and status.queues == {"staged": QUEUE, "pending": QUEUE}

    opened = threading.Event()
    writer = Gate(lambda: opened.is_set() or (full() and opened.set() is None))
    report, _ = go(fakes.reader(100), writer=writer, monitor=monitor)
    assert (report.frames_in, report.frames_out, report.frames_dropped) == (100, 100, 0)


def test_with_a_budget_the_oldest_frames_make_room_and_the_source_never_waits() -> None:
    """The writer takes nothing until the source is at its end."""
    read = threading.Event()

    class Reader(MemoryReader):
        def __iter__(self) -> Iterator[Frame]:
            yield from fakes.frames(SPEC, 200)
            read.set()

    report, writer = go(Reader((), SPEC), writer=Gate(read.is_set), budget_s=ROOMY_S)
    accounts(report)
    assert report.frames_in == 200
    assert report.live["dropped"]["queue"] >= 200 - LONGEST_QUEUE - 10
    assert [f.pts for f in writer.frames] == sorted(f.pts for f in writer.frames)
    assert writer.frames[-1].pts == 199 * 40


def test_a_real_overload_is_kept_up_with() -> None:
    """Tier s for a stream at playback speed that has six times as many frames a second as it can make here."""
    of, s = fakes.spec(128, 96), Upscaler(load_model("s"), device="cpu", backend="torch")
    trial = list(s(list(fakes.frames(of, 2)), spec=of))  # the first step finds its memory and chooses its kernels
    begin = time.perf_counter()
    s.push(next(fakes.frames(of, 1)))
    cost = time.perf_counter() - begin
    rate, budget_s = min(500, max(10, round(6 / cost))), max(0.3, 4 * cost)
    of = fakes.spec(128, 96, rate=rate)
    source = MemoryReader(list(fakes.frames(of, round((4 + 3 * budget_s) * rate))), of)
    report, writer = go(source, load_model("s"), Bicubic(4), budget_s=budget_s, paced=True)
    assert len(trial) == 2
    accounts(report)
    assert report.live["frames"]["bicubic"] > report.live["frames"].get("s", 0)
    first = report.live["changes"][0]
    assert first["before"] == "s"
    assert first["after"].startswith("bicubic")
    assert writer.frames[-1].planes[0].shape == (384, 512)


class Endless(MemoryReader):
    """Frames without end; `stop` ends them. `at` is called with the number of each."""

    def __init__(self, at: Callable[[int], None] = lambda number: None) -> None:
        super().__init__((), SPEC)
        self.at = at
        self.stopped = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        for number, frame in enumerate(fakes.frames(SPEC, 10**9), 1):
            if self.stopped.is_set():
                return
            self.at(number)
            yield frame

    def stop(self) -> None:
        self.stopped.set()


def kill_at(wanted: int, number: signal.Signals) -> Callable[[int], None]:
    return lambda frame: os.kill(os.getpid(), number) if frame == wanted else None


@pytest.fixture
def hang_up_ends() -> Iterator[None]:
    """A shell's nohup has these tests, too, ignore SIGHUP, and a stream keeps to that: here it shall not."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hang_up_ends")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("budget_s", [None, ROOMY_S])
def test_a_signal_ends_the_stream_as_its_own_end_would(number: signal.Signals, budget_s: float | None) -> None:
    report, writer = go(Endless(kill_at(30, number)), budget_s=budget_s)
    assert writer.finished
    assert report.frames_out > 0
    accounts(report)


def test_a_source_that_cannot_be_stopped_is_left_at_its_next_frame() -> None:
    class Deaf(MemoryReader):
        def __iter__(self) -> Iterator[Frame]:
            for number, frame in enumerate(fakes.frames(SPEC, 10**9), 1):
                kill_at(30, signal.SIGTERM)(number)
                yield frame

    report, writer = go(Deaf((), SPEC), budget_s=ROOMY_S)
    assert writer.finished
    accounts(report)


def test_a_source_that_waits_for_a_frame_is_stopped_and_what_came_is_kept() -> None:
    class Waits(Endless):
        def __iter__(self) -> Iterator[Frame]:
            yield from fakes.frames(SPEC, 10)
            os.kill(os.getpid(), signal.SIGTERM)
            self.stopped.wait()

    report, writer = go(Waits(), budget_s=ROOMY_S)
    assert writer.finished
    assert report.frames_out == 10


def test_a_signal_before_the_first_frame_is_an_interruption() -> None:
    class Never(Endless):
        def __iter__(self) -> Iterator[Frame]:
            os.kill(os.getpid(), signal.SIGTERM)
            self.stopped.wait()
            return iter(())

    writer = MemoryWriter(SPEC.scaled(2))
    with pytest.raises(KeyboardInterrupt):
        go(Never(), writer=writer)
    assert writer.aborted


def test_a_second_ctrl_c_interrupts() -> None:
    reader = Endless()

    class Insists(MemoryWriter):
        def write(self, frame: Frame) -> None:
            super().write(frame)
            if len(self.frames) == 1:
                os.kill(os.getpid(), signal.SIGINT)
                reader.stopped.wait()
                os.kill(os.getpid(), signal.SIGINT)

    writer = Insists(SPEC.scaled(2))
    with pytest.raises(KeyboardInterrupt):
        go(reader, writer=writer)
    assert writer.aborted


def test_beside_the_main_thread_signals_are_left_alone() -> None:
    found: list[object] = []
    reader = fakes.reader(3)
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=lambda: found.append((go(reader), signal.getsignal(signal.SIGTERM))))
    thread.start()
    thread.join()
    assert found[0][1] is before  # type: ignore[index]


def test_where_the_source_fails_what_came_is_kept_and_the_error_told() -> None:
    class Breaks(MemoryReader):
        def __iter__(self) -> Iterator[Frame]:
            yield from fakes.frames(SPEC, 10)
            raise InputError("the camera is gone")

    writer = MemoryWriter(SPEC.scaled(2))
    with pytest.raises(InputError, match="the camera is gone") as caught:
        go(Breaks((), SPEC), writer=writer)
    assert writer.finished
    assert len(writer.frames) == 10
    assert caught.value.__notes__ == ["while decoding frame 11 after 0.360 s", "what came before is in the output"]


def test_a_source_without_frames_and_a_writer_that_fails_are_errors() -> None:
    class Full(MemoryWriter):
        def write(self, frame: Frame) -> None:
            raise OutputError("the disk is full")

    with pytest.raises(InputError, match="no video frames"):
        go(MemoryReader([], SPEC))
    writer = Full(SPEC.scaled(2))
    with pytest.raises(OutputError, match="the disk is full"):
        go(Endless(), writer=writer, budget_s=ROOMY_S)
    assert writer.aborted


def test_over_a_device_that_works_on_its_own_no_slot_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames dropped before upload give their pinned slots back; without, the decoder would soon wait for ever."""
    device = SimulatedDevice(("copy in", "compute", "copy out"))
    monkeypatch.setattr(
        session,
        "open_lane",
        lambda _, scope, stages, source, output, staged, pending: CudaLane(
            device, scope, stages, source, output, pending, staged
        ),
    )
    read = threading.Event()

    class Reader(MemoryReader):
        def __iter__(self) -> Iterator[Frame]:
            yield from fakes.frames(SPEC, 300)
            read.set()

    class Copies(Gate):
        def write(self, frame: Frame) -> None:
            super().write(Frame(tuple(p.clone() for p in frame.planes), frame.pts, frame.duration))

    report, writer = go(Reader((), SPEC), writer=Copies(read.is_set), budget_s=ROOMY_S)
    accounts(report)
    assert report.live["dropped"]["queue"] > 100
    for frame in writer.frames:
        assert frame.planes[0][0, 0] == (7 * (frame.pts // 40)) % 200 + 20


def test_what_the_ends_tell_is_in_the_report() -> None:
    class Reader(MemoryReader):
        def vitals(self) -> Vitals:
            return Vitals(reconnects=2, queues={"socket": 3})

    class Writer(MemoryWriter):
        def vitals(self) -> Vitals:
            return Vitals(reconnects=1, dropped=4, av_offset_s=-0.01, bitrate_bps=1e6, queues={"rtmp": 5})

    monitor = LiveMonitor()
    reader = Reader(list(fakes.frames(SPEC, 5)), SPEC)
    report, _ = go(reader, writer=Writer(SPEC.scaled(2)), monitor=monitor)
    wanted = {"reconnects": 3, "output_dropped": 4, "av_offset_ms": -10.0}
    assert {key: report.live[key] for key in wanted} == wanted
    status = monitor.status()
    assert status is not None
    assert status.queues == {"staged": 0, "pending": 0, "socket": 3, "rtmp": 5}
    assert status.bitrate_kbps == 1000


@pytest.mark.parametrize(("budget_s", "rate", "expected"), [(0.1, 25, QUEUE), (0.5, 50, 26), (60, 60, LONGEST_QUEUE)])
def test_as_many_frames_may_wait_as_come_within_the_budget(budget_s: float, rate: int, expected: int) -> None:
    assert queue_for(fakes.spec(rate=rate), budget_s) == expected
