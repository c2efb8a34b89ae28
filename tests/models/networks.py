"""A tiny network of the real family, with random weights everywhere, so that every path through it counts."""

from __future__ import annotations

import torch

from gtasr_video.models.gtasr import Architecture, GTASRVideo

TINY = Architecture("tiny", 2, (8, 12), ((1, 1), (1, 0)), guide=4, embedding=8)
TINY_FINE = Architecture("tiny-fine", 1, (6, 8), ((1, 0), (1, 0)), guide=4, embedding=8)


def tiny(
    architecture: Architecture = TINY, scales: tuple[int, ...] = (4,), noise_scale: float = 0.0, seed: int = 0
) -> GTASRVideo:
    """Return a network whose zero-initialised layers are random too."""
    torch.manual_seed(seed)
    model = GTASRVideo(architecture, scales, noise_scale)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.count_nonzero() == 0:
                parameter.normal_(0, 0.1)
    return model.eval().requires_grad_(False)


def scene(frames: int, height: int = 24, width: int = 32, seed: int = 0, shift: int = 0) -> torch.Tensor:
    """Return (1, T, 3, H, W) in [-1, 1]: a smooth random picture moving `shift` pixels a frame rightwards."""
    generator = torch.Generator().manual_seed(seed)
    wide = width + abs(shift) * frames
    small = torch.rand(1, 3, height // 4 + 1, wide // 4 + 1, generator=generator) * 1.6 - 0.8
    picture = torch.nn.functional.interpolate(small, size=(height, wide), mode="bilinear")
    starts = [abs(shift) * (frames - 1 - k) if shift >= 0 else abs(shift) * k for k in range(frames)]
    return torch.stack([picture[..., s : s + width] for s in starts], dim=1)
