"""The search for motion, fused: what a patch says of it, the step that follows, and the field of the camera.

In torch's operators a search is a thousand small kernels, each of which takes longer to launch than to run.
"""

# Triton reads annotations itself and knows none of Python's.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gtasr_video.ops.kernels.launch import where_tensors_are

_PATCHES = 64
_BLOCK = 512
# Sums over a frame that make an affine field: see `_moments`.
_MOMENTS = 12


@where_tensors_are
def patch_equations(now: Tensor, before: Tensor, flow: Tensor, patch: int, roughness: float) -> Tensor:
    """Return what `gtasr_video.models.flow.patch_equations` does, to rounding; all arguments as there.

    The pictures (B, 1, H, W) are whole patches of `patch` x `patch` pixels, a power of two; `flow` has one vector each.
    """
    now, before, flow = (t.contiguous() for t in (now, before, flow))
    b, _, rows, columns = flow.shape
    out = torch.empty(b, 5, rows, columns, dtype=torch.float32, device=now.device)
    _equations[(triton.cdiv(rows * columns, _PATCHES), b)](
        now, before, flow, out, rows, columns, roughness, PATCH=patch, BLOCK=_PATCHES
    )
    return out


@where_tensors_are
def patch_difference(now: Tensor, before: Tensor, flow: Tensor, patch: int) -> Tensor:
    """Return what `gtasr_video.models.flow.patch_difference` does, to rounding; arguments as for `patch_equations`."""
    now, before, flow = (t.contiguous() for t in (now, before, flow))
    b, _, rows, columns = flow.shape
    out = torch.empty(b, 1, rows, columns, dtype=torch.float32, device=now.device)
    _difference[(triton.cdiv(rows * columns, _PATCHES), b)](
        now, before, flow, out, rows, columns, PATCH=patch, BLOCK=_PATCHES
    )
    return out


@where_tensors_are
def solved(equations: Tensor, flat: float) -> Tensor:
    """Return what `gtasr_video.models.flow.solved` does, to rounding; `equations` (B, 5, h, w)."""
    equations = equations.contiguous()
    b, _, rows, columns = equations.shape
    out = torch.empty(b, 2, rows, columns, dtype=torch.float32, device=equations.device)
    count = rows * columns
    _solved[(triton.cdiv(count, _BLOCK), b)](equations, out, count, flat, BLOCK=_BLOCK)
    return out


@where_tensors_are
def fit_affine(flow: Tensor, weight: Tensor, field: Tensor | None, doubt: float, stiff: float) -> Tensor:
    """Return what `gtasr_video.models.camera.fit_affine` does, to rounding; all arguments as there.

    The moments are summed about the middle of the picture, block by block and then over blocks, always in one order.
    """
    flow, weight = flow.contiguous(), weight.contiguous()
    again = field is not None
    field = field.contiguous() if field is not None else flow
    b, _, rows, columns = flow.shape
    blocks = triton.cdiv(rows * columns, _BLOCK)
    sums = torch.empty(b, _MOMENTS, blocks, dtype=torch.float32, device=flow.device)
    out = torch.empty_like(flow)
    _moments[(blocks, b)](flow, weight, field, sums, rows, columns, doubt, AGAIN=again, BLOCK=_BLOCK)
    _fitted[(blocks, b)](sums, out, rows, columns, stiff, blocks, PARTS=triton.next_power_of_2(blocks), BLOCK=_BLOCK)
    return out


