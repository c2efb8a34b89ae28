"""The planes of an enlarged picture straight from what the network gives, without making the picture.

A picture is bicubic(x) + residual, where the residual comes in cells: pixel-unshuffled HR pixels, one cell for c x c LR
pixels. Everything from there to the codes of a YUV picture is linear but the last rounding: enlarging, the colour
matrix, halving the chroma. So it can be done in cells, by a few small convolutions, before any pixel is put in its
place; and what is put in its place is bytes. The plain way, which these functions reproduce to rounding, is
``rgb_to_yuv((enlarge(x) + pixel_shuffle(residual) + 1) / 2)``; it moves the HR picture through memory ten times.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.frames import ColorSpec, PixelLayout
from gtasr_video.ops.color import chroma_halving, codes_from_rgb, quantised
from gtasr_video.ops.dither import DITHERED_BITS, thresholds_in_cells
from gtasr_video.ops.resize import enlarging_kernel

# Cells that the correction at the picture's sides looks at; a picture must be wider than that on either side.
_EDGE = 2


class Weights(NamedTuple):
    """Constants of one way to make planes, for P planes of cells with f = cell * scale HR pixels a side.

    bicubic   (K, 3 cell^2, k, k) from the LR picture in cells, bordered, to the K channels of all planes
    residual  (K, 3 f^2, 1, 1) from the residual
    offset    (K,) codes of black and of no colour
    full      rows and columns of each plane in one cell; the channels of a plane are its pixels, row by row
    sizes     the same once chroma has half the columns
    halving   three kernels for that, None where columns stay: (K_c, K_c, 1, 3) for both chroma planes in two groups,
              and (K_c, K_c, 1, 2) with what that lacks at the left and the right side, where the picture is mirrored
    border    LR pixels to continue the picture by on each side
    """

    bicubic: Tensor
    residual: Tensor
    offset: Tensor
    full: tuple[tuple[int, int], ...]
    sizes: tuple[tuple[int, int], ...]
    halving: tuple[Tensor, Tensor, Tensor] | None
    border: int


def can_assemble(width: int, cell: int, scale: int, layout: PixelLayout, color: ColorSpec) -> bool:
    """Return whether `planes_from_cells` knows this case; `width` in LR pixels. The plain way knows all."""
    if layout.planes == 1 or layout.rgb:
        return True
    if not (layout.log2_chroma_w or layout.log2_chroma_h):
        return True
    cosited_down = layout.log2_chroma_h and color.chroma_siting == "topleft"
    side = cell * scale
    # The filter of chroma reaches four pixels aside, and from one cell into the next.
    return side % 2 == 0 and side >= 4 and not cosited_down and width >= 2 * _EDGE * cell


def planes_from_cells(
    x: Tensor,
    residual: Tensor | Callable[[Tensor], Tensor],
    cell: int,
    scale: int,
    layout: PixelLayout,
    color: ColorSpec,
    *,
    dither: bool = False,
) -> tuple[Tensor, ...]:
    """Return the planes in `layout` of bicubic(x) + residual.

    x         (1, 3, H, W) float32 LR picture in [-1, 1]; H and W multiples of `cell`
    residual  (1, 3 (cell scale)^2, H/cell, W/cell) of any floating type; or who reads it: given a matrix
              (K, 3 (cell scale)^2) it returns matrix residual, (1, K, H/cell, W/cell) float32
    Planes are (scale H, scale W) and smaller, of the layout's type, rounded and limited as by `rgb_to_yuv`.
    """
    w = _weights(cell, scale, layout, color, x.device)
    bordered = F.pad(x, [w.border] * 4, mode="replicate")
    signal = F.conv2d(F.pixel_unshuffle(bordered, cell), w.bicubic, w.offset)
    if isinstance(residual, Tensor):
        signal = signal + F.conv2d(residual.float(), w.residual)
    else:
        signal = signal + residual(w.residual.flatten(1))
    luma, *chroma = torch.split(signal, [rows * columns for rows, columns in w.full], dim=1)
    if w.halving is not None:
        chroma = list(_halved(torch.cat(chroma, dim=1), *w.halving).chunk(2, dim=1))
    return tuple(
        _placed(quantised(part, layout, _thresholds(part, size, layout, dither)), size)
        for part, size in zip([luma, *chroma], w.sizes, strict=True)
    )


def _thresholds(part: Tensor, size: tuple[int, int], layout: PixelLayout, dither: bool) -> Tensor | float:
    """Return where values of a plane in cells of `size` are rounded up."""
    if not dither or layout.bits > DITHERED_BITS:
        return 0.5
    return thresholds_in_cells(*size, part.shape[-2], part.shape[-1], part.device)


def _halved(chroma: Tensor, halving: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Halve the columns of both chroma planes, given as cells."""
    inner = F.conv2d(chroma, halving, padding=(0, 1), groups=2)
    first = inner[..., :1] + F.conv2d(chroma[..., :_EDGE], left, groups=2)
    last = inner[..., -1:] + F.conv2d(chroma[..., -_EDGE:], right, groups=2)
    return torch.cat([first, inner[..., 1:-1], last], dim=-1)


