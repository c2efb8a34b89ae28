"""The lane to a CUDA device, and the seam behind which CUDA can be simulated."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from gtasr_video.frames import Frame, VideoSpec
from gtasr_video.runtime.channels import Channel, Scope
from gtasr_video.runtime.lanes import Work
from gtasr_video.runtime.report import Stages
from gtasr_video.runtime.upscaler import Upscaled


class Event(Protocol):
    """A mark in a stream."""

    def synchronize(self) -> None:
        """Make the calling host thread wait until the device has reached the mark; raise if the device failed."""

    def seconds_since(self, earlier: Any) -> float:
        """Return the device time between two marks that were reached."""


class Stream(Protocol):
    """A queue of work on the device: in order within, unordered against other streams but for `wait`."""

    def launch(self, work: Callable[[], None]) -> None:
        """Queue `work`."""

    def record(self) -> Any:
        """Queue a mark and return it."""

    def wait(self, event: Any) -> None:
        """Let all that is queued from here on wait for `event`, without the host waiting."""


class AsyncDevice(Protocol):
    """The seam between `CudaLane` and CUDA, so that a simulated device can prove its ordering without a GPU."""

    def stream(self, name: str) -> Stream:
        """Return a new stream; `name` is for people."""

    def on_host(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return an uninitialised tensor in host memory that the device copies from and to by itself."""

    def on_device(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return an uninitialised tensor on the device."""

    def arrival(self, planes: tuple[Tensor, ...]) -> Any:
        """Return a mark behind what fills `planes` if they lie on the device already (a decoder there), else None."""

    def synchronize(self) -> None:
        """Wait until the device is idle."""


@dataclass(eq=False, slots=True)
class _Planes:
    """Fixed memory for one frame, and when the device is through with what it last did to it."""

    planes: tuple[Tensor, ...]
    sound: Tensor
    free: Event | None = None

    def copy_from(self, planes: tuple[Tensor, ...]) -> None:
        for target, source in zip(self.planes, planes, strict=True):
            target.copy_(source, non_blocking=True)

    def take(self, result: Upscaled) -> None:
        self.copy_from(result.frame.planes)
        self.sound.copy_(result.sound, non_blocking=True)


@dataclass(eq=False, slots=True)
class _Travelling:
    """A frame on its way: its times, where it lies now, and (begin, end) events of each stage behind it.

    Until it is collected its `source` on the device and the state `before` it are kept, to make it again from.
    `arrival` is set where a decoder on the device filled its first place, and `decoded` keeps that from being freed.
    """

    pts: int
    duration: int
    cut: bool
    place: _Planes
    spans: list[tuple[Event, Event]] = field(default_factory=list)
    source: _Planes | None = None
    before: Any = None
    work: Work | None = None
    arrival: Event | None = None
    decoded: _Planes | None = None

    @property
    def ready(self) -> Event:
        return self.spans[-1][1]

    def frame(self, place: _Planes) -> Frame:
        return Frame(place.planes, self.pts, self.duration, self.cut)


class CudaLane:
    """The lane to a device that works on its own while the host goes on.

    `slots` pinned frames go round on each side, `staged` before the device if that is given. `source` and `output` fix
    all shapes, so device memory is allocated once: as many frames in as can be under way, two out, and nothing needs
    ``record_stream``.

    The host learns late whether a picture came out sound. If one did not, `collect` stops the device, makes that frame
    again from the state before it, and then those behind it, whose state came from it.
    """

    def __init__(
        self,
        device: AsyncDevice,
        scope: Scope,
        stages: Stages,
        source: VideoSpec,
        output: VideoSpec,
        slots: int = 4,
        staged: int | None = None,
    ) -> None:
        self._device, self._stages = device, stages
        # The weights came by the default stream, for which the streams here do not wait.
        device.synchronize()
        self._copy_in, self._compute, self._copy_out = map(device.stream, ("copy in", "compute", "copy out"))
        self._staging = _ring(scope, "staging slots", device, source, staged or slots)
        self._landing = _ring(scope, "landing slots", device, output, slots)
        # One more than can land: so there is always a free one, and nothing waits for it.
        self._inputs = deque(_allocate(device.on_device, source) for _ in range(slots + 1))
        self._outputs = cycle([_allocate(device.on_device, output) for _ in range(2)])
        self._under_way: deque[_Travelling] = deque()
        # Held while work is queued, and while frames are made again: the two must not mix.
        self._queueing = threading.Lock()

    def stage(self, frame: Frame) -> _Travelling:
        """Copy `frame` into a pinned slot, waiting for a free one; a frame that is on the device stays there."""
        arrival = self._device.arrival(frame.planes)
        if arrival is not None:
            place = _Planes(frame.planes, torch.empty(0))
            return _Travelling(frame.pts, frame.duration, frame.cut, place, arrival=arrival, decoded=place)
        with self._stages.decode.waiting():
            slot = self._staging.get()
            if slot.free is not None:
                slot.free.synchronize()
        with self._stages.decode.busy():
            slot.copy_from(frame.planes)
        return _Travelling(frame.pts, frame.duration, frame.cut, slot)

    def discard(self, staged: _Travelling) -> None:
        """Give the slot back unused."""
        self._staging.put(staged.place)

    def upload(self, staged: _Travelling) -> _Travelling:
        """Queue the copy to the device. The slot goes back to its ring at once, with the event that frees it."""
        target, slot = self._inputs.popleft(), staged.place
        span = self._queue(self._copy_in, staged.arrival, lambda: target.copy_from(slot.planes))
        if staged.arrival is None:
            slot.free = span[1]
            self._staging.put(slot)
        staged.place = staged.source = target
        staged.spans.append(span)
        return staged

    def compute(self, work: Work, uploaded: _Travelling) -> _Travelling:
        """Queue a step of `work`, and the copy of its result into fixed memory, behind the upload."""
        target, source = next(self._outputs), uploaded.place

        def run() -> None:
            result = work.step(uploaded.frame(source))
            uploaded.before = result.before
            target.take(result)

        with self._queueing:
            self._compute.wait(uploaded.ready)
            uploaded.spans.append(self._queue(self._compute, target.free, run))
            uploaded.place, uploaded.work = target, work
            self._under_way.append(uploaded)
        return uploaded

    def download(self, computed: _Travelling) -> _Travelling:
        """Queue the copy into a pinned slot, waiting for a free one: this is what holds the host back."""
        with self._stages.download.waiting():
            slot = self._landing.get()
        with self._queueing:
            source = computed.place
            self._copy_out.wait(computed.ready)

            def run() -> None:
                slot.copy_from(source.planes)
                slot.sound.copy_(source.sound, non_blocking=True)

            span = self._queue(self._copy_out, None, run)
            source.free = span[1]
            computed.place = slot
            computed.spans.append(span)
        return computed

    @contextmanager
    def collect(self, pending: _Travelling) -> Iterator[Frame]:
        """Wait for the copy and lend the frame; the slot is free after the block. Raises ModelError for no picture."""
        with self._stages.encode.waiting():
            pending.ready.synchronize()
        stages = (self._stages.upload, self._stages.compute, self._stages.download)
        for stage, (begin, end) in zip(stages, pending.spans, strict=True):
            stage.busy_s += end.seconds_since(begin)
        if not pending.place.sound:
            self._make_again()
        with self._queueing:
            first = self._under_way.popleft()
        assert first is pending and pending.source is not None
        self._inputs.append(pending.source)
        pending.source = pending.before = pending.decoded = None
        yield pending.frame(pending.place)
        self._landing.put(pending.place)

    def _make_again(self) -> None:
        """Make the oldest frame under way again with care, then those behind it as usual, each into where it lies now.

        The one that the calling thread has not sent back yet lies on the device, all others in their landing slots.
        """
        with self._queueing:
            self._device.synchronize()
            for number, flight in enumerate(self._under_way):
                self._compute.launch(partial(_again, flight, number == 0))
                # Waiting here also brings the error of the device, or that the network cannot do better.
                self._compute.record().synchronize()

    @staticmethod
    def _queue(stream: Stream, after: Event | None, work: Callable[[], None]) -> tuple[Event, Event]:
        if after is not None:
            stream.wait(after)
        begin = stream.record()
        stream.launch(work)
        return begin, stream.record()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Memory must not be given back while copies that were queued still use it.
        self._device.synchronize()


def _again(flight: _Travelling, carefully: bool) -> None:
    """Make a frame again; behind the first each begins from the state that the one before it left."""
    assert flight.source is not None and flight.work is not None
    frame = flight.frame(flight.source)
    result = flight.work.redo(frame, flight.before) if carefully else flight.work.step(frame)
    flight.before = result.before
    flight.place.take(result)


def _ring(scope: Scope, name: str, device: AsyncDevice, spec: VideoSpec, slots: int) -> Channel[_Planes]:
    """Return a channel of free pinned frames like `spec`."""
    ring = scope.own(Channel[_Planes](slots, name=name))
    for _ in range(slots):
        ring.put(_allocate(device.on_host, spec))
    return ring


def _allocate(new: Callable[[tuple[int, ...], torch.dtype], Tensor], spec: VideoSpec) -> _Planes:
    layout = spec.layout
    sizes = [layout.plane_size(i, spec.width, spec.height) for i in range(layout.planes)]
    # Other threads write to it, and torch's inference mode, which the caller may be in, is of one thread.
    with torch.inference_mode(False):
        return _Planes(tuple(new(size, layout.dtype) for size in sizes), new((), torch.bool))


class CudaEvent:
    """A CUDA event that can measure time."""

    def __init__(self, stream: Any) -> None:
        # Not blocking, a thread that waits would keep a core busy, which decoder and encoder need.
        self.event: Any = torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]
        self.event.record(stream)

    def synchronize(self) -> None:
        """Block the calling thread, without the interpreter lock, until the device is here."""
        self.event.synchronize()

    def seconds_since(self, earlier: CudaEvent) -> float:
        """Return the device seconds from `earlier` to here."""
        milliseconds: float = earlier.event.elapsed_time(self.event)
        return milliseconds / 1000


class CudaStream:
    """A CUDA stream."""

    def __init__(self, device: torch.device) -> None:
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def launch(self, work: Callable[[], None]) -> None:
        """Call `work` at once; what it launches lands on this stream."""
        with torch.cuda.stream(self._stream):
            work()

    def record(self) -> CudaEvent:
        """Return a new event recorded here."""
        return CudaEvent(self._stream)

    def wait(self, event: CudaEvent) -> None:
        """Let this stream wait for `event`."""
        self._stream.wait_event(event.event)


class CudaDevice:
    """CUDA behind the seam."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def stream(self, name: str) -> CudaStream:
        """Return a new stream of this device."""
        return CudaStream(self._device)

    def on_host(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return pinned memory."""
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    def on_device(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return device memory."""
        return torch.empty(shape, dtype=dtype, device=self._device)

    def arrival(self, planes: tuple[Tensor, ...]) -> CudaEvent | None:
        """Return a mark on the default stream, where decoders and this thread's copies of their planes work."""
        return CudaEvent(torch.cuda.default_stream(self._device)) if planes[0].is_cuda else None

    def synchronize(self) -> None:
        """Wait for the device."""
        torch.cuda.synchronize(self._device)
