"""Bicubic resizing, one definition for the whole project."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


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
