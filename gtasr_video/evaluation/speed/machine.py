"""The machine a measurement was made on, and how fast it multiplies matrices."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

from gtasr_video.device import Device, describe
from gtasr_video.evaluation.speed.clock import Samples

_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimd", "asimddp", "i8mm")
_SIDE = 1024


def machine(device: Device) -> dict[str, Any]:
    """Return what a reader of figures must know; `load` is how busy the machine was already, in cores."""
    flags = _cpuinfo("flags").split() or _cpuinfo("Features").split()
    return {
        "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "features": [name for name in _FEATURES if name in flags],
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "device": describe(device.torch_device),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _cpuinfo(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == name), "")


@torch.inference_mode()
def matrix_rate(device: Device, seconds: float = 0.4) -> float:
    """Return the multiply-accumulates a second of large matrix products in the device's type: the best of some."""
    # Large products on a GPU, so that starting them does not count.
    side = _SIDE * (8 if device.torch_device.type == "cuda" else 1)
    a, b = (torch.randn(side, side, device=device.torch_device, dtype=device.dtype) for _ in range(2))
    samples, begun = Samples(), time.perf_counter()
    while len(samples.wall_ms) < 3 or time.perf_counter() - begun < seconds:
        samples.take(lambda: torch.mm(a, b)[0, 0].item())
    return side**3 / (min(samples.wall_ms) / 1000)
