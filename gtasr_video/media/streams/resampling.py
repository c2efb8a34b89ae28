"""Sound to another rate, piece by piece, with torchaudio's resampler."""

from __future__ import annotations

import importlib
import math
import sys
import types
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

_EXTENSION: Final = "torchaudio._extension"
# Input samples, at the lower of both rates, on each side that a filter of width 6 looks at, with room to spare.
_REACH: Final = 16


def load_resample() -> Callable[[Tensor, int, int], Tensor]:
    """Return ``torchaudio.functional.resample``.

    torchaudio's compiled part links the CUDA libraries and does not load beside a CPU build of torch. The resampler
    is plain torch and does not need it: there an empty module stands in for it.
    """
    try:
        functional = importlib.import_module("torchaudio.functional")
    except OSError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
            del sys.modules[name]
        stand_in: Any = types.ModuleType(_EXTENSION)
        stand_in._IS_TORCHAUDIO_EXT_AVAILABLE = False
        stand_in.fail_if_no_align = lambda function: function
        sys.modules[_EXTENSION] = stand_in
        functional = importlib.import_module("torchaudio.functional")
    resample: Callable[[Tensor, int, int], Tensor] = functional.resample
    return resample


class Resampler:
    """Brings a stream of samples from `rate` to `target` a second, the same whatever pieces it comes in.

    Each piece is resampled with its neighbours around it, of which only its own part is kept; the last few samples
    wait for what follows them.
    """

    def __init__(self, rate: int, target: int) -> None:
        common = math.gcd(rate, target)
        self._step, self._out = rate // common, target // common
        self._rate, self._target = rate, target
        self._resample = load_resample()
        # Whole steps, so that every cut falls on a sample of both rates.
        reach = _REACH * max(1, math.ceil(rate / target))
        self._margin = math.ceil(reach / self._step) * self._step
        self._held: Tensor | None = None
        self._before = 0

    def push(self, samples: Tensor) -> Tensor:
        """Return what is ready after `samples` (channels, n) float; the shape is (channels, m)."""
        held = samples if self._held is None else torch.cat((self._held, samples), 1)
        ready = (held.shape[1] - self._margin - self._before) // self._step * self._step
        if ready <= 0:
            self._held = held
            return samples.new_zeros(samples.shape[0], 0)
        return self._take(held, ready)

    def _take(self, held: Tensor, ready: int) -> Tensor:
        """Resample the `ready` samples after those that only go before, and keep what the next ones need."""
        whole = self._resample(held, self._rate, self._target)
        begin = self._before // self._step * self._out
        end = self._before + ready
        keep = min(end, self._margin)
        self._held, self._before = held[:, end - keep :], keep
        return whole[:, begin : begin + ready // self._step * self._out]

    def flush(self) -> Tensor:
        """Return the rest."""
        if self._held is None:
            return torch.zeros(0, 0)
        whole = self._resample(self._held, self._rate, self._target)
        self._held, rest = None, whole[:, self._before // self._step * self._out :]
        return rest
