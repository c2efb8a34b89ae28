"""Bicubic resizing, one definition for the whole project."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def bicubic(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, C, H, W) to `size` (height, width) with torch's bicubic kernel (a = -0.75).

    Antialiased along the sides that shrink, so that it serves for both enlarging and the clean degradation.
    """
    shrinks = size[0] < x.shape[-2] or size[1] < x.shape[-1]
    return F.interpolate(x, size=size, mode="bicubic", align_corners=False, antialias=shrinks)


def enlarge(x: Tensor, scale: int) -> Tensor:
    """Return the bicubic enlargement of (B, C, H, W) by the integer `scale` (1 returns `x` itself)."""
    return x if scale == 1 else bicubic(x, (x.shape[-2] * scale, x.shape[-1] * scale))
