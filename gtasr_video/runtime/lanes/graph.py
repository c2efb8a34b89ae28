"""Recording work as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def cuda_capture(work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """Record what `work` launches, with memory of its own for all that it makes, on the current device.

    `work` has run before; see `gtasr_video.runtime.backends.graphed.Capture`. cuDNN is left to choose its algorithms by
    rule: trying them out would choose now one and now another, and the same frames would give other bytes.
    """
    graph: Any = torch.cuda.CUDAGraph()
    # Of this thread alone: meanwhile others wait for events of frames under way.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = work()
    return graph.replay, result
