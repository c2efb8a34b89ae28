"""Planar YUV or RGB samples to RGB in floating point, and back.

The conversion equations and ranges are ITU-T H.273 (matrix coefficients 1, 5/6, 9; quantisation of table 4).
Chroma is resampled by pairs of filters of which the second undoes the first, so that YUV -> RGB -> YUV changes
nothing but rounding, at any siting:

* co-sited samples (horizontally for "left"): enlarged by the cubic (-1, 9, 9, -1)/16, reduced by the nine taps
  (1, 0, -8, 16, 46, 16, -8, 0, 1)/64: the Deslauriers-Dubuc (4, 2) pair;
* samples between two pixels (vertically for "left"): enlarged by a straight line through each sample whose slope
  is a quarter of the difference of its neighbours, reduced by the mean of two: the (2, 6) pair.

Both filter without aliasing worth seeing and overshoot like a bicubic. Nothing is clamped on the way to RGB: what
the source holds beyond black and white comes back.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from gtasr_video.frames import ColorSpec, PixelLayout
from gtasr_video.ops.dither import DITHERED_BITS, thresholds

# (Kr, Kb) of H.273 table 4. "rgb" serves a grey picture tagged so, whose three channels are equal anyway.
WEIGHTS: Final = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "rgb": (0.2126, 0.0722),
}

# Rows of full size beyond a band that its chroma filters look at, and more, so that it stays even.
_BAND_MARGIN: Final = 16


def yuv_to_rgb(planes: tuple[Tensor, ...], layout: PixelLayout, color: ColorSpec) -> Tensor:
    """Return (1, 3, H, W) float32 RGB, nominally in [0, 1], of integer `planes` (h, w) on any device.

    `layout` gives depth and subsampling, `color` matrix, range and chroma siting. Values beyond [0, 1] (super-white,
    chroma no display can show) are kept. Planar RGB (``gbrp``, planes G, B, R) is only scaled, grey is repeated;
    a plane of alpha is left to `alpha_of`.
    """
    low, span = luma_range(layout.bits, color.full_range)
    if layout.rgb:
        channels = [planes[i].float().sub_(low).mul_(1 / span) for i in (2, 0, 1)]
        return torch.stack(channels)[None]
    height, width = planes[0].shape
    luma = planes[0].float().sub_(low).mul_(1 / span)
    if layout.planes == 1:
        return luma.expand(1, 3, height, width).contiguous()
    kr, kb = WEIGHTS[color.matrix]
    middle, reach = chroma_range(layout.bits, color.full_range)
    cb, cr = (_enlarged(p.float().sub_(middle).mul_(1 / reach), layout, color, height, width) for p in planes[1:3])
    kg = 1 - kr - kb
    red = torch.add(luma, cr, alpha=2 * (1 - kr))
    blue = torch.add(luma, cb, alpha=2 * (1 - kb))
    green = torch.add(luma, cr, alpha=-2 * (1 - kr) * kr / kg).add_(cb, alpha=-2 * (1 - kb) * kb / kg)
    return torch.stack((red, green, blue))[None]


def rgb_to_yuv(rgb: Tensor, layout: PixelLayout, color: ColorSpec, *, dither: bool = False) -> tuple[Tensor, ...]:
    """Return the planes (h, w) in `layout` of (1, 3, H, W) `rgb` of any floating type, nominally in [0, 1].

    Values are rounded to the nearest code and limited to what `layout.bits` can hold, so that super-white stays.
    The exact inverse of `yuv_to_rgb` up to rounding. `dither` mixes codes where 8 bits would show steps. A
    plane of alpha is not among them.
    """
    red, green, blue = rgb.to(torch.float32, memory_format=torch.contiguous_format)[0]
    low, span = luma_range(layout.bits, color.full_range)
    if layout.rgb:
        return tuple(_codes(plane.mul(span).add_(low), layout, dither) for plane in (green, blue, red))
    kr, kb = WEIGHTS[color.matrix]
    luma = (red * kr).add_(green, alpha=1 - kr - kb).add_(blue, alpha=kb)
    if layout.planes == 1:
        return (_codes(luma.mul_(span).add_(low), layout, dither),)
    middle, reach = chroma_range(layout.bits, color.full_range)
    chroma = []
    for channel, weight in ((blue, kb), (red, kr)):
        difference = _reduced(channel - luma, layout, color)
        chroma.append(_codes(difference.mul_(reach / (2 * (1 - weight))).add_(middle), layout, dither))
    return (_codes(luma.mul_(span).add_(low), layout, dither), *chroma)


def codes_from_rgb(layout: PixelLayout, color: ColorSpec) -> tuple[Tensor, Tensor]:
    """Return (matrix (P, 3), offset (P,)), float64, from RGB in [0, 1] to the codes of each plane before it is halved.

    What `rgb_to_yuv` does to one pixel, for those who want to do it in another order.
    """
    low, span = luma_range(layout.bits, color.full_range)
    if layout.rgb:
        return torch.eye(3, dtype=torch.float64)[[1, 2, 0]] * span, torch.full((3,), low, dtype=torch.float64)
    kr, kb = WEIGHTS[color.matrix]
    luma = torch.tensor([kr, 1 - kr - kb, kb], dtype=torch.float64)
    if layout.planes == 1:
        return luma[None] * span, torch.tensor([low], dtype=torch.float64)
    middle, reach = chroma_range(layout.bits, color.full_range)
    red, _, blue = torch.eye(3, dtype=torch.float64)
    rows = [luma * span, (blue - luma) * (reach / (2 * (1 - kb))), (red - luma) * (reach / (2 * (1 - kr)))]
    return torch.stack(rows), torch.tensor([low, middle, middle], dtype=torch.float64)


def chroma_halving(rows: Tensor, color: ColorSpec) -> Tensor:
    """Return `rows` (h, w) of a chroma plane at half the columns, filtered as `rgb_to_yuv` does."""
    return (_reduce_cosited if cosited(color)[0] else _reduce_between)(rows)


def rgb_to_yuv_in_bands(
    rgb: Tensor, layout: PixelLayout, color: ColorSpec, rows: int = 256, *, dither: bool = False
) -> tuple[Tensor, ...]:
    """Return what `rgb_to_yuv` does, working on `rows` rows at a time, so that little memory is needed beside.

    `rows` is a multiple of 16, so that the thresholds of dither stay where they are.
    """
    height, width = rgb.shape[-2:]
    sizes = [layout.plane_size(i, width, height) for i in range(min(layout.planes, 3))]
    planes = tuple(torch.empty(size, dtype=layout.dtype, device=rgb.device) for size in sizes)
    for first in range(0, height, rows):
        last, top = min(height, first + rows), max(0, first - _BAND_MARGIN)
        band = rgb[..., top : min(height, last + _BAND_MARGIN), :]
        for index, part in enumerate(rgb_to_yuv(band, layout, color, dither=dither)):
            down = layout.log2_chroma_h if index else 0
            begin, end = first >> down, -(-last >> down)
            planes[index][begin:end] = part[begin - (top >> down) : end - (top >> down)]
    return planes


def alpha_of(planes: tuple[Tensor, ...], layout: PixelLayout) -> Tensor | None:
    """Return (1, 1, H, W) float32 alpha in [0, 1] of `planes` in `layout`, or None if it has none."""
    return planes[3].float().mul_(1 / ((1 << layout.bits) - 1))[None, None] if layout.alpha else None


def alpha_plane(alpha: Tensor, layout: PixelLayout) -> Tensor:
    """Return the plane (h, w) in `layout` of (1, 1, H, W) `alpha`, nominally in [0, 1]; the inverse of `alpha_of`."""
    return quantised(alpha[0, 0].mul((1 << layout.bits) - 1), layout)


def luma_range(bits: int, full: bool) -> tuple[float, float]:
    """Return the code of black, and the codes from black to white."""
    return (0.0, float((1 << bits) - 1)) if full else (float(16 << bits - 8), float(219 << bits - 8))


def chroma_range(bits: int, full: bool) -> tuple[float, float]:
    """Return the code of no colour, and the codes from the lowest to the highest."""
    return float(1 << bits - 1), float((1 << bits) - 1) if full else float(224 << bits - 8)


def _codes(values: Tensor, layout: PixelLayout, dither: bool) -> Tensor:
    """Return a plane (h, w) in codes as codes of `layout`."""
    height, width = values.shape
    dithered = dither and layout.bits <= DITHERED_BITS
    return quantised(values, layout, thresholds(height, width, values.device) if dithered else 0.5)


def quantised(values: Tensor, layout: PixelLayout, threshold: Tensor | float = 0.5) -> Tensor:
    """Return `values` (in codes) as codes of `layout`: rounded, halves up, or by the `thresholds` of dither."""
    values = (values + threshold).floor_().clamp_(0, (1 << layout.bits) - 1)
    if layout.dtype is torch.uint8:
        return values.to(torch.uint8)
    codes = values.to(torch.int32)
    # Who traces gets what the compilers of graphs know: 16 bits without a sign are not among it.
    return codes if torch._C._get_tracing_state() else codes.to(torch.uint16)


def cosited(color: ColorSpec) -> tuple[bool, bool]:
    """Return whether chroma samples lie on pixels across and down."""
    return color.chroma_siting != "center", color.chroma_siting == "topleft"


def _enlarged(plane: Tensor, layout: PixelLayout, color: ColorSpec, height: int, width: int) -> Tensor:
    across, down = cosited(color)
    if layout.log2_chroma_h:
        plane = (_enlarge_cosited if down else _enlarge_between)(plane.t(), height).t()
    if layout.log2_chroma_w:
        plane = (_enlarge_cosited if across else _enlarge_between)(plane, width)
    return plane


def _reduced(plane: Tensor, layout: PixelLayout, color: ColorSpec) -> Tensor:
    across, down = cosited(color)
    if layout.log2_chroma_h:
        plane = (_reduce_cosited if down else _reduce_between)(plane.t()).t()
    if layout.log2_chroma_w:
        plane = (_reduce_cosited if across else _reduce_between)(plane)
    return plane


def _packed(plane: Tensor) -> Tensor:
    """Return `plane` without gaps in memory, in its own order."""
    return plane.t().contiguous().t() if plane.stride(0) < plane.stride(1) else plane.contiguous()


def _mirrored(plane: Tensor, before: int, after: int, length: int) -> Tensor:
    """Return `plane` (h, n) with columns continued so that the full-size row of `length` is mirrored at its ends."""
    count = plane.shape[1]
    step = 1 if length == count else 2
    period = max(1, 2 * (length - 1))

    def source(column: int) -> Tensor:
        folded = (step * column) % period
        index = min(folded, period - folded) // step if length > 1 else 0
        return plane[:, index : index + 1]

    edges = [source(c) for c in range(-before, 0)], [source(c) for c in range(count, count + after)]
    return torch.cat([*edges[0], plane, *edges[1]], dim=1)


def _enlarge_cosited(plane: Tensor, width: int) -> Tensor:
    """Double (h, n) to (h, `width`): sample k lies on pixel 2k."""
    padded = _mirrored(plane, 1, 2, width)
    count = plane.shape[1]
    inner = padded[:, 1 : count + 1] + padded[:, 2 : count + 2]
    outer = padded[:, 0:count] + padded[:, 3 : count + 3]
    return _interleaved(plane, inner.mul_(9 / 16).sub_(outer, alpha=1 / 16), width)


def _reduce_cosited(plane: Tensor) -> Tensor:
    """Halve (h, w): sample k is taken around pixel 2k."""
    width = plane.shape[1]
    taken = (width + 1) // 2
    padded = _mirrored(plane, 4, 4 + width % 2, width)
    even, odd = (_packed(padded[:, phase::2]) for phase in (0, 1))
    near = (odd[:, 1 : taken + 1] + odd[:, 2 : taken + 2]).mul_(16 / 64)
    near.add_(even[:, 2 : taken + 2], alpha=46 / 64)
    far = (even[:, 0:taken] + even[:, 4 : taken + 4]).mul_(1 / 64)
    far.add_(even[:, 1 : taken + 1], alpha=-8 / 64).add_(even[:, 3 : taken + 3], alpha=-8 / 64)
    return near.add_(far)


def _enlarge_between(plane: Tensor, width: int) -> Tensor:
    """Double (h, n) to (h, `width`): sample k lies between pixels 2k and 2k + 1."""
    bordered = torch.cat([plane[:, :1], plane, plane[:, -1:]], dim=1)
    slope = (bordered[:, 2:] - bordered[:, :-2]).mul_(1 / 8)
    if width % 2:  # the last sample stands for one pixel alone
        slope = torch.cat([slope[:, :-1], torch.zeros_like(slope[:, :1])], dim=1)
    return _interleaved(plane - slope, plane + slope, width)


def _interleaved(even: Tensor, odd: Tensor, width: int) -> Tensor:
    """Return (h, `width`) whose columns are those of `even` and `odd` (h, n) in turn."""
    return torch.stack((even, odd), dim=2).flatten(1)[:, :width]


def _reduce_between(plane: Tensor) -> Tensor:
    """Halve (h, w): sample k is the mean of pixels 2k and 2k + 1."""
    even, odd = plane[:, 0::2], plane[:, 1::2]
    if even.shape[1] == odd.shape[1]:
        return (even + odd).mul_(0.5)
    return torch.cat([(even[:, :-1] + odd).mul_(0.5), even[:, -1:]], dim=1)
