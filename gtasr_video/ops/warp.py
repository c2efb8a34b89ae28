"""Backward warping: fetch each pixel of the new picture from where it was in the old one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# torch, ONNX and OpenVINO know cubic convolution with a = -3/4 alone. Half way between two pixels that makes waves of
# eight pixels 1.025 times as large: moved again in every frame, they grow. With a third of the bilinear mean no wave
# does, and the weights half way are those of a = -1/2.
_CUBIC_SHARE = 2 / 3


def warp(x: Tensor, flow: Tensor, *, sharp: bool = False) -> Tensor:
    """Return `x` (B, C, H, W) sampled at p + flow(p), bilinearly; outside it the border pixel is repeated.

    flow   (B, 2, H, W) in pixels, x (right) then y (down): where in `x` the pixel p of the result lies
    sharp  keep detail that bilinear means take away, for what is moved over and over: nearly cubic convolution with
           a = -1/2 (Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981)

    The result has the type of `x`; positions are computed in fp32, as half precision cannot tell pixels apart
    in a large picture. Differentiable in both.
    """
    height, width = x.shape[-2:]
    # grid_sample with align_corners maps -1..1 to the centres of the outermost pixels. Numbers, not a tensor of them:
    # that would be copied from the host, which no captured graph may do.
    limits = (max(width - 1, 1), max(height - 1, 1))
    places = [(at[:, None] / limit * 2 - 1) for at, limit in zip(_positions(flow), limits, strict=True)]
    grid = torch.cat(places, dim=1).permute(0, 2, 3, 1)
    moved = _sampled(x.float(), grid, "bilinear")
    if sharp:
        moved = moved + _CUBIC_SHARE * (_sampled(x.float(), grid, "bicubic") - moved)
    return moved.to(x.dtype)


def _sampled(x: Tensor, grid: Tensor, mode: str) -> Tensor:
    return F.grid_sample(x, grid, mode=mode, padding_mode="border", align_corners=True)


def inside(flow: Tensor) -> Tensor:
    """Return (B, 1, H, W) bool: True where p + flow(p) lies on the picture, so `warp` invents nothing."""
    height, width = flow.shape[-2:]
    x, y = _positions(flow)
    return ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).unsqueeze(1)


def consistent(flow: Tensor, reverse: Tensor) -> Tensor:
    """Return (B, 1, H, W) bool: True where going along `flow` and back along `reverse` ends where it began.

    Both (B, 2, H, W) in pixels, `reverse` from the old picture to the new. The tolerance grows with the
    motion: |f + r|^2 < 0.01 (|f|^2 + |r|^2) + 0.5, as in Sundaram, Brox and Keutzer, "Dense Point
    Trajectories by GPU-accelerated Large Displacement Optical Flow" (ECCV 2010). False off the picture too.
    """
    back = warp(reverse, flow)
    gap = (flow + back).square().sum(1, keepdim=True)
    length = flow.square().sum(1, keepdim=True) + back.square().sum(1, keepdim=True)
    return (gap < 0.01 * length + 0.5) & inside(flow)


def _positions(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Return p + flow(p) as two of (B, H, W) fp32, x and y."""
    height, width = flow.shape[-2:]
    y = torch.arange(height, device=flow.device, dtype=torch.float32).view(1, height, 1)
    x = torch.arange(width, device=flow.device, dtype=torch.float32).view(1, 1, width)
    return flow[:, 0].float() + x, flow[:, 1].float() + y
