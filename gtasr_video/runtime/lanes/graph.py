"""Recording work as a CUDA graph."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch


def cuda_capture(work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """Record what `work` launches, with memory of its own for all that it makes, on the current device.

    `work` has run before; see `gtasr_video.runtime.backends.graphed.Capture`. cuDNN is left to choose its algorithms by
    rule: trying them out would choose now one and now another, and the same frames would give other bytes.
    What `work` raises, or what cannot be recorded, is raised, and the device is as it was.
    """
    graph: Any = torch.cuda.CUDAGraph()
    pool: Any = torch.cuda.graph_pool_handle()
    # Of this device: torch's own stream for captures is of the device that was current at the first of all.
    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    here, device = torch.cuda.current_stream(), torch.cuda.current_device()
    try:
        # Errors are those of this thread alone: meanwhile others wait for events of frames under way.
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            result = work()
    except BaseException:
        # Where ending the capture fails, torch leaves this thread on its stream, and the allocator in its pool.
        torch.cuda.set_stream(here)
        with contextlib.suppress(RuntimeError, AttributeError):  # not left there, or no longer by this name
            torch._C._cuda_endAllocateToPool(device, pool)
            # A graph gives its pool back only where its capture ended.
            torch._C._cuda_releasePool(device, pool)
        raise
    return graph.replay, result
