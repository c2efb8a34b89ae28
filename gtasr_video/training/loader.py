"""Batches in a fixed order, made ahead by worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, Dataset

from gtasr_video.errors import GTASRVideoError, TrainingError
from gtasr_video.training.batches import Batch

if TYPE_CHECKING:
    from gtasr_video.training.clips import ClipSource


class _Numbered(Dataset["Batch | GTASRVideoError"]):
    """Batch number n holds the clips n * size .. (n + 1) * size - 1.

    Errors are returned, so that their message stays one line instead of a worker's traceback.
    """

    def __init__(self, source: ClipSource, size: int) -> None:
        self.source, self.size = source, size

    def __getitem__(self, number: int) -> Batch | GTASRVideoError:
        try:
            return self.source.batch(range(number * self.size, (number + 1) * self.size))
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

    workers    processes beside this one, which share the decoded material by fork; 0 makes batches here, as does a
               source on another device than the CPU
    prefetch   batches made ahead by each worker
    Raises TrainingError while iterating if a worker dies.
    """

    def __init__(
        self, source: ClipSource, batch_size: int, start_index: int = 0, workers: int = 1, prefetch: int = 4
    ) -> None:
        options: dict[str, Any] = {}
        if workers and source.device.type == "cpu":
            options = {"num_workers": workers, "prefetch_factor": prefetch, "multiprocessing_context": "fork"}
        self._loader = DataLoader(
            _Numbered(source, batch_size), batch_size=None, sampler=_From(start_index), collate_fn=_as_is, **options
        )

    def __iter__(self) -> Iterator[Batch]:
        try:
            for item in self._loader:
                if isinstance(item, GTASRVideoError):
                    raise item
                yield item
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            reason = str(error).splitlines()[0]
            raise TrainingError(f"a data process ended unexpectedly, perhaps for want of memory: {reason}") from error


def _as_is(item: Any) -> Any:
    return item
