"""Recording work as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class CudaCapture:
    """Records what `work` launches, with memory of its own for all that it makes, on the current device."""

    def __init__(self) -> None:
        # Shapes stay: let cuDNN try its algorithms on the first frames.
        torch.backends.cudnn.benchmark = True

    def __call__(self, work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """Record `work`, which has run before; see `gtasr_video.runtime.backends.graphed.Capture`."""
        graph: Any = torch.cuda.CUDAGraph()
        # Of this thread alone: meanwhile others wait for events of frames under way.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = work()
        return graph.replay, result
