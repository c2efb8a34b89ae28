"""The glue around the network in fused Triton kernels, for CUDA; each has its torch reference and is tested against it.

    picture_from_planes   YUV planes -> the network's input      reference: ops.color.yuv_to_rgb, and padding
    planes_from_cells     what the network gives -> YUV planes   reference: ops.resize.enlarge, ops.color.rgb_to_yuv
    keyed_gaussian        the noise, drawn                       reference: ops.noise.keyed_gaussian
    transport_noise       the noise, moved                       reference: models.temporal.transport_noise
    patch_equations, patch_difference, solved      the search for motion, reference: models.flow
    fit_affine            the motion of the camera               reference: models.camera.fit_affine

Triton comes with torch's CUDA builds; nothing here is imported elsewhere. Before a kernel is relied on it must have
compiled and given on the device what its reference gives (`proven`).
"""

from __future__ import annotations

import importlib.util
import logging
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.frames import ColorSpec, PixelLayout

log = logging.getLogger("gtasr_video")


def usable(tensor: Tensor) -> bool:
    """Return whether the kernels are to be used for `tensor`: on CUDA, in inference, where they are `proven`.

    Not while torch.compile traces: it fuses torch's operators itself.
    """
    traced = torch.compiler.is_compiling()
    return tensor.is_cuda and torch.is_inference_mode_enabled() and not traced and proven(tensor.device)


@cache
def proven(device: torch.device) -> bool:
    """Return whether the kernels compile on `device` and agree there with torch; says why not, once."""
    if importlib.util.find_spec("triton") is None:
        log.info("kernels: Triton is not installed; torch's operators are used")
        return False
    try:
        _try(device)
    except Exception as error:
        log.warning(
            "kernels: not used on %s (%s: %s)", device, type(error).__name__, " ".join(str(error).split())[:200]
        )
        return False
    return True


@torch.no_grad()
@torch.inference_mode(False)
def _try(device: torch.device) -> None:
    """Raise if a kernel does not run or differs. Out of inference mode, where the references are what they are."""
    from gtasr_video.ops.color import rgb_to_yuv, yuv_to_rgb
    from gtasr_video.ops.kernels import noise, planes
    from gtasr_video.ops.noise import keyed_gaussian
    from gtasr_video.ops.resize import enlarge

    draw = torch.Generator().manual_seed(0)
    layout, color = PixelLayout("yuv420p"), ColorSpec()
    sizes = ((24, 32), (12, 16), (12, 16))
    given = tuple(torch.randint(0, 256, size, dtype=torch.uint8, generator=draw).to(device) for size in sizes)
    x = planes.picture_from_planes(given, layout, color, 1)
    _agree(x, yuv_to_rgb(given, layout, color) * 2 - 1, 1e-4)
    cells = torch.randn(1, 192, 12, 16, generator=draw).to(device, torch.bfloat16) / 10
    found = planes.planes_from_cells(x, cells, 2, 4, layout, color, (96, 128))
    picture = enlarge(x, 4) + F.pixel_shuffle(cells, 8).float()
    for one, other in zip(found, rgb_to_yuv((picture + 1) / 2, layout, color, dither=True), strict=True):
        _agree(one.float(), other.float(), 1)
    age = torch.zeros(1, dtype=torch.int64, device=device)
    _agree(noise.keyed_gaussian(3, age, (4, 8, 8)), keyed_gaussian(3, age, (4, 8, 8)), 1e-3)
    _try_motion(device)


def _try_motion(device: torch.device) -> None:
    """Raise if not found: a slope that moved by a pixel. The references of these kernels are above this layer."""
    from gtasr_video.ops.kernels import motion

    slope = (torch.arange(32.0, device=device) / 10).expand(1, 1, 24, 32)
    still = torch.zeros(1, 2, 6, 8, device=device)
    step = motion.solved(motion.patch_equations(slope + 0.1, slope, still, 4, 0.06), 1e-8)[..., 1:-1]
    _agree(step, torch.ones_like(step) * torch.tensor([1.0, 0.0], device=device).view(2, 1, 1), 1e-3)
    _agree(motion.fit_affine(step, torch.ones_like(step[:, :1]), step, 0.1, 1e-3), step, 1e-3)
    gap = motion.patch_difference(slope + 0.1, slope, still, 4)
    _agree(gap, torch.full_like(gap, 0.1), 1e-4)


def _agree(one: Tensor, other: Tensor, tolerance: float) -> None:
    gap = float((one - other).abs().max())
    if gap > tolerance:
        raise ArithmeticError(f"a kernel differs from torch by {gap:g}")
