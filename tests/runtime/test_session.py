"""A whole run: every frame once and in order, bounded memory, and one error however it ends."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch

from gtasr_video.errors import DeviceError, InputError, ModelError, OutputError
from gtasr_video.frames import Frame, PixelLayout
from gtasr_video.media import MemoryReader, MemoryWriter
from gtasr_video.runtime.progress import Monitor
from gtasr_video.runtime.session import QUEUE, Memory, frame_bytes, memory, run
from gtasr_video.runtime.upscaler import Upscaler
from tests import fakes


@pytest.fixture(autouse=True)
def no_threads_are_left() -> Iterator[None]:
    yield
    assert [t.name for t in threading.enumerate() if t.name in ("decode", "encode")] == []


def go(model: fakes.Nearest, reader: MemoryReader, writer: MemoryWriter | None = None, **options: object):
    writer = writer or MemoryWriter(reader.spec.scaled(model.scale))
    with writer:
        report = run(reader, Upscaler(model, device="cpu"), writer, **options)  # type: ignore[arg-type]
    return report, writer


@pytest.mark.parametrize("count", [1, 2, 50])
@pytest.mark.parametrize("queue", [1, 4])
def test_every_frame_goes_through_once_in_order_with_its_time(count: int, queue: int) -> None:
    reader = fakes.reader(count)
    report, writer = go(fakes.Nearest(2), reader, queue=queue)
    assert writer.finished
    assert [f.pts for f in writer.frames] == [f.pts for f in reader._frames]
    for number, frame in enumerate(writer.frames):
        assert frame.planes[0][0, 0] == (7 * number) % 200 + 20
        assert frame.planes[0].shape == (24, 32)
    assert (report.frames_in, report.frames_out, report.frames_dropped) == (count, count, 0)


def test_the_network_runs_on_the_calling_thread() -> None:
    model = fakes.Nearest(1)
    go(model, fakes.reader(3))
    assert model.threads == {threading.current_thread().name}


def test_the_report_says_what_was_done() -> None:
    reader = fakes.reader(10)
    reader.corrupt_packets = 2
    report, _ = go(fakes.Nearest(2), reader)
    assert report.corrupt_packets == 2
    assert (report.model, report.scale, report.seed) == ("nearest", 2, 0)
    assert report.device == "cpu"
    assert report.backend == "torch"
    assert report.input["width"] == 16
    assert report.output["frames"] == 10
    assert report.media_seconds == pytest.approx(0.4)
    assert report.fps == pytest.approx(10 / report.seconds)
    assert set(report.stages) == {"decode", "upload", "compute", "download", "encode"}
    assert all(set(stage) == {"busy_s", "wait_s"} for stage in report.stages.values())
    assert report.stages["compute"]["busy_s"] > 0
    assert report.peak_rss_bytes > 1_000_000


def test_two_runs_give_the_same_frames() -> None:
    one = go(fakes.Remembers(2), fakes.reader(20))[1].frames
    two = go(fakes.Remembers(2), fakes.reader(20))[1].frames
    assert all(
        torch.equal(p, q) for a, b in zip(one, two, strict=True) for p, q in zip(a.planes, b.planes, strict=True)
    )


class Breaks(MemoryReader):
    """Raises `error` instead of the frame with this number, counted from 1."""

    def __init__(self, number: int, error: Exception) -> None:
        super().__init__((), fakes.spec())
        self.number, self.error = number, error

    def __iter__(self) -> Iterator[Frame]:
        for number, frame in enumerate(fakes.frames(self.spec, 100), 1):
            if number == self.number:
                raise self.error
            yield frame


class Full(MemoryWriter):
    """Fails at the frame with this number, or at the end."""

    def __init__(self, number: int | None) -> None:
        super().__init__(fakes.spec())
        self.number = number

    def write(self, frame: Frame) -> None:
        if len(self.frames) + 1 == self.number:
            raise OutputError("the disk is full")
        super().write(frame)

    def finish(self) -> None:
        if self.number is None and not self.aborted:
            raise OutputError("the trailer cannot be written")
        super().finish()


def failing(reader: MemoryReader, model: fakes.Nearest, writer: MemoryWriter) -> BaseException:
    with pytest.raises(Exception) as caught:
        go(model, reader, writer)
    assert writer.aborted
    assert not writer.finished
    return caught.value


@pytest.mark.parametrize("number", [1, 2, 40])
def test_a_decoder_that_fails(number: int) -> None:
    error = failing(Breaks(number, InputError("broken")), fakes.Nearest(1), MemoryWriter(fakes.spec()))
    assert str(error) == "broken"
    after = f" after {0.04 * (number - 2):.3f} s" if number > 1 else ""
    assert error.__notes__ == [f"while decoding frame {number}{after}"]


@pytest.mark.parametrize("number", [1, 40])
def test_a_network_that_fails(number: int) -> None:
    model = fakes.FailsAt(number, ValueError("shapes"))
    error = failing(fakes.reader(100), model, MemoryWriter(fakes.spec()))
    assert error is model.error
    assert error.__notes__ == [f"while upscaling frame {number}"]


def test_nan_names_the_frame() -> None:
    error = failing(fakes.reader(9), fakes.NotANumber(7), MemoryWriter(fakes.spec()))
    assert isinstance(error, ModelError)
    assert error.__notes__ == ["while upscaling frame 7"]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_memory_says_for_what_and_what_to_do(error: Exception) -> None:
    raised = failing(fakes.reader(3), fakes.FailsAt(2, error), MemoryWriter(fakes.spec()))
    assert isinstance(raised, DeviceError)
    assert str(raised) == "not enough memory on cpu for 16x12 frames x1; use a smaller --model or --scale"


@pytest.mark.parametrize("number", [1, 40])
def test_an_encoder_that_fails(number: int) -> None:
    error = failing(fakes.reader(100), fakes.Nearest(1), Full(number))
    assert isinstance(error, OutputError)
    assert error.__notes__ == [f"while encoding frame {number}"]


def test_an_output_that_cannot_be_finished() -> None:
    assert str(failing(fakes.reader(3), fakes.Nearest(1), Full(None))) == "the trailer cannot be written"


def test_no_frames_at_all() -> None:
    reader = MemoryReader([], fakes.spec())
    error = failing(reader, fakes.Nearest(1), MemoryWriter(fakes.spec()))
    assert isinstance(error, InputError)
    assert str(error) == "input: no video frames could be decoded from it"


@pytest.mark.parametrize("number", [1, 30])
def test_ctrl_c_ends_everything(number: int) -> None:
    writer = MemoryWriter(fakes.spec())
    with pytest.raises(KeyboardInterrupt):
        go(fakes.FailsAt(number, KeyboardInterrupt()), fakes.reader(100), writer)
    assert writer.aborted


class Counted(MemoryReader):
    """Counts how many of its frames' planes are alive at once."""

    def __init__(self, count: int, of=None) -> None:
        super().__init__((), of or fakes.spec())
        self.count, self.alive, self.most = count, 0, 0
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Frame]:
        for frame in fakes.frames(self.spec, self.count):
            with self._lock:
                self.alive += 1
                self.most = max(self.most, self.alive)
            weakref.finalize(frame.planes[0], self._gone)
            yield frame
            del frame

    def _gone(self) -> None:
        with self._lock:
            self.alive -= 1