@triton.jit
def _moved(before, flow, y, x, rows, columns, PATCH: tl.constexpr):
    """Return `before` at pixel (y, x) moved by the vector of its patch, bilinearly, the border repeated."""
    height = rows * PATCH
    width = columns * PATCH
    patch = y // PATCH * columns + x // PATCH
    right = x + tl.load(flow + patch)
    down = y + tl.load(flow + rows * columns + patch)
    right = tl.minimum(tl.maximum(right, 0.0), width - 1.0)
    down = tl.minimum(tl.maximum(down, 0.0), height - 1.0)
    # Limited again as whole numbers: what is no number must not become a place.
    x0 = tl.minimum(tl.maximum(tl.floor(right).to(tl.int32), 0), width - 1)
    y0 = tl.minimum(tl.maximum(tl.floor(down).to(tl.int32), 0), height - 1)
    x1 = tl.minimum(x0 + 1, width - 1)
    y1 = tl.minimum(y0 + 1, height - 1)
    fx = right - x0
    fy = down - y0
    top = tl.load(before + y0 * width + x0) * (1 - fx) + tl.load(before + y0 * width + x1) * fx
    bottom = tl.load(before + y1 * width + x0) * (1 - fx) + tl.load(before + y1 * width + x1) * fx
    return top * (1 - fy) + bottom * fy


@triton.jit
def _pixels(rows, columns, PATCH: tl.constexpr, BLOCK: tl.constexpr):
    """Return the patches of this block (BLOCK,), and y and x of their pixels (BLOCK, PATCH * PATCH).

    Beyond the last patch the pixels are its own, so that all can be read.
    """
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    patch = tl.minimum(at, rows * columns - 1)[:, None]
    pixel = tl.arange(0, PATCH * PATCH)[None, :]
    y = patch // columns * PATCH + pixel // PATCH
    x = patch % columns * PATCH + pixel % PATCH
    return at, y, x


@triton.jit
def _equations(now, before, flow, out, rows, columns, roughness, PATCH: tl.constexpr, BLOCK: tl.constexpr):
    stream = tl.program_id(1).to(tl.int64)
    count = rows * columns
    height = rows * PATCH
    width = columns * PATCH
    now += stream * height * width
    before += stream * height * width
    flow += stream * 2 * count
    at, y, x = _pixels(rows, columns, PATCH, BLOCK)
    after = tl.minimum(x + 1, width - 1)
    gx = _moved(before, flow, y, after, rows, columns, PATCH)
    gx = (gx - _moved(before, flow, y, tl.maximum(x - 1, 0), rows, columns, PATCH)) / 2
    below = tl.minimum(y + 1, height - 1)
    gy = _moved(before, flow, below, x, rows, columns, PATCH)
    gy = (gy - _moved(before, flow, tl.maximum(y - 1, 0), x, rows, columns, PATCH)) / 2
    gt = tl.load(now + y * width + x) - _moved(before, flow, y, x, rows, columns, PATCH)
    rough = gt / roughness
    share = 1 / ((1 + rough * rough) * (PATCH * PATCH))
    out += stream * 5 * count + at
    inside = at < count
    tl.store(out, tl.sum(gx * gx * share, axis=1), mask=inside)
    tl.store(out + count, tl.sum(gx * gy * share, axis=1), mask=inside)
    tl.store(out + 2 * count, tl.sum(gy * gy * share, axis=1), mask=inside)
    tl.store(out + 3 * count, tl.sum(gx * gt * share, axis=1), mask=inside)
    tl.store(out + 4 * count, tl.sum(gy * gt * share, axis=1), mask=inside)


@triton.jit
def _difference(now, before, flow, out, rows, columns, PATCH: tl.constexpr, BLOCK: tl.constexpr):
    stream = tl.program_id(1).to(tl.int64)
    count = rows * columns
    width = columns * PATCH
    now += stream * count * PATCH * PATCH
    before += stream * count * PATCH * PATCH
    at, y, x = _pixels(rows, columns, PATCH, BLOCK)
    gap = tl.load(now + y * width + x) - _moved(before, flow + stream * 2 * count, y, x, rows, columns, PATCH)
    tl.store(out + stream * count + at, tl.sum(tl.abs(gap), axis=1) / (PATCH * PATCH), mask=at < count)


