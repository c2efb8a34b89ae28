"""Batches in a fixed order, made ahead by worker processes, or by a thread where they are made on a device."""

from __future__ import annotations

import contextlib
import gc
import queue
import signal
import threading
from collections.abc import Generator, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, Dataset

from gtasr_video.errors import GTASRVideoError, TrainingError
from gtasr_video.training.batches import Batch

if TYPE_CHECKING:
    from gtasr_video.training.clips import ClipSource

_DEVICE_AHEAD = 2


class _Numbered(Dataset["Batch | GTASRVideoError"]):
    """Batch number n holds the clips n * size .. (n + 1) * size - 1; of these, those of number `part` of `parts`.

    Errors are returned, so that their message stays one line instead of a worker's traceback.
    """

    def __init__(self, source: ClipSource, size: int, part: int, parts: int) -> None:
        self.source, self.size = source, size
        self.share = size // parts
        self.first = part * self.share

    def __getitem__(self, number: int) -> Batch | GTASRVideoError:
        try:
            first = number * self.size + self.first
            return self.source.batch(range(first, first + self.share))
        except GTASRVideoError as error:
            return error


class _From:
    """Numbers from `first` up, without end."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        number = self.first
        while True:
            yield number
            number += 1


class Loader:
    """Endless batches of `source`, number `start_index` first; the order does not depend on the workers.

    workers    processes beside this one, which share the decoded material by fork; 0 makes batches when asked. A source
               on another device than the CPU uses one thread instead, so that the device need not wait for Python.
    prefetch   batches made ahead by each worker
    part       (k, n): only the k-th of n equal parts of each batch, where n processes share it
    Raises TrainingError while iterating if a worker dies.
    """

    def __init__(
        self,
        source: ClipSource,
        batch_size: int,
        start_index: int = 0,
        workers: int = 1,
        prefetch: int = 4,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        on_cpu = source.device.type == "cpu"
        options: dict[str, Any] = {}
        if workers and on_cpu:
            options = {"num_workers": workers, "prefetch_factor": prefetch, "multiprocessing_context": "fork"}
            options["worker_init_fn"] = _outlive_one_sigterm
        batches = _Numbered(source, batch_size, *part)
        self._loader = DataLoader(batches, batch_size=None, sampler=_From(start_index), collate_fn=_as_is, **options)
        self._in_thread = bool(workers) and not on_cpu

    def __iter__(self) -> Iterator[Batch]:
        with _ready_to_fork():
            made = iter(self._loader)
        items = ahead(made, _DEVICE_AHEAD) if self._in_thread else made
        try:
            for item in items:
                if isinstance(item, GTASRVideoError):
                    raise item
                yield item
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            reason = str(error).splitlines()[0]
            raise TrainingError(f"a data process ended unexpectedly, perhaps for want of memory: {reason}") from error


@contextlib.contextmanager
def _ready_to_fork() -> Iterator[None]:
    """Leave nothing of this process for a child to collect.

    A decoder with threads that is freed in a child waits for threads that the child does not have, for ever.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _outlive_one_sigterm(worker: int) -> None:
    """Let a data process go on after one SIGTERM: where a whole group is told to end, the step under way wants it."""

    def heard(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, heard)


def _as_is(item: Any) -> Any:
    return item


def ahead(items: Iterator[Any], depth: int) -> Generator[Any, None, None]:
    """Yield `items`, up to `depth` of them made ahead by a thread; what it raises is raised here.

    The thread ends with this iterator, also when it is left early.
    """
    ready: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    stopped = threading.Event()
    thread = threading.Thread(target=_make, args=(items, ready, stopped), name="clips", daemon=True)
    thread.start()
    try:
        while True:
            is_item, value = ready.get()
            if is_item:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        stopped.set()
        _drain(ready)
        thread.join()


def _make(items: Iterator[Any], ready: queue.Queue[tuple[bool, Any]], stopped: threading.Event) -> None:
    end: BaseException | None = None
    try:
        for item in items:
            ready.put((True, item))
            if stopped.is_set():
                return
    except BaseException as error:
        end = error
    ready.put((False, end))


def _drain(ready: queue.Queue[tuple[bool, Any]]) -> None:
    """Make room, so that a thread that waits to put goes on and sees that it is to stop."""
    while not ready.empty():
        ready.get_nowait()
