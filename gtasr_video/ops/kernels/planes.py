"""Planes to the network's input, and what the network gives to planes: two kernels in, three out, no picture between.

The arithmetic is that of `gtasr_video.ops.color` and `gtasr_video.ops.resize`, where the sources are named.
"""

# Triton reads annotations itself and knows none of Python's.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gtasr_video.frames import ColorSpec, PixelLayout
from gtasr_video.ops.color import WEIGHTS, chroma_range, cosited, luma_range
from gtasr_video.ops.dither import DITHERED_BITS
from gtasr_video.ops.kernels.launch import where_tensors_are

_BLOCK = 512
# How chroma lies along one side: on every pixel, between two, or on every other one.
_FULL, _BETWEEN, _COSITED = 0, 1, 2
_YUV, _GREY, _RGB = 0, 1, 2


@where_tensors_are
def picture_from_planes(planes: tuple[Tensor, ...], layout: PixelLayout, color: ColorSpec, multiple: int) -> Tensor:
    """Return (1, 3, H, W) float32 in [-1, 1] of `planes`, continued to multiples of `multiple` with its last pixels."""
    height, width = planes[0].shape
    rows, columns = height + -height % multiple, width + -width % multiple
    out = torch.empty(1, 3, rows, columns, dtype=torch.float32, device=planes[0].device)
    low, span = luma_range(layout.bits, color.full_range)
    middle, reach = chroma_range(layout.bits, color.full_range)
    kr, kb = WEIGHTS[color.matrix]
    second, third = (planes[1], planes[2]) if len(planes) == 3 else (planes[0], planes[0])
    _picture[_grid(rows * columns)](
        *(planes[0], second, third, out),
        *(height, width, rows, columns, second.shape[0], second.shape[1]),
        *(planes[0].stride(0), second.stride(0), third.stride(0)),
        *(low, 1 / span, middle, 1 / reach, kr, kb),
        **_modes(layout, color),
        BLOCK=_BLOCK,
    )
    return out


@where_tensors_are
def planes_from_cells(
    x: Tensor,
    residual: Tensor,
    cell: int,
    scale: int,
    layout: PixelLayout,
    color: ColorSpec,
    size: tuple[int, int],
) -> tuple[Tensor, ...]:
    """Return the planes in `layout` of bicubic(x) + residual, dithered if they have 8 bits.

    x         (1, 3, H, W) float32 LR picture in [-1, 1]; H and W multiples of `cell`
    residual  (1, 3 (cell scale)^2, H/cell, W/cell) of any floating type
    size      (height, width) of the enlarged picture, at most (scale H, scale W): what padding added is left out
    """
    height, width = size
    sizes = [layout.plane_size(i, width, height) for i in range(min(layout.planes, 3))]
    planes = tuple(torch.empty(s, dtype=layout.dtype, device=x.device) for s in sizes)
    modes = _modes(layout, color)
    halved = modes["ACROSS"] != _FULL or modes["DOWN"] != _FULL
    first, second, third = (*planes, planes[0], planes[0])[:3]
    if halved:
        second, third = torch.empty(2, height, width, dtype=torch.float32, device=x.device)
    x = x.contiguous()
    common: Any = {"BITS": layout.bits, "DITHER": layout.bits <= DITHERED_BITS, "BLOCK": _BLOCK}
    low, span = luma_range(layout.bits, color.full_range)
    middle, reach = chroma_range(layout.bits, color.full_range)
    kr, kb = WEIGHTS[color.matrix]
    to_cb, to_cr = reach / (2 * (1 - kb)), reach / (2 * (1 - kr))
    _enlarged[_grid(height * width)](
        *(x, residual, first, second, third),
        *(height, width, x.shape[2], x.shape[3]),
        *(residual.stride(1), residual.stride(2), residual.stride(3)),
        *(low, span, middle, to_cb, to_cr, kr, kb),
        SCALE=scale,
        SIDE=cell * scale,
        KIND=modes["KIND"],
        HALVED=halved,
        **common,
    )
    if halved:
        for difference, plane, factor in ((second, planes[1], to_cb), (third, planes[2], to_cr)):
            _halved[_grid(plane.numel())](
                *(difference, plane, height, width, plane.shape[0], plane.shape[1], middle, factor),
                DOWN=modes["DOWN"],
                ACROSS=modes["ACROSS"],
                **common,
            )
    return planes


def _grid(count: int) -> tuple[int]:
    return (triton.cdiv(count, _BLOCK),)


def _modes(layout: PixelLayout, color: ColorSpec) -> dict[str, int]:
    """Return how planes are to be read, as constants a kernel is compiled for."""
    if layout.planes == 1 or layout.rgb:
        return {"KIND": _GREY if layout.planes == 1 else _RGB, "DOWN": _FULL, "ACROSS": _FULL}
    across, down = (_COSITED if on else _BETWEEN for on in cosited(color))
    return {
        "KIND": _YUV,
        "DOWN": down if layout.log2_chroma_h else _FULL,
        "ACROSS": across if layout.log2_chroma_w else _FULL,
    }


