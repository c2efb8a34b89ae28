"""Running out of memory: which errors mean it, and what size of step would fit, found by trying."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from gtasr_video.errors import TrainingError
from gtasr_video.training.objective import Pictures
from gtasr_video.training.settings import Phase

_CPU_SAYS = ("not enough memory", "can't allocate memory", "cannot allocate memory", "bad_alloc", "bad allocation")
# What oneDNN says when it cannot allocate, and it may have other reasons; then nothing smaller works either.
_ONEDNN_SAYS = ("could not create a primitive", "could not create a memory", "could not execute a primitive")
_SMALLEST_CROP = 16


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that memory ran out, on a GPU or the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _CPU_SAYS + _ONEDNN_SAYS)


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
    if phase.weights.perceptual:
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
