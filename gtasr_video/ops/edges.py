"""Edge and texture maps: the structure that DRSR looks at."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.299, 0.587, 0.114)
_SOBEL_EPSILON = 1e-6


def luma(x: Tensor) -> Tensor:
    """Return BT.601 luma (B, 1, H, W) of RGB (B, 3, H, W), in the same range."""
    return x[:, :1] * LUMA[0] + x[:, 1:2] * LUMA[1] + x[:, 2:] * LUMA[2]


def _filter(x: Tensor, kernels: list[list[list[float]]]) -> Tensor:
    """Apply each 3x3 kernel to each channel of (B, C, H, W) -> (B, C, K, H, W), edges replicated."""
    b, c, h, w = x.shape
    weight = torch.tensor(kernels, dtype=x.dtype, device=x.device)[:, None]
    padded = F.pad(x.reshape(b * c, 1, h, w), (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, weight).view(b, c, len(kernels), h, w)


def sobel(x: Tensor) -> Tensor:
    """Return the Sobel magnitude (B, C, H, W) of each channel: sqrt(gx^2 + gy^2 + eps), kernels scaled to 1/4.

    The epsilon inside the root keeps the gradient finite on flat ground.
    """
    gx = [[-0.25, 0.0, 0.25], [-0.5, 0.0, 0.5], [-0.25, 0.0, 0.25]]
    gy = [[-0.25, -0.5, -0.25], [0.0, 0.0, 0.0], [0.25, 0.5, 0.25]]
    return torch.sqrt(_filter(x, [gx, gy]).square().sum(dim=2) + _SOBEL_EPSILON)


def laplacian(x: Tensor) -> Tensor:
    """Return the signed 4-neighbour Laplacian (B, C, H, W) of each channel, scaled to 1/4."""
    kernel = [[0.0, 0.25, 0.0], [0.25, -1.0, 0.25], [0.0, 0.25, 0.0]]
    return _filter(x, [kernel])[:, :, 0]