@triton.jit
def _solved(equations, out, count, flat, BLOCK: tl.constexpr):
    stream = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    equations += stream * 5 * count + at
    # Beyond the end xx and yy are `flat`: no division by zero.
    xx = tl.load(equations, mask=inside, other=0) + flat
    xy = tl.load(equations + count, mask=inside, other=0)
    yy = tl.load(equations + 2 * count, mask=inside, other=0) + flat
    xt = tl.load(equations + 3 * count, mask=inside, other=0)
    yt = tl.load(equations + 4 * count, mask=inside, other=0)
    det = xx * yy - xy * xy
    right = (yy * xt - xy * yt) / det
    down = (xx * yt - xy * xt) / det
    out += stream * 2 * count + at
    tl.store(out, tl.minimum(tl.maximum(right, -1.0), 1.0), mask=inside)
    tl.store(out + count, tl.minimum(tl.maximum(down, -1.0), 1.0), mask=inside)


@triton.jit
def _places(at, rows, columns):
    """Return x and y of the middles of patches, from -1 to 1."""
    x = (at % columns * 2 + 1).to(tl.float32) / columns - 1
    y = (at // columns * 2 + 1).to(tl.float32) / rows - 1
    return x, y


@triton.jit
def _moments(flow, weight, field, sums, rows, columns, doubt, AGAIN: tl.constexpr, BLOCK: tl.constexpr):
    stream = tl.program_id(1).to(tl.int64)
    count = rows * columns
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    flow += stream * 2 * count + at
    field += stream * 2 * count + at
    u = tl.load(flow, mask=inside, other=0)
    v = tl.load(flow + count, mask=inside, other=0)
    w = tl.load(weight + stream * count + at, mask=inside, other=0)
    if AGAIN:
        du = u - tl.load(field, mask=inside, other=0)
        dv = v - tl.load(field + count, mask=inside, other=0)
        off = 1 + (du * du + dv * dv) / (doubt * doubt)
        w = w / (off * off)
    w = tl.where(inside, w + 1e-9, 0.0)
    x, y = _places(at, rows, columns)
    blocks = tl.num_programs(0)
    sums += stream * 12 * blocks + tl.program_id(0)
    tl.store(sums, tl.sum(w))
    tl.store(sums + blocks, tl.sum(w * x))
    tl.store(sums + 2 * blocks, tl.sum(w * y))
    tl.store(sums + 3 * blocks, tl.sum(w * x * x))
    tl.store(sums + 4 * blocks, tl.sum(w * x * y))
    tl.store(sums + 5 * blocks, tl.sum(w * y * y))
    tl.store(sums + 6 * blocks, tl.sum(w * u))
    tl.store(sums + 7 * blocks, tl.sum(w * u * x))
    tl.store(sums + 8 * blocks, tl.sum(w * u * y))
    tl.store(sums + 9 * blocks, tl.sum(w * v))
    tl.store(sums + 10 * blocks, tl.sum(w * v * x))
    tl.store(sums + 11 * blocks, tl.sum(w * v * y))


@triton.jit
def _total(sums, number, blocks, PARTS: tl.constexpr):
    part = tl.arange(0, PARTS)
    return tl.sum(tl.load(sums + number * blocks + part, mask=part < blocks, other=0))


@triton.jit
def _fitted(sums, out, rows, columns, stiff, blocks, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    stream = tl.program_id(1).to(tl.int64)
    count = rows * columns
    sums += stream * 12 * blocks
    whole = _total(sums, 0, blocks, PARTS)
    mx = _total(sums, 1, blocks, PARTS) / whole
    my = _total(sums, 2, blocks, PARTS) / whole
    xx = _total(sums, 3, blocks, PARTS) / whole - mx * mx + stiff
    xy = _total(sums, 4, blocks, PARTS) / whole - mx * my
    yy = _total(sums, 5, blocks, PARTS) / whole - my * my + stiff
    det = xx * yy - xy * xy
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x, y = _places(at, rows, columns)
    for axis in range(2):
        mean = _total(sums, 6 + 3 * axis, blocks, PARTS) / whole
        by_x = _total(sums, 7 + 3 * axis, blocks, PARTS) / whole - mx * mean
        by_y = _total(sums, 8 + 3 * axis, blocks, PARTS) / whole - my * mean
        field = mean + ((yy * by_x - xy * by_y) * (x - mx) + (xx * by_y - xy * by_x) * (y - my)) / det
        tl.store(out + (stream * 2 + axis) * count + at, field, mask=at < count)
