"""Scores of a picture against the truth, and of a picture's change against the truth's change.

Pictures are RGB in [0, 1], (B, 3, H, W); every function returns one number a picture, (B,), fp64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gtasr_video.ops.lines import weigh_along
from gtasr_video.ops.warp import warp

BORDER = 4
PSNR_CAP = 100.0
VIDEO_LUMA = (65.481, 128.553, 24.966)
VIDEO_BLACK = 16
# SSIM's window along one side: a Gaussian of sigma 1.5.
_BELL = [math.exp(-0.5 * (at / 1.5) ** 2) for at in range(-5, 6)]
_WINDOW = [height / sum(_BELL) for height in _BELL]


def luma(rgb: Tensor) -> Tensor:
    """Return BT.601 luma (B, 1, H, W) of RGB in [0, 1] as video holds it: 16 for black to 235 for white, fp64.

    Super-resolution papers measure PSNR and SSIM on these numbers, not rounded, with 255 as the peak.
    """
    return _weigh(rgb, VIDEO_LUMA) + VIDEO_BLACK


def luma_full(rgb: Tensor) -> Tensor:
    """Return BT.601 luma (B, 1, H, W) over the whole range, 0 to 255, fp64."""
    return _weigh(rgb, (0.299 * 255, 0.587 * 255, 0.114 * 255))


def psnr(a: Tensor, b: Tensor, border: int = BORDER) -> Tensor:
    """Return the peak signal-to-noise ratio in dB on `luma`, `border` pixels cut off each side; 100 at most."""
    error = _cut(luma(a) - luma(b), border).square().mean((1, 2, 3))
    return (10 * torch.log10(255**2 / error)).clamp(max=PSNR_CAP)


def ssim(a: Tensor, b: Tensor, border: int = BORDER) -> Tensor:
    """Return the structural similarity on `luma`, `border` pixels cut off each side.

    As in Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity" (2004): an
    11 x 11 Gaussian window of sigma 1.5, only where it lies wholly on the picture; K1 = 0.01, K2 = 0.03.
    """
    return ssim_of_luma(_cut(luma(a), border), _cut(luma(b), border))


def ssim_of_luma(x: Tensor, y: Tensor) -> Tensor:
    """Return `ssim` of two planes (B, 1, H, W) of `luma`, computed in the type of the planes."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = _window(x), _window(y)
    squares, product = mean_x.square() + mean_y.square(), mean_x * mean_y
    # Only the sum of the variances counts, so that one window does for both.
    variances = _window(x.square() + y.square()) - squares
    covariance = _window(x * y) - product
    light = (2 * product + c1) / (squares + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return (light * structure).mean((1, 2, 3))


def warping_error(now: Tensor, before: Tensor, flow: Tensor, valid: Tensor) -> Tensor:
    """Return the mean |now - warp(before)| of full-range luma, 0..255, where `valid`; NaN if that is nowhere.

    flow   (B, 2, H, W) in pixels, from `now` to `before`, of the truth
    valid  (B, 1, H, W) bool, where that flow holds
    """
    return _masked_mean(_change(now, before, flow).abs(), valid)


def jitter(now: Tensor, before: Tensor, true_now: Tensor, true_before: Tensor, flow: Tensor, valid: Tensor) -> Tensor:
    """Return the mean |change - true change| of full-range luma, 0..255, where `valid`; NaN if that is nowhere.

    The change between two frames is what is left after following the truth's motion. It is compared with
    the truth's own, so that light which really changes is no jitter, and neither is a flow's small error.
    """
    gap = _change(now, before, flow) - _change(true_now, true_before, flow)
    return _masked_mean(gap.abs(), valid)


def color_shift(a: Tensor, b: Tensor) -> Tensor:
    """Return the largest difference of the mean Y, Cb and Cr of `a` and `b`, full-range BT.601, in 1/255."""
    gap = (a.double().mean((2, 3)) - b.double().mean((2, 3))) * 255
    red, green, blue = gap.unbind(1)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack((y, (blue - y) / 1.772, (red - y) / 1.402)).abs().amax(0)


def _weigh(rgb: Tensor, weights: tuple[float, float, float]) -> Tensor:
    return (rgb.double() * rgb.new_tensor(weights, dtype=torch.float64).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _change(now: Tensor, before: Tensor, flow: Tensor) -> Tensor:
    return luma_full(now) - warp(luma_full(before), flow)


def _masked_mean(x: Tensor, valid: Tensor) -> Tensor:
    # 0 / 0 is NaN: no place to look at is no score, not a perfect one.
    return (x * valid).sum((1, 2, 3)) / valid.sum((1, 2, 3))


def _cut(x: Tensor, border: int) -> Tensor:
    return x[..., border : x.shape[-2] - border, border : x.shape[-1] - border]


def _window(x: Tensor) -> Tensor:
    return weigh_along(weigh_along(x, _WINDOW, -1), _WINDOW, -2)