@triton.jit
def _mirror(at, length):
    """Fold pixel positions at both ends of a row of `length`."""
    at = tl.abs(at)
    at = tl.where(at >= length, 2 * (length - 1) - at, at)
    at = tl.abs(at)
    return tl.minimum(at, length - 1)


@triton.jit
def _tap(position, offset, count, length, MODE: tl.constexpr):
    """Return (index, weight) of the `offset`-th chroma sample, -1 to 2, for pixel `position` of a row."""
    k = position // 2
    odd = position % 2
    if MODE == 0:
        index = position
        weight = tl.where(offset == 0, 1.0, 0.0) + 0.0 * position
    elif MODE == 1:
        index = tl.minimum(tl.maximum(k + offset, 0), count - 1)
        side = tl.where(odd == 1, 0.125, -0.125)
        # The last sample of an odd row stands for one pixel alone.
        side = tl.where((length % 2 == 1) & (k == count - 1), 0.0, side)
        weight = tl.where(offset == 0, 1.0, offset * side)
    else:
        index = tl.minimum(_mirror(2 * (k + offset), length) // 2, count - 1)
        near = tl.where((offset == 0) | (offset == 1), 0.5625, -0.0625)
        weight = tl.where(odd == 1, near, tl.where(offset == 0, 1.0, 0.0))
    return index, weight


@triton.jit
def _picture(
    first,
    second,
    third,
    out,
    height,
    width,
    rows,
    columns,
    chroma_rows,
    chroma_columns,
    first_stride,
    second_stride,
    third_stride,
    low,
    per_span,
    middle,
    per_reach,
    kr,
    kb,
    KIND: tl.constexpr,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < rows * columns
    y = tl.minimum(at // columns, height - 1)
    x = tl.minimum(at % columns, width - 1)
    luma = (tl.load(first + y * first_stride + x, mask=inside, other=0).to(tl.float32) - low) * per_span
    if KIND == 1:
        red, green, blue = luma, luma, luma
    elif KIND == 2:
        green = luma
        blue = (tl.load(second + y * second_stride + x, mask=inside, other=0).to(tl.float32) - low) * per_span
        red = (tl.load(third + y * third_stride + x, mask=inside, other=0).to(tl.float32) - low) * per_span
    else:
        cb = tl.full([BLOCK], 0.0, tl.float32)
        cr = tl.full([BLOCK], 0.0, tl.float32)
        for down in tl.static_range(-1 if DOWN != 0 else 0, 3 if DOWN == 2 else 2 if DOWN == 1 else 1):
            row, by_row = _tap(y, down, chroma_rows, height, DOWN)
            for across in tl.static_range(-1 if ACROSS != 0 else 0, 3 if ACROSS == 2 else 2 if ACROSS == 1 else 1):
                column, by_column = _tap(x, across, chroma_columns, width, ACROSS)
                weight = by_row * by_column
                blueness = tl.load(second + row * second_stride + column, mask=inside, other=0).to(tl.float32)
                redness = tl.load(third + row * third_stride + column, mask=inside, other=0).to(tl.float32)
                cb += weight * (blueness - middle)
                cr += weight * (redness - middle)
        cb = cb * per_reach
        cr = cr * per_reach
        kg = 1 - kr - kb
        red = luma + 2 * (1 - kr) * cr
        blue = luma + 2 * (1 - kb) * cb
        green = luma - (2 * (1 - kr) * kr / kg) * cr - (2 * (1 - kb) * kb / kg) * cb
    tl.store(out + at, red * 2 - 1, mask=inside)
    tl.store(out + rows * columns + at, green * 2 - 1, mask=inside)
    tl.store(out + 2 * rows * columns + at, blue * 2 - 1, mask=inside)


@triton.jit
def _code(value, y, x, BITS: tl.constexpr, DITHER: tl.constexpr):
    """Return the code of `value` (in codes): rounded, or with the threshold of its place; NaN gives 0."""
    threshold = 0.5
    if DITHER:
        rank = x * 0
        for bit in tl.static_range(3):
            low_x = (x >> bit) & 1
            low_y = (y >> bit) & 1
            rank = (rank << 2) | ((low_x ^ low_y) << 1) | low_y
        threshold = (rank.to(tl.float32) + 0.5) / 64
    value = tl.floor(value + threshold)
    value = tl.where(value == value, value, 0.0)
    return tl.minimum(tl.maximum(value, 0.0), (1 << BITS) - 1.0)


@triton.jit
def _cubic(distance):
    """Return Keys' kernel with a = -0.75 at `distance` >= 0."""
    near = (1.25 * distance - 2.25) * distance * distance + 1
    far = ((-0.75 * distance + 3.75) * distance - 6) * distance + 3
    return tl.where(distance <= 1, near, tl.where(distance < 2, far, 0.0))


@triton.jit
def _enlarged(
    x_ptr,
    residual,
    first,
    second,
    third,
    height,
    width,
    rows,
    columns,
    channel_stride,
    row_stride,
    column_stride,
    low,
    span,
    middle,
    to_cb,
    to_cr,
    kr,
    kb,
    SCALE: tl.constexpr,
    SIDE: tl.constexpr,
    KIND: tl.constexpr,
    HALVED: tl.constexpr,
    BITS: tl.constexpr,
    DITHER: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < height * width
    y = at // width
    x = at % width
    place = (y // SIDE) * row_stride + (x // SIDE) * column_stride + ((y % SIDE) * SIDE + x % SIDE) * channel_stride
    plane = SIDE * SIDE * channel_stride
    red = tl.load(residual + place, mask=inside, other=0).to(tl.float32)
    green = tl.load(residual + place + plane, mask=inside, other=0).to(tl.float32)
    blue = tl.load(residual + place + 2 * plane, mask=inside, other=0).to(tl.float32)
    from_y = (y + 0.5) / SCALE - 0.5
    from_x = (x + 0.5) / SCALE - 0.5
    top = tl.floor(from_y)
    left = tl.floor(from_x)
    for down in tl.static_range(-1 if SCALE > 1 else 0, 3 if SCALE > 1 else 1):
        by_row = _cubic(tl.abs(from_y - top - down))
        row = tl.minimum(tl.maximum(top.to(tl.int32) + down, 0), rows - 1)
        for across in tl.static_range(-1 if SCALE > 1 else 0, 3 if SCALE > 1 else 1):
            weight = by_row * _cubic(tl.abs(from_x - left - across))
            column = tl.minimum(tl.maximum(left.to(tl.int32) + across, 0), columns - 1)
            source = x_ptr + row * columns + column
            red += weight * tl.load(source, mask=inside, other=0)
            green += weight * tl.load(source + rows * columns, mask=inside, other=0)
            blue += weight * tl.load(source + 2 * rows * columns, mask=inside, other=0)
    red = (red + 1) * 0.5
    green = (green + 1) * 0.5
    blue = (blue + 1) * 0.5
    if KIND == 2:
        tl.store(first + at, _code(green * span + low, y, x, BITS, DITHER).to(first.dtype.element_ty), mask=inside)
        tl.store(second + at, _code(blue * span + low, y, x, BITS, DITHER).to(first.dtype.element_ty), mask=inside)
        tl.store(third + at, _code(red * span + low, y, x, BITS, DITHER).to(first.dtype.element_ty), mask=inside)
    else:
        luma = kr * red + (1 - kr - kb) * green + kb * blue
        tl.store(first + at, _code(luma * span + low, y, x, BITS, DITHER).to(first.dtype.element_ty), mask=inside)
        if HALVED:
            tl.store(second + at, blue - luma, mask=inside)
            tl.store(third + at, red - luma, mask=inside)
        elif KIND == 0:
            cb = _code((blue - luma) * to_cb + middle, y, x, BITS, DITHER)
            cr = _code((red - luma) * to_cr + middle, y, x, BITS, DITHER)
            tl.store(second + at, cb.to(first.dtype.element_ty), mask=inside)
            tl.store(third + at, cr.to(first.dtype.element_ty), mask=inside)


@triton.jit
def _share(position, offset, length, MODE: tl.constexpr):
    """Return (index, weight) of the pixel `offset` away, -4 to 4, for chroma sample `position` of a row."""
    if MODE == 0:
        index = position
        weight = 1.0 + 0.0 * position
    elif MODE == 1:
        alone = 2 * position == length - 1
        index = tl.minimum(2 * position + offset, length - 1)
        weight = tl.where(alone, tl.where(offset == 0, 1.0, 0.0), 0.5)
    else:
        far = tl.abs(offset)
        tap = tl.where(far == 0, 46, tl.where(far == 1, 16, tl.where(far == 2, -8, tl.where(far == 4, 1, 0))))
        index = _mirror(2 * position + offset, length)
        weight = tap / 64 + 0.0 * position
    return index, weight


@triton.jit
def _halved(
    difference,
    out,
    height,
    width,
    rows,
    columns,
    middle,
    factor,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    BITS: tl.constexpr,
    DITHER: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < rows * columns
    y = at // columns
    x = at % columns
    total = tl.full([BLOCK], 0.0, tl.float32)
    for down in tl.static_range(-4 if DOWN == 2 else 0, 5 if DOWN == 2 else 2 if DOWN == 1 else 1):
        row, by_row = _share(y, down, height, DOWN)
        for across in tl.static_range(-4 if ACROSS == 2 else 0, 5 if ACROSS == 2 else 2 if ACROSS == 1 else 1):
            column, by_column = _share(x, across, width, ACROSS)
            total += by_row * by_column * tl.load(difference + row * width + column, mask=inside, other=0)
    code = _code(total * factor + middle, y, x, BITS, DITHER)
    tl.store(out + at, code.to(out.dtype.element_ty), mask=inside)
