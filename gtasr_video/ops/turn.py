"""Pictures turned by quarters and mirrored, sample by sample."""

from __future__ import annotations

import torch
from torch import Tensor


def turned(x: Tensor, rotation: int, *, mirrored: bool = False) -> Tensor:
    """Return (..., H, W) mirrored left to right if asked for, then turned counter-clockwise by `rotation` degrees.

    `rotation` is a multiple of 90. The result shares no memory with `x` unless nothing changes.
    """
    if mirrored:
        x = x.flip(-1)
    return torch.rot90(x, rotation // 90, (-2, -1)).contiguous() if rotation % 360 else x
