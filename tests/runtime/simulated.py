"""A device that works on its own: queued copies, events, and completion as late and as unfairly as the rules allow.

Nothing queued runs until a host thread waits for an event. Then streams run in the order of `priority` (or drawn by
`seed`), each as far as it can, until that event is reached. So work that is not tied to its neighbours by events
reads what is not there yet or overwrites what is still needed, and the test sees wrong pictures.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class DeviceError(RuntimeError):
    """What the device itself raises, long after the host has gone on."""


class SimulatedEvent:
    def __init__(self, device: SimulatedDevice) -> None:
        self._device = device
        self.reached = False
        self.at = 0.0

    def synchronize(self) -> None:
        self._device.run_until(self)

    def seconds_since(self, earlier: SimulatedEvent) -> float:
        assert self.reached and earlier.reached, "asked for the time of an event that was not reached"
        return self.at - earlier.at


class SimulatedStream:
    def __init__(self, device: SimulatedDevice, name: str) -> None:
        self.name = name
        self._device = device
        self.queue: deque[tuple[str, object]] = deque()

    def launch(self, work: Callable[[], None]) -> None:
        self._device.add(self, "run", work)

    def record(self) -> SimulatedEvent:
        event = SimulatedEvent(self._device)
        self._device.add(self, "record", event)
        return event

    def wait(self, event: SimulatedEvent) -> None:
        self._device.add(self, "wait", event)


class SimulatedDevice:
    """`fail_at` makes the n-th piece of work on the stream `fail_on` break, counted from 1."""

    def __init__(
        self,
        priority: Sequence[str] | None = None,
        *,
        seed: int = 0,
        fail_on: str | None = None,
        fail_at: int = 0,
    ) -> None:
        self.streams: list[SimulatedStream] = []
        self.arrivals: dict[int, SimulatedEvent] = {}
        self._decoders: list[SimulatedStream] = []
        self.host_bytes = self.device_bytes = 0
        self.longest_queue = 0
        self.clock = 0.0
        self._priority = priority
        self._random = random.Random(seed)
        self._fail_on, self._left = fail_on, fail_at
        self._broken: Exception | None = None
        self._lock = threading.RLock()

    def stream(self, name: str) -> SimulatedStream:
        self.streams.append(SimulatedStream(self, name))
        return self.streams[-1]

    def on_host(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        memory = torch.zeros(shape, dtype=dtype)
        self.host_bytes += memory.nbytes
        return memory

    def on_device(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        memory = torch.zeros(shape, dtype=dtype)
        self.device_bytes += memory.nbytes
        return memory

    def arrival(self, planes: tuple[Tensor, ...]) -> SimulatedEvent | None:
        return self.arrivals.pop(planes[0].data_ptr(), None)

    def decoded(self, planes: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return planes as a decoder on the device gives them: they hold their picture later."""
        if not self._decoders:
            self._decoders.append(self.stream("decoder"))
        empty = tuple(torch.zeros_like(plane) for plane in planes)
        self._decoders[0].launch(lambda: [place.copy_(plane) for place, plane in zip(empty, planes, strict=True)])
        self.arrivals[empty[0].data_ptr()] = self._decoders[0].record()
        return empty

    def synchronize(self) -> None:
        with self._lock:
            while self._step():
                pass
            assert self._broken or not any(s.queue for s in self.streams), "the streams wait for each other for ever"

    def add(self, stream: SimulatedStream, kind: str, item: object) -> None:
        with self._lock:
            stream.queue.append((kind, item))
            self.longest_queue = max(self.longest_queue, sum(kind == "run" for kind, _ in stream.queue))

    def run_until(self, event: SimulatedEvent) -> None:
        with self._lock:
            while not event.reached:
                if self._broken is not None:
                    raise self._broken
                assert self._step(), "the host waits for an event that will never come"

    def _step(self) -> bool:
        """Do one thing on the first stream, in the unfair order, that can do one."""
        order = list(self.streams)
        if self._priority is None:
            self._random.shuffle(order)
        else:
            order.sort(key=lambda stream: self._priority.index(stream.name))
        return self._broken is None and any(self._advance(stream) for stream in order)

    def _advance(self, stream: SimulatedStream) -> bool:
        if not stream.queue:
            return False
        kind, item = stream.queue[0]
        if kind == "wait" and not item.reached:
            return False
        stream.queue.popleft()
        self.clock += 0.001
        if kind == "record":
            item.reached, item.at = True, self.clock
        elif kind == "run":
            self._run(stream, item)
        return True

    def _run(self, stream: SimulatedStream, work: Callable[[], None]) -> None:
        if stream.name == self._fail_on:
            self._left -= 1
            if self._left == 0:
                self._broken = DeviceError(f"broken in {stream.name}")
                return
        try:
            work()
        except Exception as error:
            self._broken = error
