"""Varying what is there: light and colour of a clip, place, mirroring and turning of its crops."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True)
class Turn:
    """One of the eight ways to lay a square: mirror left-right, then top-bottom, then swap the axes."""

    mirror: bool
    flip: bool
    transpose: bool

    def picture(self, x: Tensor) -> Tensor:
        """Turn (..., H, W)."""
        dims = [d for d, wanted in ((-1, self.mirror), (-2, self.flip)) if wanted]
        x = x.flip(dims) if dims else x
        return (x.transpose(-1, -2) if self.transpose else x).contiguous()

    def flow(self, x: Tensor) -> Tensor:
        """Turn a field of motion (T, 2, H, W): its vectors turn with the picture."""
        signs = x.new_tensor([-1.0 if self.mirror else 1.0, -1.0 if self.flip else 1.0]).view(2, 1, 1)
        turned = self.picture(x * signs)
        return turned.flip(-3) if self.transpose else turned


def draw_turn(rng: np.random.Generator) -> Turn:
    """Return one of the eight turns."""
    return Turn(*(bool(b) for b in rng.integers(2, size=3)))


def vary_colour(clip: Tensor, rng: np.random.Generator) -> Tensor:
    """Change white balance, saturation and contrast of (T, 3, H, W) in 0..1, the same in all frames."""
    luma = np.array(_LUMA)
    saturation = rng.uniform(0.6, 1.3)
    contrast, brightness = rng.uniform(0.85, 1.15), rng.uniform(-0.06, 0.06)
    mix = saturation * np.eye(3) + (1 - saturation) * luma[None, :]
    mix = contrast * rng.uniform(0.92, 1.08, size=3)[:, None] * mix
    matrix = torch.from_numpy(mix).to(clip)
    moved = torch.einsum("oc,tchw->tohw", matrix, clip - 0.5)
    return moved.add_(0.5 + brightness).clamp_(0, 1)


def vary_light(clip: Tensor, rng: np.random.Generator) -> Tensor:
    """Brighten or darken (T, 3, H, W) in 0..1 over its frames: a slow change and a little flicker."""
    frames = clip.shape[0]
    gains = 1 + rng.uniform(-0.15, 0.15) * np.linspace(-1, 1, frames) + rng.normal(0, rng.uniform(0, 0.01), frames)
    return (clip * torch.from_numpy(gains).to(clip).view(-1, 1, 1, 1)).clamp_(0, 1)