class Stalls(MemoryWriter):
    """Takes nothing until everything before it is full."""

    def __init__(self, full: Callable[[], bool]) -> None:
        super().__init__(fakes.spec())
        self.full = full

    def write(self, frame: Frame) -> None:
        while not self.full():
            pass
        self.full = lambda: True
        # An encoder keeps nothing of a frame.
        super().write(Frame((), frame.pts, frame.duration))


@pytest.mark.parametrize("queue", [1, 4])
def test_no_more_frames_are_held_than_the_formula_says(queue: int) -> None:
    reader = Counted(60)
    bound = memory(reader.spec, reader.spec, queue)
    monitor = Monitor()

    def full() -> bool:
        status = monitor.status()
        return status is not None and status.queues == {"staged": queue, "pending": queue}

    go(fakes.Nearest(1), reader, Stalls(full), queue=queue, monitor=monitor)
    gc.collect()
    assert queue < reader.most <= bound.frames_in
    assert reader.alive == 0


def test_memory_is_flat_on_a_long_clip() -> None:
    """1600 frames whose planes would take 100 MB on each side if they were kept."""
    big = fakes.spec(192, 108, fakes.YUV444)
    resident: list[int] = []

    class Watches(MemoryWriter):
        def write(self, frame: Frame) -> None:
            if frame.pts % 16_000 == 0:
                resident.append(_resident_bytes())
            super().write(Frame((), frame.pts, frame.duration))

    class Cheap:
        facts = fakes.Nearest(1).facts
        initial = fakes.Nearest(1).initial

        def step(self, x, state, *, seed=0):
            return x, state

    reader = Counted(1600, big)
    with Watches(big) as writer:
        run(reader, Upscaler(Cheap(), device="cpu"), writer)
    assert len(resident) == 4
    assert max(resident[1:]) - resident[0] < 3 * memory(big, big).total + 8_000_000


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - a file of the kernel
        return int(file.read().split()[1]) * 4096


def test_the_formula() -> None:
    of = fakes.spec(1920, 1080)
    assert frame_bytes(of) == 3_110_400
    assert frame_bytes(fakes.spec(3, 3)) == 9 + 4 + 4
    assert frame_bytes(fakes.spec(4, 4, PixelLayout("yuv444p10le", 10, 0, 0))) == 96
    bound = memory(of, of.scaled(4))
    assert bound == Memory(QUEUE + 3, QUEUE + 3, 3_110_400, 16 * 3_110_400)
    assert bound.total == 7 * 17 * 3_110_400
    assert str(bound) == "frames take at most 7 x 3.1 MB in + 7 x 49.8 MB out = 370.1 MB, whatever the length"
