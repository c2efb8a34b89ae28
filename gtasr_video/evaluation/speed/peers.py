"""What others need for the same enlargement, the network alone: ncnn models, and a Compact network in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from gtasr_video.device import Device
from gtasr_video.evaluation.methods import ncnn

# Given an LR frame, uint8 (3, H, W), makes the larger one.
Step = Callable[[Tensor], object]

_WIDTH, _LAYERS = 64, 16


def compact(scale: int) -> nn.Sequential:
    """Return a network of the kind called Compact (SRVGGNet): 16 convolutions of 64 channels at LR size, 0.6 M at x4.

    Its weights are random, since only its time is asked for. The shape is that of realesr-animevideov3 (Wang et al.,
    "Real-ESRGAN", arXiv 2107.10833, and its repository).
    """
    layers: list[nn.Module] = [nn.Conv2d(3, _WIDTH, 3, padding=1), nn.PReLU(_WIDTH)]
    for _ in range(_LAYERS):
        layers += [nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1), nn.PReLU(_WIDTH)]
    return nn.Sequential(*layers, nn.Conv2d(_WIDTH, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale)).eval()


def compact_step(scale: int, device: Device) -> Step:
    """Return `compact` as a step on `device`, in its type and channels last."""
    network = compact(scale).to(device.torch_device, device.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def step(frame: Tensor) -> Tensor:
        x = (frame[None].float() / 255).to(device.torch_device, device.dtype)
        larger: Tensor = network(x.contiguous(memory_format=torch.channels_last))
        return larger.sum().cpu()  # waits for the device

    return step


def ncnn_step(param: Path, scale: int) -> Step:
    """Return an ncnn model as a step; raises EvaluationError if it cannot be had."""
    method = ncnn(param, scale)
    return lambda frame: next(method.upscale(iter([frame])))
