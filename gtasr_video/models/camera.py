"""The motion of the camera: one affine field through the vectors of a frame.

A patch of a compressed frame tells its motion to about a seventh of an LR pixel, a frame of thousands of patches to far
less, where most of what it shows moves alike. What moves otherwise counts less and less (iteratively reweighted least
squares with the weights of Geman and McClure, 1987), so that the largest part of the picture wins.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gtasr_video.ops.kernels import usable

_DOUBTS = (2.0, 0.8, 0.3, 0.12)  # LR pixels off the field at which a vector counts a quarter, fit by fit
_STIFF = 1e-3  # added to the spread of places, which is a third: vectors that stand close together tell no slope


def camera_field(flow: Tensor, weight: Tensor) -> Tensor:
    """Return the affine field (B, 2, h, w) that most of `flow` (B, 2, h, w) follows.

    weight  (B, 1, h, w) how surely each vector is known, at least 0, in any unit
    """
    field = fit_affine(flow, weight)
    for doubt in _DOUBTS:
        field = fit_affine(flow, weight, field, doubt)
    return field


def fit_affine(flow: Tensor, weight: Tensor, field: Tensor | None = None, doubt: float = _DOUBTS[-1]) -> Tensor:
    """Return the affine field nearest to `flow` (B, 2, h, w) by weighted least squares; the mean where nothing weighs.

    weight  (B, 1, h, w), at least 0
    field   (B, 2, h, w): vectors off it count less, those by `doubt` LR pixels a quarter; None: all as they weigh

    In closed form, without a solver, so that it can be exported and captured.
    """
    if usable(flow):
        from gtasr_video.ops.kernels import motion

        return motion.fit_affine(flow, weight, field, doubt, _STIFF)
    if field is not None:
        weight = weight / (1 + (flow - field).square().sum(dim=1, keepdim=True) / doubt**2).square()
    height, width = flow.shape[-2:]
    x, y = _line(width, flow).view(1, 1, 1, width), _line(height, flow).view(1, 1, height, 1)
    weight = weight + 1e-9
    share = weight / weight.sum(dim=(2, 3), keepdim=True)

    def mean(v: Tensor) -> Tensor:
        return (share * v).sum(dim=(2, 3), keepdim=True)

    x, y = x - mean(x), y - mean(y)
    xx, xy, yy = mean(x * x) + _STIFF, mean(x * y), mean(y * y) + _STIFF
    by_x, by_y = mean(x * flow), mean(y * flow)
    slopes = (yy * by_x - xy * by_y) * x + (xx * by_y - xy * by_x) * y
    return mean(flow) + slopes / (xx * yy - xy * xy)


def _line(size: int, like: Tensor) -> Tensor:
    """Return the middles of `size` patches from -1 to 1."""
    return (torch.arange(size, device=like.device, dtype=like.dtype) * 2 + 1) / size - 1
