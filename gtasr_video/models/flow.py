"""Motion between two LR frames, without learned weights: coarse-to-fine block matching, then gradients for fractions.

Blocks of 8 x 8 LR pixels are searched exhaustively at 1/4 size, then refined by one pixel at 1/2 and at full LR size,
and each cell then takes the best of its own block's vector, those of the four blocks around it and none, so that motion
borders are sharper than blocks. What whole pixels leave is found by two rounds of Lucas and Kanade's method (1981, "An
Iterative Image Registration Technique"). Everything is a fixed sequence of dense tensor operations: no loop over
blocks, no host decision, so that it can sit inside a captured graph.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.ops.edges import luma
from gtasr_video.ops.warp import warp

BLOCK = 8  # LR pixels along one side
COARSE = 4  # LR pixels along one side of a coarse pixel
SEARCH = 4  # in coarse pixels: +-16 LR pixels a frame
REACH = COARSE * SEARCH + 8  # no vector is longer than this in LR pixels, refinements and fractions included
_ZERO_BIAS = 0.004  # mean difference a coarse pixel of motion must earn, in [-1, 1] luma: keeps flat ground still
_ROUNDS = 2  # of the search for fractions
_WINDOW = 5  # cells along one side from which a fraction is found
_FLAT = 1e-4  # added to the mean squared gradient: flat ground gets no fraction


class Motion(NamedTuple):
    """Backward motion at cell resolution.

    whole  (B, 2, h, w) int64 (dx, dy) in LR pixels: what is here now was at p + whole in the frame before
    error  (B, 1, h, w) float32 mean absolute luma difference after `whole`, in [-1, 1] units
    flow   (B, 2, h, w) float32 `whole` and the fraction it lacks, at most a pixel a side
    left   (B, 1, h, w) float32 as `error`, after `flow`
    """

    whole: Tensor
    error: Tensor
    flow: Tensor
    left: Tensor


def block_motion(current: Tensor, previous: Tensor, cell: int) -> Motion:
    """Estimate the motion from `previous` to `current`, both (B, 3, H, W) in [-1, 1], one vector a `cell` of pixels.

    H and W must be multiples of `cell`. Motion of more than 16 LR pixels a frame is not found; the errors say so.
    """
    height, width = current.shape[-2:]
    now, before = (_fill(luma(x.float())) for x in (current, previous))
    blocks = _exhaustive(F.avg_pool2d(now, COARSE), F.avg_pool2d(before, COARSE))
    blocks = _refine(F.avg_pool2d(now, 2), F.avg_pool2d(before, 2), blocks * 2, BLOCK // 2)
    blocks = _refine(now, before, blocks * 2, BLOCK)
    whole, error = _choose(now, before, blocks, cell)
    flow, left = _fractions(now, before, whole, cell)
    rows, columns = height // cell, width // cell
    return Motion(*(x[..., :rows, :columns] for x in (whole, error, flow, left)))


def _fractions(now: Tensor, before: Tensor, whole: Tensor, cell: int) -> tuple[Tensor, Tensor]:
    """Return (flow, left) of `Motion`: the least squares fit of luma's gradients, looked at again where it leads."""
    fraction = torch.zeros_like(whole, dtype=torch.float32)
    framed = _Framed(before)
    moved = framed.at(_spread(framed.step(whole), cell))
    for _ in range(_ROUNDS):
        fraction = (fraction + _slope(now, moved, cell)).clamp(-1, 1)
        moved = warp(before, _spread(whole + fraction, cell))
    return whole + fraction, _box(F.avg_pool2d((now - moved).abs(), cell), 3)


def _slope(now: Tensor, moved: Tensor, cell: int) -> Tensor:
    """Return the small motion (B, 2, h, w) left between two luma pictures: two normal equations a cell."""
    padded = F.pad(moved, (1, 1, 1, 1), mode="replicate")
    gx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    gy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    gt = now - moved
    products = torch.cat([gx * gx, gx * gy, gy * gy, gx * gt, gy * gt], dim=1)
    xx, xy, yy, xt, yt = _box(F.avg_pool2d(products, cell), _WINDOW).chunk(5, dim=1)
    xx, yy = xx + _FLAT, yy + _FLAT
    slope: Tensor = torch.cat([yy * xt - xy * yt, xx * yt - xy * xt], dim=1) / (xx * yy - xy * xy)
    return slope


