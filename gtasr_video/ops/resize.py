"""Bicubic resizing, one definition for the whole project."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

BICUBIC_REACH = 2  # LR pixels to each side that a pixel enlarged from them depends on, or one shrunk to their size


def bicubic(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, C, H, W) to `size` (height, width) with torch's bicubic: antialiased if a side shrinks.

    So it serves for both enlarging and the clean degradation. Torch has two kernels (Keys 1981): a = -0.75 when it
    enlarges without antialiasing, a = -0.5, stretched by the factor, when it is antialiased.
    """
    shrinks = size[0] < x.shape[-2] or size[1] < x.shape[-1]
    return F.interpolate(x, size=size, mode="bicubic", align_corners=False, antialias=shrinks)


def enlarge(x: Tensor, scale: int) -> Tensor:
    """Return the bicubic enlargement of (B, C, H, W) by the integer `scale` (1 returns `x` itself)."""
    return x if scale == 1 else bicubic(x, (x.shape[-2] * scale, x.shape[-1] * scale))


def enlarge_in_cells(plane: Tensor, cell: int, scale: int) -> Tensor:
    """Return ``pixel_unshuffle(enlarge(plane, scale), cell * scale)`` of (B, 1, H, W), to rounding.

    By one convolution in float32: neither the large picture nor its rearrangement passes through memory.
    """
    reach = _reach_in_cells(cell, scale)
    bordered = F.pad(plane.float(), [reach * cell] * 4, mode="replicate")
    return F.conv2d(F.pixel_unshuffle(bordered, cell), _kernel_for(cell, cell * scale, reach, plane.device))


def enlarging_kernel(cell: int, scale: int) -> tuple[Tensor, int]:
    """Return (f^2, cell^2, k, k) float64, one plane in cells to its enlargement in cells, and its reach in LR pixels.

    Cells of the enlargement are f = cell * scale pixels a side.
    """
    reach = _reach_in_cells(cell, scale)
    return _kernel(cell, cell * scale, reach), reach * cell


def shrink(cells: Tensor, cell: int, scale: int) -> Tensor:
    """Return a plane of HR size, cells (B, (c s)^2, h, w) with c = `cell`, shrunk by `scale`: (B, 1, c h, c w).

    Bicubic, the sides continued by their outermost cells, so that the borders are no other case.
    """
    reach = _reach_in_cells(cell, scale)
    wider = F.pixel_shuffle(F.pad(cells, [reach] * 4, mode="replicate"), cell * scale)
    height, width = (side // scale for side in wider.shape[-2:])
    edge = reach * cell
    return bicubic(wider, (height, width))[..., edge : height - edge, edge : width - edge]


def shrink_in_cells(cells: Tensor, cell: int, scale: int) -> Tensor:
    """Return ``pixel_unshuffle(shrink(cells, cell, scale), cell)``, (B, c^2, h, w), to rounding.

    By one convolution in float32, as `enlarge_in_cells`.
    """
    reach = _reach_in_cells(cell, scale)
    bordered = F.pad(cells.float(), [reach] * 4, mode="replicate")
    return F.conv2d(bordered, _kernel_for(cell * scale, cell, reach, cells.device))


def shrinking_macs(cell: int, scale: int) -> int:
    """Return the multiply-accumulates of `shrink_in_cells` for each pixel of what it returns."""
    return 0 if scale == 1 else (cell * scale * (2 * _reach_in_cells(cell, scale) + 1)) ** 2


def _reach_in_cells(cell: int, scale: int) -> int:
    return 0 if scale == 1 else -(-BICUBIC_REACH // cell)


@cache
def _kernel_for(before: int, after: int, reach: int, device: torch.device) -> Tensor:
    return _kernel(before, after, reach).to(device, torch.float32).contiguous(memory_format=torch.channels_last)


def _kernel(before: int, after: int, reach: int) -> Tensor:
    """Return (after^2, before^2, k, k) float64, cells of `before` pixels a side to cells of `after`; k = 2 `reach` + 1.

    Read off `bicubic` itself: what each pixel of a patch gives to the cell in its middle.
    """
    k = 2 * reach + 1
    n = k * before
    impulses = torch.eye(n * n, dtype=torch.float64).view(n * n, 1, n, n)
    middle = slice(reach * after, (reach + 1) * after)
    answers = bicubic(impulses, (k * after, k * after))[..., middle, middle].reshape(k, before, k, before, after**2)
    return answers.permute(4, 1, 3, 0, 2).reshape(after**2, before**2, k, k)


def enlarge_bilinear(x: Tensor, factor: int) -> Tensor:
    """Return `x` (B, C, H, W) enlarged by `factor` bilinearly, the sides continued by their outermost pixels.

    As ``F.interpolate(x, scale_factor=factor, mode="bilinear")`` to rounding, which is one kernel on CUDA; elsewhere
    from sums of whole rows and columns, as OpenVINO interpolates a quarter as fast.
    """
    if x.is_cuda:
        return F.interpolate(x, scale_factor=factor, mode="bilinear")
    return _lines_enlarged(_lines_enlarged(x, factor, 2), factor, 3)


def _lines_enlarged(x: Tensor, factor: int, dim: int) -> Tensor:
    """Enlarge along `dim`, 2 or 3: each pixel becomes `factor` weighted sums of itself and its neighbours."""
    at = (torch.arange(factor, device=x.device, dtype=x.dtype) + 0.5) / factor - 0.5
    before, after = (-at).clamp(min=0), at.clamp(min=0)
    size = x.shape[dim]
    # The neighbours as parts of one longer picture, of the length of `x`: a length of size - 1 would be taken for a
    # constant where programs for any size are made from one of two patches.
    longer = torch.cat((x.narrow(dim, 0, 1), x, x.narrow(dim, size - 1, 1)), dim=dim)
    left, right = (longer.narrow(dim, start, size).unsqueeze(dim + 1) for start in (0, 2))
    if dim == 2:
        before, after = before[:, None], after[:, None]
    middle = x.unsqueeze(dim + 1)
    return (middle + before * (left - middle) + after * (right - middle)).flatten(dim, dim + 1)
