"""Job 4: each fused kernel against the torch operators that it replaces.

python benchmarks/gpu/kernels.py --out DIR [--minutes 2] [--rehearse]

Writes kernels.jsonl. A line has milliseconds of the kernel and of torch, their ratio, and the largest difference of the
results, at the sizes of a frame that becomes 1080p or 2160p. The two take turns. A rehearsal runs the kernels in
Triton's interpreter, where Triton is installed.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from engine import capture, per_call
from lines import Clock, Lines, machine
from speed import SCALE, SIZES
from torch import Tensor

from gtasr_video.frames import ColorSpec, PixelLayout
from gtasr_video.models import flow
from gtasr_video.models.camera import fit_affine
from gtasr_video.models.temporal import transport_noise
from gtasr_video.ops.color import rgb_to_yuv, yuv_to_rgb
from gtasr_video.ops.noise import keyed_gaussian
from gtasr_video.ops.resize import enlarge

LAYOUT, COLOR, CELL = PixelLayout("yuv420p"), ColorSpec("bt709"), 2
Results = tuple[Tensor, ...]


def pairs(size: tuple[int, int], device: torch.device) -> Iterator[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """Yield (name, kernel, torch) of what is compared on frames of `size`."""
    from gtasr_video.ops.kernels import motion, noise, planes

    height, width = size
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).to(device)

    sizes = [LAYOUT.plane_size(i, width, height) for i in range(3)]
    given = tuple(torch.randint(16, 235, s, dtype=torch.uint8, generator=draw).to(device) for s in sizes)
    yield (
        "picture_from_planes",
        lambda: (planes.picture_from_planes(given, LAYOUT, COLOR, 1),),
        lambda: (yuv_to_rgb(given, LAYOUT, COLOR).mul_(2).sub_(1),),
    )
    x = random(1, 3, height, width).clamp(-1, 1)
    side = CELL * SCALE
    cells = (random(1, 3 * side**2, height // CELL, width // CELL) / 20).to(torch.bfloat16)
    cells = cells.contiguous(memory_format=torch.channels_last)
    whole = height * SCALE, width * SCALE

    def plain() -> Results:
        picture = enlarge(x, SCALE) + torch.nn.functional.pixel_shuffle(cells, side).float()
        return rgb_to_yuv(picture.add_(1).mul_(0.5), LAYOUT, COLOR, dither=True)

    yield "planes_from_cells", lambda: planes.planes_from_cells(x, cells, CELL, SCALE, LAYOUT, COLOR, whole), plain
    age, shape = torch.ones(1, dtype=torch.int64, device=device), (3 * SCALE**2, height, width)
    yield (
        "keyed_gaussian",
        lambda: (noise.keyed_gaussian(1, age, shape),),
        lambda: (keyed_gaussian(1, age, shape),),
    )
    moving = random(1, *shape), random(1, 2, height, width).clamp(-1, 1) / 2, 2 * random(1, 2, height, width)
    arguments = *moving, random(1, 1, height, width) > -1, random(1, *shape)
    yield "transport_noise", lambda: noise.transport_noise(*arguments), lambda: transport_noise(*arguments)
    luma = x[:, :1, : height // flow.PATCH * flow.PATCH, : width // flow.PATCH * flow.PATCH]
    patches = random(1, 2, luma.shape[-2] // flow.PATCH, luma.shape[-1] // flow.PATCH)
    seen = luma, luma.roll(1, 3), patches
    yield (
        "patch_equations",
        lambda: (motion.patch_equations(*seen, flow.PATCH, 0.06),),
        lambda: (flow.patch_equations(*seen),),
    )
    yield (
        "patch_difference",
        lambda: (motion.patch_difference(*seen, flow.PATCH),),
        lambda: (flow.patch_difference(*seen),),
    )
    equations = flow.patch_equations(*seen)
    yield "solved", lambda: (motion.solved(equations, 1e-4),), lambda: (flow.solved(equations),)
    fit = patches, patches[:, :1].abs(), patches + 0.1, 0.8
    yield "fit_affine", lambda: (motion.fit_affine(*fit, 1e-3),), lambda: (fit_affine(*fit),)


def compare(
    kernel: Callable[[], Results], plain: Callable[[], Results], device: torch.device, seconds: float
) -> dict[str, Any]:
    """Measure both in turns."""
    times: dict[str, float] = {"kernel": float("inf"), "torch": float("inf")}
    works = {"kernel": kernel, "torch": plain}
    for work in works.values():
        work()
    # As graphs: launched one by one, what takes microseconds would be told by the time that Python takes.
    works = {name: capture(device)(work)[0] for name, work in works.items()}
    for _ in range(3 if seconds else 1):
        for name, work in works.items():
            times[name] = min(times[name], per_call(work, device, seconds / 6))
    gap = max(float((a.double() - b.double()).abs().max()) for a, b in zip(kernel(), plain(), strict=True))
    return {
        "kernel_ms": round(times["kernel"] * 1000, 4),
        "torch_ms": round(times["torch"] * 1000, 4),
        "ratio": round(times["torch"] / times["kernel"], 2),
        "gap_max": round(gap, 5),
    }


def main() -> None:
    """Compare until all is done or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--rehearse", action="store_true")
    chosen = parser.parse_args()
    device = torch.device("cpu" if chosen.rehearse else "cuda")
    if chosen.rehearse:
        os.environ["TRITON_INTERPRET"] = "1"
    sizes = {"tiny": (8, 12)} if chosen.rehearse else SIZES
    clock, lines = Clock(chosen.minutes), Lines(chosen.out, "kernels")
    lines.write(what="machine", **machine(device))
    # Not in inference mode: there the references would use the kernels themselves.
    with torch.no_grad():
        for name, size in reversed(sizes.items()):
            for kernel, fused, plain in pairs(size, device):
                facts = {"what": "kernel", "kernel": kernel, "size": name}
                if clock.left < 5 and not chosen.rehearse:
                    lines.write(**facts, error="no time was left")
                    continue
                try:
                    lines.write(**facts, **compare(fused, plain, device, 0.0 if chosen.rehearse else 2.0))
                except Exception as error:
                    lines.write(**facts, error=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


if __name__ == "__main__":
    main()
