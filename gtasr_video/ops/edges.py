"""Edge and texture maps: the structure that DRSR looks at."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.ops.lines import weigh_along

LUMA = (0.299, 0.587, 0.114)
_SOBEL_EPSILON = 1e-6
_SMOOTH = (0.25, 0.5, 0.25)
_SLOPE = (-1.0, 0.0, 1.0)


def luma(x: Tensor) -> Tensor:
    """Return BT.601 luma (B, 1, H, W) of RGB (B, 3, H, W), in the same range."""
    return x[:, :1] * LUMA[0] + x[:, 1:2] * LUMA[1] + x[:, 2:] * LUMA[2]


def sobel(x: Tensor) -> Tensor:
    """Return the Sobel magnitude (B, C, H, W) of each channel: sqrt(gx^2 + gy^2 + eps), kernels scaled to 1/4.

    The epsilon inside the root keeps the gradient finite on flat ground.
    """
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    gx, gy = (
        weigh_along(weigh_along(padded, _SMOOTH, across), _SLOPE, along) for along, across in ((-1, -2), (-2, -1))
    )
    return torch.sqrt(gx.square() + gy.square() + _SOBEL_EPSILON)


def laplacian(x: Tensor) -> Tensor:
    """Return the signed 4-neighbour Laplacian (B, C, H, W) of each channel, scaled to 1/4."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    rows, columns = padded[..., 1:-1], padded[..., 1:-1, :]
    around = rows[..., :-2, :] + rows[..., 2:, :] + columns[..., :-2] + columns[..., 2:]
    return 0.25 * around - x
