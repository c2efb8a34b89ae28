"""What a run is judged by while it runs: held-out clips, the network as it is used, bicubic beside it."""

from __future__ import annotations

import dataclasses
from collections import defaultdict

import torch
from torch import Tensor

from gtasr_video.device import Device
from gtasr_video.models.gtasr import GTASRVideo
from gtasr_video.models.vgg import VGGDistance
from gtasr_video.ops.edges import luma
from gtasr_video.ops.metrics import jitter
from gtasr_video.ops.resize import enlarge
from gtasr_video.training.clips import ClipSource
from gtasr_video.training.looks import Look, look
from gtasr_video.training.objective import Pictures
from gtasr_video.training.settings import TrainSettings

_HELD_OUT_SEED = 7_919
_FRAMES = 5
_BATCH = 4


class Validation:
    """Fixed clips of one scale, drawn with a seed of their own; `measure` runs the network over them as inference does.

    The clips are other crops and degradations of the training material, not other material: they show whether a run
    gets better, not how good it is. `gtasr-video evaluate` on clips never trained on shows that.
    """

    def __init__(
        self, settings: TrainSettings, scale: int, source: ClipSource, perceptual: VGGDistance | None, device: Device
    ) -> None:
        frames = min(_FRAMES, max(p.frames for p in settings.phases))
        drawn = source.with_settings(dataclasses.replace(settings.data, frames=frames, scale=scale, crops_per_clip=1))
        drawn.seed = _HELD_OUT_SEED  # a run that goes on with another seed is judged by the same clips
        self.device = device
        self.perceptual = perceptual
        numbers = range(settings.validation_clips)
        batches = [drawn.batch(numbers[n : n + _BATCH]) for n in range(0, len(numbers), _BATCH)]
        self.batches = [Pictures.of(b, device.torch_device) for b in batches]
        self.bicubic = self._scores(None)

    def measure(self, model: GTASRVideo) -> dict[str, float]:
        """Return the PSNR gain over bicubic (dB), the ratios of VGG16 distance and jitter to bicubic's where they have
        a meaning, and a score to minimise.

        The score trades one dB for 0.25 of the ratio: about what the eye does with these two over small changes.
        """
        ours = self._scores(model)
        gain = ours["psnr"] - self.bicubic["psnr"]
        known = [k for k in ("vgg", "jitter") if k in ours and self.bicubic.get(k)]  # bad weights have none
        ratios = {f"validation/{k}_ratio": ours[k] / self.bicubic[k] for k in known}
        score = ratios.get("validation/vgg_ratio", 1.0) - 0.25 * gain
        return {"validation/psnr_gain": gain, **ratios, "validation/score": score}

    @torch.inference_mode()
    def looks(self, model: GTASRVideo, count: int = 4) -> list[Look]:
        """Return what the first `count` clips look like: input, bicubic, `model`'s, truth."""
        found: list[Look] = []
        for pictures in self.batches[: -(-count // _BATCH)]:
            output = self._upscale(model, pictures)
            clips = zip(pictures.y, output, pictures.x0, strict=True)
            found += [look(y, now, truth) for y, now, truth in clips]
        return found[:count]

    @torch.inference_mode()
    def _scores(self, model: GTASRVideo | None) -> dict[str, float]:
        found: dict[str, list[float]] = defaultdict(list)
        for pictures in self.batches:
            output = self._upscale(model, pictures)
            for k in range(output.shape[1]):
                found["psnr"] += _psnr(output[:, k], pictures.x0[:, k])
                if self.perceptual is not None:
                    found["vgg"] += self.perceptual(output[:, k], pictures.x0[:, k]).tolist()
                if k:
                    found["jitter"] += _jitter(output, pictures, k)
        return {name: sum(values) / len(values) for name, values in found.items() if values}

    def _upscale(self, model: GTASRVideo | None, pictures: Pictures) -> Tensor:
        scale = pictures.x0.shape[-1] // pictures.y.shape[-1]
        if model is None:
            return torch.stack([enlarge(y, scale) for y in pictures.y.unbind(1)], dim=1).clamp(-1, 1)
        amp = self.device.dtype != torch.float32
        with torch.autocast(self.device.torch_device.type, dtype=torch.bfloat16, enabled=amp):
            output: Tensor = model(pictures.y)
        return output.float().clamp(-1, 1)


def _psnr(a: Tensor, b: Tensor) -> list[float]:
    error = (luma(a) - luma(b)).square().mean(dim=(1, 2, 3)) / 4
    values: list[float] = (-10 * torch.log10(error.clamp(min=1e-10))).tolist()
    return values


def _jitter(output: Tensor, pictures: Pictures, k: int) -> list[float]:
    """Return the jitter between frames k - 1 and k of the clips whose motion is known: that filmed from stills."""
    now, before, true_now, true_before = ((x + 1) / 2 for p in (output, pictures.x0) for x in (p[:, k], p[:, k - 1]))
    values = jitter(now, before, true_now, true_before, pictures.flow[:, k - 1], pictures.mask[:, k - 1])
    found: list[float] = values[values.isfinite()].tolist()
    return found
