"""The path-aligned noise, fused: drawing it, and moving it along with the picture."""

# Triton reads annotations itself and knows none of Python's.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from gtasr_video.ops.kernels.launch import where_tensors_are
from gtasr_video.ops.noise import stream_keys

_BLOCK = 512
_TURN: tl.constexpr = tl.constexpr(2.0**-24 * 2 * math.pi)


@where_tensors_are
def keyed_gaussian(seed: int, age: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return what `gtasr_video.ops.noise.keyed_gaussian` does: the same integers, the floats to rounding."""
    count = math.prod(shape)
    out = torch.empty(age.shape[0], *shape, dtype=torch.float32, device=age.device)
    if count:
        _gaussian[(triton.cdiv(count, _BLOCK), age.shape[0])](out, stream_keys(seed, age), count, BLOCK=_BLOCK)
    return out


@where_tensors_are
def transport_noise(noise: Tensor, drift: Tensor, vector: Tensor, keep: Tensor, fresh: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `gtasr_video.models.temporal.transport_noise` does; all arguments as there."""
    noise, drift, vector, keep, fresh = (t.contiguous() for t in (noise, drift, vector.float(), keep, fresh))
    b, channels, height, width = noise.shape
    count = height * width
    owner = torch.full((b, count), count, dtype=torch.int32, device=noise.device)
    moved, moved_drift = torch.empty_like(noise), torch.empty_like(drift)
    grid = (triton.cdiv(count, _BLOCK), b)
    _claim[grid](drift, vector, keep, owner, height, width, BLOCK=_BLOCK)
    _move[grid](
        *(noise, drift, vector, keep, fresh, owner, moved, moved_drift, height, width), CHANNELS=channels, BLOCK=_BLOCK
    )
    return moved, moved_drift


@triton.jit
def _mix(x):
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * 0x7FEB352D
    x = x ^ ((x >> 15) & 0x1FFFF)
    x = x * -2073254261  # 0x846CA68B as a signed number
    return x ^ ((x >> 16) & 0xFFFF)


@triton.jit
def _gaussian(out, keys, count, BLOCK: tl.constexpr):
    stream = tl.program_id(1)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    pairs = (count + 1) // 2
    first = _mix(tl.where(at < pairs, at, at - pairs) + tl.load(keys + stream))
    second = _mix(first ^ -1640531527)  # 0x9E3779B9 as a signed number
    u = ((first & 0xFFFFFF).to(tl.float32) + 0.5) * 5.9604644775390625e-08
    angle = (second & 0xFFFFFF).to(tl.float32) * _TURN
    radius = tl.sqrt(-2.0 * tl.log(u))
    value = radius * tl.where(at < pairs, tl.cos(angle), tl.sin(angle))
    tl.store(out + stream.to(tl.int64) * count + at, value, mask=at < count)


@triton.jit
def _round(value):
    """Round to the nearest integer, halves to the even one, as torch does."""
    up = tl.floor(value + 0.5)
    odd_half = (up - value == 0.5) & (up - 2 * tl.floor(up / 2) == 1)
    return tl.where(odd_half, up - 1, up).to(tl.int32)


@triton.jit
def _source(drift, vector, keep, stream, at, height, width):
    """Return (step right, step down, source index, whether it is believed) of target pixel `at`."""
    count = height * width
    inside = at < count
    base = stream * 2 * count
    right = tl.load(vector + base + at, mask=inside, other=0) - tl.load(drift + base + at, mask=inside, other=0)
    down = tl.load(vector + base + count + at, mask=inside, other=0)
    down -= tl.load(drift + base + count + at, mask=inside, other=0)
    dx = _round(right)
    dy = _round(down)
    x = at % width + dx
    y = at // width + dy
    kept = tl.load(keep + stream * count + at, mask=inside, other=0) != 0
    believed = kept & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x = tl.minimum(tl.maximum(x, 0), width - 1)
    y = tl.minimum(tl.maximum(y, 0), height - 1)
    return dx, dy, y * width + x, believed & inside


@triton.jit
def _claim(drift, vector, keep, owner, height, width, BLOCK: tl.constexpr):
    stream = tl.program_id(1)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    _, _, source, believed = _source(drift, vector, keep, stream, at, height, width)
    # The least index wins, whatever the order in which blocks run.
    tl.atomic_min(owner + stream * height * width + source, at, mask=believed)


@triton.jit
def _move(
    noise,
    drift,
    vector,
    keep,
    fresh,
    owner,
    moved,
    moved_drift,
    height,
    width,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    stream = tl.program_id(1)
    count = height * width
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    dx, dy, source, believed = _source(drift, vector, keep, stream, at, height, width)
    base = stream * 2 * count
    right = dx + tl.load(drift + base + source, mask=inside, other=0)
    right -= tl.load(vector + base + at, mask=inside, other=0)
    down = dy + tl.load(drift + base + count + source, mask=inside, other=0)
    down -= tl.load(vector + base + count + at, mask=inside, other=0)
    mine = tl.load(owner + stream * count + source, mask=inside, other=0) == at
    carried = believed & mine & (tl.abs(right) <= 1) & (tl.abs(down) <= 1)
    tl.store(moved_drift + base + at, tl.where(carried, right, 0.0), mask=inside)
    tl.store(moved_drift + base + count + at, tl.where(carried, down, 0.0), mask=inside)
    for channel in range(CHANNELS):
        plane = (stream.to(tl.int64) * CHANNELS + channel) * count
        old = tl.load(noise + plane + source, mask=carried, other=0)
        new = tl.load(fresh + plane + at, mask=inside & (carried == 0), other=0)
        tl.store(moved + plane + at, tl.where(carried, old, new), mask=inside)