def _fill(x: Tensor) -> Tensor:
    """Extend the picture to whole blocks by repeating its border."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")


def _spread(field: Tensor, factor: int) -> Tensor:
    """Repeat each value of a field factor x factor times."""
    return field.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)


def _box(x: Tensor, size: int) -> Tensor:
    return F.avg_pool2d(x, size, stride=1, padding=size // 2, count_include_pad=False)


def _exhaustive(now: Tensor, before: Tensor) -> Tensor:
    """Try every shift within +-SEARCH coarse pixels; return the best of each block, (B, 2, H, W) int64.

    A block is seen with a margin of its own size around it: alone it has only 2 x 2 coarse pixels.
    """
    b, _, h, w = now.shape
    side = 2 * SEARCH + 1
    around = F.unfold(F.pad(before, [SEARCH] * 4, mode="replicate"), side).view(b, side * side, h, w)
    shifts = torch.arange(-SEARCH, SEARCH + 1, device=now.device)
    length = (shifts[:, None].abs() + shifts[None, :].abs()).flatten()
    cost = _box(F.avg_pool2d((around - now).abs(), BLOCK // COARSE), 3) + _ZERO_BIAS * length.view(1, -1, 1, 1)
    best = cost.argmin(dim=1)
    return torch.stack([best % side - SEARCH, best // side - SEARCH], dim=1)


class _Framed:
    """A picture (B, 1, H, W) continued on all sides as far as any vector leads, so that looking up needs no limits.

    A vector is one number here, the step it makes in the flat picture, and two vectors are added by adding these.
    """

    def __init__(self, picture: Tensor) -> None:
        h, w = picture.shape[-2:]
        self.width = w + 2 * REACH
        self.flat = F.pad(picture, [REACH] * 4, mode="replicate").flatten(1)
        rows, columns = (torch.arange(REACH, REACH + side, device=picture.device) for side in (h, w))
        self.home = rows[:, None] * self.width + columns

    def step(self, vector: Tensor) -> Tensor:
        """Return the steps (B, 1, h, w) of vectors (B, 2, h, w) of at most `REACH` a side."""
        return vector[:, 1:] * self.width + vector[:, :1]

    def at(self, step: Tensor) -> Tensor:
        """Return the picture at p + step (B, K, H, W), for each of K fields of steps."""
        return _take(self.flat[:, None], (self.home + step).flatten(1)).view(step.shape)


def _take(flat: Tensor, index: Tensor) -> Tensor:
    """Return the columns `index` (B, n) of `flat` (B, C, N); for one stream in one piece, which is much faster."""
    if len(flat) == 1:
        return flat.index_select(2, index[0])
    return flat.gather(2, index[:, None].expand(-1, flat.shape[1], -1))


def _refine(now: Tensor, before: Tensor, vector: Tensor, block: int) -> Tensor:
    """Move each block's vector by at most one pixel a side, to where it fits best."""
    framed = _Framed(before)
    near = [dy * framed.width + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    middle = _spread(framed.step(vector), block)
    steps = torch.cat([middle + one for one in near], dim=1)
    best = F.avg_pool2d((now - framed.at(steps)).abs(), block).argmin(dim=1, keepdim=True)
    return vector + torch.cat([best % 3 - 1, best // 3 - 1], dim=1)


def _choose(now: Tensor, before: Tensor, blocks: Tensor, cell: int) -> tuple[Tensor, Tensor]:
    """Give each cell the best of the vectors of its block, of the blocks around it, and no motion."""
    h, w = blocks.shape[-2:]
    around = F.pad(blocks.float(), (1, 1, 1, 1), mode="replicate").long()
    places = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    candidates = [around[..., y : y + h, x : x + w] for y, x in places]
    candidates.append(torch.zeros_like(blocks))
    framed = _Framed(before)
    steps = torch.cat([framed.step(candidate) for candidate in candidates], dim=1)
    away = (now - framed.at(_spread(steps, BLOCK))).abs()
    error, best = _box(F.avg_pool2d(away, cell), 3).min(dim=1, keepdim=True)
    vectors = [_spread(torch.stack([c[:, k] for c in candidates], dim=1), BLOCK // cell) for k in (0, 1)]
    return torch.cat([field.gather(1, best) for field in vectors], dim=1), error


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
    return _take(x.reshape(b, c, h * w), index).view(b, c, h, w)
