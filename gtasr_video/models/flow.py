"""Motion between two LR frames, without learned weights: coarse-to-fine block matching.

Three levels on luma: an exhaustive search at 1/4 size, then refinement by one pixel at 1/2 and at full LR size, with a
parabola through the last costs for the fraction. Everything is a fixed sequence of dense tensor operations: no loop
over blocks, no host decision, so that it can sit inside a captured graph. `docs/decisions/0004-motion.md` has the
comparison with the alternatives.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.ops.edges import luma

COARSE = 4
SEARCH = 4  # in coarse pixels: +-16 LR pixels a frame
_ZERO_BIAS = 0.004  # cost a coarse pixel of motion must earn, in [-1, 1] luma: keeps flat ground still


class Motion(NamedTuple):
    """Backward motion at cell resolution.

    whole     (B, 2, h, w) int64 (dx, dy) in LR pixels: what is here now was at p + whole in the frame before
    fraction  (B, 2, h, w) float32 in [-0.5, 0.5], to be added to `whole` for the sub-pixel motion
    error     (B, 1, h, w) float32 mean absolute luma difference after motion, in [-1, 1] units
    """

    whole: Tensor
    fraction: Tensor
    error: Tensor


def block_motion(current: Tensor, previous: Tensor, cell: int) -> Motion:
    """Estimate the motion from `previous` to `current`, both (B, 3, H, W) in [-1, 1], one vector a `cell` of pixels.

    H and W must be multiples of `cell`. Motion of more than 16 LR pixels a frame is not found; the error says so.
    """
    now, before = luma(current.float()), luma(previous.float())
    vector = _exhaustive(_shrink(now, COARSE), _shrink(before, COARSE))
    half_now, half_before = _shrink(now, 2), _shrink(before, 2)
    vector = _fit(vector * 2, half_now)
    vector, _, _ = _refine(half_now, half_before, vector, block=1)
    vector = _fit_to(vector * 2, now.shape[-2] // cell, now.shape[-1] // cell)
    whole, fraction, error = _refine(now, before, vector, block=cell)
    return Motion(whole, fraction, error)


def _shrink(x: Tensor, factor: int) -> Tensor:
    h, w = x.shape[-2:]
    padded = F.pad(x, (0, -w % factor, 0, -h % factor), mode="replicate")
    return F.avg_pool2d(padded, factor)


def _fit(vector: Tensor, like: Tensor) -> Tensor:
    return _fit_to(vector, like.shape[-2], like.shape[-1])


def _fit_to(vector: Tensor, height: int, width: int) -> Tensor:
    """Resample an integer vector field to `height` x `width` by nearest neighbour."""
    return F.interpolate(vector.float(), size=(height, width), mode="nearest").long()


def _box(x: Tensor, size: int) -> Tensor:
    return F.avg_pool2d(x, size, stride=1, padding=size // 2, count_include_pad=False)


def _exhaustive(now: Tensor, before: Tensor) -> Tensor:
    """Try every shift within +-SEARCH; return the best (B, 2, h, w) int64."""
    b, _, h, w = now.shape
    side = 2 * SEARCH + 1
    around = F.unfold(F.pad(before, [SEARCH] * 4, mode="replicate"), side).view(b, side * side, h, w)
    shifts = torch.arange(-SEARCH, SEARCH + 1, device=now.device)
    length = (shifts[:, None].abs() + shifts[None, :].abs()).flatten()
    cost = _box((around - now).abs(), 5) + _ZERO_BIAS * length.view(1, -1, 1, 1)
    best = cost.argmin(dim=1)
    return torch.stack([best % side - SEARCH, best // side - SEARCH], dim=1)


def _refine(now: Tensor, before: Tensor, vector: Tensor, block: int) -> tuple[Tensor, Tensor, Tensor]:
    """Move each block's vector by at most one pixel a side, to where it fits best.

    Returns (vector int64, fraction float, error float), one a block.
    """
    size = now.shape[-2:]
    dense = _fit_to(vector, *size) if block > 1 else vector
    costs = []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            moved = gather_pixels(before, dense + _offset(dx, dy, dense))
            difference = (now - moved).abs()
            cost = _box(F.avg_pool2d(difference, block) if block > 1 else difference, 3)
            costs.append(cost + _ZERO_BIAS / COARSE * (abs(dx) + abs(dy)))
    cost = torch.cat(costs, dim=1)
    error, best = cost.min(dim=1, keepdim=True)
    step = torch.cat([best % 3 - 1, best // 3 - 1], dim=1)
    return vector + step, _parabola(cost, best), error


def _offset(dx: int, dy: int, like: Tensor) -> Tensor:
    return torch.tensor([dx, dy], device=like.device).view(1, 2, 1, 1)


def _parabola(cost: Tensor, best: Tensor) -> Tensor:
    """Return the minimum's fraction (B, 2, h, w) from a parabola through three costs; 0 at the window's border."""

    def axis(step: int, position: Tensor) -> Tensor:
        inside = position == 1
        left = cost.gather(1, (best - step).clamp(0, 8))
        right = cost.gather(1, (best + step).clamp(0, 8))
        middle = cost.gather(1, best)
        curve = left - 2 * middle + right
        fraction = 0.5 * (left - right) / curve.clamp(min=1e-6)
        return torch.where(inside & (curve > 1e-6), fraction.clamp(-0.5, 0.5), torch.zeros_like(fraction))

    return torch.cat([axis(1, best % 3), axis(3, best // 3)], dim=1)


def source_index(vector: Tensor) -> tuple[Tensor, Tensor]:
    """Return (flat index (B, h*w) int64 of p + vector clamped into the picture, inside (B, 1, h, w) bool)."""
    b, _, h, w = vector.shape
    x = torch.arange(w, device=vector.device).view(1, 1, w) + vector[:, 0]
    y = torch.arange(h, device=vector.device).view(1, h, 1) + vector[:, 1]
    inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
    flat = y.clamp(0, h - 1) * w + x.clamp(0, w - 1)
    return flat.view(b, h * w), inside[:, None]


def gather_pixels(x: Tensor, vector: Tensor) -> Tensor:
    """Return x (B, C, H, W) at p + vector (B, 2, H, W) int64, edges replicated; differentiable in x."""
    b, c, h, w = x.shape
    index, _ = source_index(vector)
    return x.reshape(b, c, h * w).gather(2, index[:, None].expand(b, c, h * w)).view(b, c, h, w)
