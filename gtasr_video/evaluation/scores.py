"""All scores of one result: which there are, what each means, and how a file gets them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from gtasr_video.device import Device
from gtasr_video.errors import EvaluationError
from gtasr_video.evaluation.cache import file_hash
from gtasr_video.evaluation.flow import true_motion
from gtasr_video.evaluation.niqe import NaturalModel, load_model, niqe
from gtasr_video.evaluation.streams import read_frames
from gtasr_video.evaluation.truth import Degraded, to_unit
from gtasr_video.evaluation.vmaf import vmaf
from gtasr_video.models.vgg import VGGDistance
from gtasr_video.ops.metrics import color_shift, jitter, psnr, ssim, warping_error
from gtasr_video.ops.resize import bicubic

Scores = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Metric:
    """How a score is shown: its heading, which way is better, and digits after the point."""

    heading: str
    better: Literal["higher", "lower"]
    digits: int


METRICS: dict[str, Metric] = {
    "psnr": Metric("PSNR dB", "higher", 2),
    "ssim": Metric("SSIM", "higher", 4),
    "vgg": Metric("VGG16", "lower", 3),
    "vmaf": Metric("VMAF", "higher", 1),
    "niqe": Metric("NIQE", "lower", 2),
    "warping": Metric("warping", "lower", 2),
    "jitter": Metric("jitter", "lower", 2),
    "color": Metric("color", "lower", 2),
}


class Scorer:
    """Measures results. Metrics whose weights are not given are left out, and `notes` says so.

    vgg     file of VGG16 weights, or None
    niqe    file of NIQE parameters, or None
    device  where the VGG16 distance is computed: in bf16 where that is what the device is fastest in, which
            changed it by under 0.2 % on enlarged pictures, else in fp32
    every   VGG16 and NIQE are measured on every so many-th frame, the middle one of each group, other metrics on all

    Raises ModelError or EvaluationError if one of the files cannot be used.
    """

    def __init__(self, vgg: Path | None, niqe: Path | None, device: Device, every: int = 1) -> None:
        self.device, self._every = device.torch_device, every
        self.notes: list[str] = []
        dtype = torch.bfloat16 if device.dtype == torch.bfloat16 else torch.float32
        self._vgg = None if vgg is None else VGGDistance(vgg, dtype=dtype).to(self.device)
        self._niqe: NaturalModel | None = None if niqe is None else load_model(niqe)
        if vgg is None:
            self.notes.append("VGG16 distance left out: give its weights with --vgg")
        if niqe is None:
            self.notes.append("NIQE left out: give its parameters with --niqe")
        if every > 1 and (vgg is not None or niqe is not None):
            self.notes.append(f"VGG16 distance and NIQE measured on one frame in {every}")
        self.identity = [*(None if file is None else file_hash(file) for file in (vgg, niqe)), every]

    def __call__(self, degraded: Degraded, result: Path) -> Scores:
        """Return the mean over frames of every metric; None where it does not apply, as jitter of a picture.

        Raises EvaluationError if the result has another size or number of frames than the truth.
        """
        sums: dict[str, list[float]] = {name: [] for name in METRICS}
        before: tuple[Tensor, Tensor] | None = None
        first = min(self._every // 2, degraded.clip.frames - 1)
        for number, (truth, ours, small) in enumerate(_together(degraded, result)):
            found = _frame(truth, ours, small)
            if number % self._every == first:
                found |= self._costly(truth, ours)
            for name, value in found.items():
                sums[name].append(value)
            if before is not None:
                for name, value in _change(truth, ours, *before).items():
                    sums[name].append(value)
            before = (truth, ours)
        sums["vmaf"].append(vmaf(result, degraded.clip.path))
        return {name: _mean(values) for name, values in sums.items()}

    @torch.inference_mode()
    def _costly(self, truth: Tensor, ours: Tensor) -> dict[str, float]:
        found: dict[str, float] = {}
        if self._vgg is not None:
            found["vgg"] = self._vgg(*(x.to(self.device) * 2 - 1 for x in (ours, truth))).item()
        if self._niqe is not None:
            found["niqe"] = niqe(ours, self._niqe)
        return found


@torch.inference_mode()
def _frame(truth: Tensor, ours: Tensor, small: Tensor) -> dict[str, float]:
    return {
        "psnr": psnr(ours, truth).item(),
        "ssim": ssim(ours, truth).item(),
        "color": color_shift(bicubic(ours, (small.shape[-2], small.shape[-1])), small).item(),
    }


@torch.inference_mode()
def _change(truth: Tensor, ours: Tensor, truth_before: Tensor, ours_before: Tensor) -> dict[str, float]:
    flow, valid = true_motion(truth, truth_before)
    return {
        "warping": warping_error(ours, ours_before, flow, valid).item(),
        "jitter": jitter(ours, ours_before, truth, truth_before, flow, valid).item(),
    }


def _together(degraded: Degraded, result: Path) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (truth, result, LR input) frame by frame, as (1, 3, H, W) in [0, 1]."""
    clip, count = degraded.clip, 0
    streams = (read_frames(clip.path), read_frames(result), read_frames(degraded.path))
    for truth, ours, small in zip(*streams, strict=False):
        if ours.shape != truth.shape:
            found, wanted = (f"{x.shape[-1]}x{x.shape[-2]}" for x in (ours, truth))
            raise EvaluationError(f"the result is {found}, the truth {wanted}; is it made for another scale?")
        count += 1
        yield to_unit(truth), to_unit(ours), to_unit(small)
    extra = count == clip.frames and next(streams[1], None) is not None
    if count != clip.frames or extra:
        raise EvaluationError(f"the result has {'more' if extra else count} frames, the truth {clip.frames}")


def _mean(values: list[float]) -> float | None:
    known = [v for v in values if math.isfinite(v)]
    return sum(known) / len(known) if known else None
