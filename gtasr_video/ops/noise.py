"""Gaussian noise that is a function of its key, so that frame 7 of seed 3 is the same wherever it is computed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gtasr_video.ops.kernels import usable

_GOLDEN = 0x9E3779B9


def _signed(value: int) -> int:
    """Return the 32-bit two's-complement number with the bits of `value`."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


def _mix(x: Tensor) -> Tensor:
    """Scramble int32 `x` (Wellons' lowbias32: every input bit flips every output bit with p close to 1/2)."""
    x = x ^ ((x >> 16) & 0xFFFF)
    x = x * _signed(0x7FEB352D)
    x = x ^ ((x >> 15) & 0x1FFFF)
    x = x * _signed(0x846CA68B)
    return x ^ ((x >> 16) & 0xFFFF)


def stream_keys(seed: int, age: Tensor) -> Tensor:
    """Return the int32 key of each stream's next field, from `seed` and the `age` (B,) of the stream."""
    return _mix(_mix(age.to(torch.int32) + _signed(seed * _GOLDEN)) + _signed(seed >> 32))


def keyed_gaussian(seed: int, age: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return unit Gaussian noise (B, *shape), float32, keyed by (seed, age of each stream, element).

    `age` (B,) int64 is the frame number since the last cut. Counter-based (hash, then Box-Muller), so no generator
    state is carried and nothing waits for the host; the integers agree on every device, the floats to rounding.
    """
    if usable(age):
        from gtasr_video.ops.kernels import noise

        return noise.keyed_gaussian(seed, age, shape)
    count = math.prod(shape)
    pairs = (count + 1) // 2
    index = torch.arange(pairs, dtype=torch.int32, device=age.device)
    first = _mix(index[None, :] + stream_keys(seed, age)[:, None])
    second = _mix(first ^ _signed(_GOLDEN))
    # 24 bits of each hash; the half keeps the logarithm away from zero.
    u = ((first & 0xFFFFFF).float() + 0.5) * 2.0**-24
    v = (second & 0xFFFFFF).float() * (2.0**-24 * 2 * math.pi)
    radius = torch.sqrt(-2.0 * torch.log(u))
    return torch.cat([radius * torch.cos(v), radius * torch.sin(v)], dim=1)[:, :count].view(-1, *shape)