def _placed(cells: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the plane (h rows, w columns) whose pixels are the channels of `cells` (1, rows columns, h, w)."""
    (rows, columns), (h, w) = size, cells.shape[-2:]
    return cells.view(rows, columns, h, w).permute(2, 0, 3, 1).reshape(h * rows, w * columns)


@cache
def _weights(cell: int, scale: int, layout: PixelLayout, color: ColorSpec, device: torch.device) -> Weights:
    side = cell * scale
    matrix, offset = codes_from_rgb(layout, color)
    # The network's range is [-1, 1]: rgb = (x + 1) / 2.
    offset, matrix = offset + matrix.sum(dim=1) / 2, matrix / 2
    subsampled = layout.planes > 1
    down, across = subsampled and layout.log2_chroma_h == 1, subsampled and layout.log2_chroma_w == 1
    rows = [_rows(side, halved=down and plane > 0) for plane in range(len(matrix))]
    kernel, border = enlarging_kernel(cell, scale)
    bicubic = torch.cat([torch.einsum("c,kf,fpyx->kcpyx", m, r, kernel) for m, r in zip(matrix, rows, strict=True)])
    residual = torch.cat([torch.kron(m[None], r) for m, r in zip(matrix, rows, strict=True)])
    offsets = torch.cat([o.expand(len(r)) for o, r in zip(offset, rows, strict=True)])
    full = tuple((len(r) // side, side) for r in rows)
    half = (full[0], *((height, side // 2) for height, _ in full[1:]))

    def ready(weight: Tensor) -> Tensor:
        return weight.to(device, torch.float32)

    return Weights(
        ready(bicubic.flatten(1, 2)).contiguous(memory_format=torch.channels_last),
        ready(residual[..., None, None]).contiguous(memory_format=torch.channels_last),
        ready(offsets),
        full,
        half if across else full,
        tuple(map(ready, _halving(full[1][0], side, color))) if across else None,  # type: ignore[arg-type]
        border,
    )


def _rows(side: int, *, halved: bool) -> Tensor:
    """Return (k, side^2): the pixels of a cell as they are, or the means of its rows two by two."""
    whole = torch.eye(side, dtype=torch.float64)
    return torch.kron(whole.view(side // 2, 2, side).mean(dim=1) if halved else whole, whole)


def _halving(rows: int, side: int, color: ColorSpec) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weights of `_halved` for cells of `rows` x `side` chroma pixels, read off the filter itself."""
    half, cells = side // 2, 2 * _EDGE + 1
    answers = chroma_halving(torch.eye(cells * side, dtype=torch.float64), color)
    answers = answers.view(cells, side, cells, half)
    near = answers[_EDGE - 1 : _EDGE + 2, :, _EDGE]  # (3, side, half): what the cells around one give to it
    left, right = answers[:_EDGE, :, 0].clone(), answers[-_EDGE:, :, -1].clone()
    left -= near[1:]
    right -= near[:-1]
    return _by_rows(near, rows), _by_rows(left, rows), _by_rows(right, rows)


def _by_rows(taps: Tensor, rows: int) -> Tensor:
    """Return (2 rows half, rows side, 1, k) for `taps` (k, side, half): each row of a cell alone, both planes alike."""
    one = torch.einsum("rq,ksh->rhqsk", torch.eye(rows, dtype=taps.dtype), taps)
    one = one.reshape(rows * taps.shape[2], rows * taps.shape[1], 1, taps.shape[0]).float()
    return torch.cat([one, one])
