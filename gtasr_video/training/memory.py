"""Running out of memory: what size of step would fit, found by trying."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from gtasr_video.errors import TrainingError
from gtasr_video.training.objective import Pictures
from gtasr_video.training.settings import Phase

_SMALLEST_CROP = 16


def too_large(
    step: int,
    number: int,
    phase: Phase,
    pictures: Pictures,
    reason: str,
    fits: Callable[[Phase, Pictures], bool],
    share: int = 1,
) -> TrainingError:
    """Return the error for step `step`, of phase `number`, on `pictures`: what it was, and a smaller one that `fits`.

    The batch is halved down to 1, with the windows of the perceptual distance; then the crop is. `share` processes
    share a batch.
    """
    batch, frames, _, crop, _ = pictures.y.shape
    was = f"out of memory at step {step} with batch {batch * share} of {frames} x {crop} x {crop} LR pixels"
    smaller = phase
    while batch > 1:
        batch //= 2
        windows = max(1, smaller.perceptual_crops // 2 // share) * share
        smaller = dataclasses.replace(smaller, batch=batch * share, perceptual_crops=windows)
        if fits(smaller, cut(pictures, batch, crop)):
            return TrainingError(f"{was}; this fits when tried: {_as_options(number, smaller)}")
    while crop // 2 >= _SMALLEST_CROP:
        crop = crop // 2 - crop // 2 % 8
        if fits(smaller, cut(pictures, batch, crop)):
            return TrainingError(f"{was}; this fits when tried: {_as_options(number, smaller)} --set data.crop={crop}")
    return TrainingError(f"{was}, and nothing smaller fits either: something else holds the memory ({reason})")


def _as_options(number: int, phase: Phase) -> str:
    options = f"--set phases.{number}.batch={phase.batch}"
    if phase.weights.looks_at_windows:
        options += f" --set phases.{number}.perceptual_crops={phase.perceptual_crops}"
    return options


def cut(pictures: Pictures, batch: int, crop: int) -> Pictures:
    """Return the first `batch` clips, cut to `crop` LR pixels a side."""
    scale = pictures.x0.shape[-1] // pictures.y.shape[-1]
    large, small = slice(crop * scale), slice(crop)
    return Pictures(
        pictures.x0[:batch, ..., large, large],
        pictures.y[:batch, ..., small, small],
        pictures.flow[:batch, ..., large, large],
        pictures.mask[:batch, ..., large, large],
        pictures.known,
    )
