"""Enlarge frames in a process whose memory the system limits: python -m tests.runtime.limited before|after MIB OUT."""

from __future__ import annotations

import json
import logging
import resource
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from gtasr_video.device import Device
from gtasr_video.frames import Frame, VideoSpec
from gtasr_video.media.planes import LAYOUTS
from gtasr_video.models import load_model
from gtasr_video.runtime.footprint import peak_bytes
from gtasr_video.runtime.upscaler import Upscaler
from tests import fakes

# For such a process: each tensor has its own mapping, as what is freed into glibc's heap still counts against a limit.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(1 << 18)}

SPEC = VideoSpec(800, 608, Fraction(1, 25), LAYOUTS["yuv420p"], frame_rate=Fraction(25))


def frames(count: int) -> Iterator[Frame]:
    """Yield pictures of a texture that moves by three pixels a frame."""
    luma, grey = (
        noise((SPEC.height, SPEC.width)),
        torch.full((SPEC.height // 2, SPEC.width // 2), 128, dtype=torch.uint8),
    )
    for number in range(count):
        yield Frame((luma.roll(3 * number, 1), grey, grey), number, 1, number == 0)


def noise(size: tuple[int, int]) -> torch.Tensor:
    """Return soft noise in 8 bits."""
    coarse = torch.rand(1, 1, size[0] // 4, size[1] // 4, generator=torch.Generator().manual_seed(0))
    return (F.interpolate(coarse, size, mode="bicubic")[0, 0].clamp(0, 1) * 219 + 16).to(torch.uint8)


def enlarge(upscaler: Upscaler) -> dict[str, torch.Tensor]:
    """Return the planes of two frames by name."""
    results = [frame for source in frames(2) for frame in upscaler.push(source)]
    return {f"{n}{i}": plane for n, frame in enumerate(results) for i, plane in enumerate(frame.planes)}


def upscaler_for() -> Upscaler:
    """Return what is tested, on torch, which runs out of memory in the open."""
    return Upscaler(load_model("s"), device=Device(torch.device("cpu"), torch.float32, "as told"), backend="torch")


def warm_up(upscaler: Upscaler) -> None:
    """Let libraries take what they take once."""
    small = VideoSpec(64, 48, SPEC.time_base, SPEC.layout, frame_rate=SPEC.frame_rate)
    upscaler.start(small)
    for frame in fakes.frames(small, 1):
        upscaler.push(frame)
    upscaler.flush()
    peak_bytes(upscaler.model, 32, 32)  # counting loads some 70 MB of libraries


def limit(mib: int) -> None:
    """Let this process have `mib` MiB more than it has."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    now = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (now + (mib << 20), -1))


def main(when: str, mib: str, out: str) -> None:
    """Run with the limit set before the upscaler knows its frames, or only after."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    upscaler = upscaler_for()
    warm_up(upscaler)
    if when == "before":
        limit(int(mib))
    upscaler.start(SPEC)
    if when == "after":
        limit(int(mib))
    begun = str(upscaler.grid)
    planes = enlarge(upscaler)
    # Writing the result is not what is tested.
    resource.setrlimit(resource.RLIMIT_DATA, (-1, -1))
    save_file(planes, out)
    print(json.dumps({"begun": begun, "ended": str(upscaler.grid)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
