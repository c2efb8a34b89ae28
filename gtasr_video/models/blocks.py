"""The convolution blocks all tiers are made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.1


def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    """Return a zero-padded convolution that keeps the size (or divides it by `stride`)."""
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2)


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU: cheap everywhere, and exact under int8."""
    return F.leaky_relu(x, SLOPE)


class TauEmbedding(nn.Module):
    """Embed tau in [0, 1] (B,) as (B, width): sines of log-spaced frequencies, then one hidden layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.frequencies = [2 * math.pi * 2**k / 2 for k in range(8)]
        self.hidden = nn.Linear(2 * len(self.frequencies), width)

    def forward(self, tau: Tensor) -> Tensor:
        """Return the embedding of `tau`."""
        angle = tau.float()[:, None] * torch.tensor(self.frequencies, device=tau.device)
        waves = torch.cat([angle.sin(), angle.cos()], dim=1).to(self.hidden.weight.dtype)
        return F.silu(self.hidden(waves))


class ResidualBlock(nn.Module):
    """x + conv(act(conv(x) * (1 + scale) + shift)), scale and shift linear in the embedding of tau.

    `fold` fixes tau for inference: the modulation moves into the first convolution and costs nothing.
    """

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.first = conv(width, width)
        self.second = conv(width, width)
        self.modulation: nn.Linear | None = nn.Linear(embedding, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        # Small at birth, so that a deep trunk starts near the identity.
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        """Return the block's output, same shape as `x`; `embedding` is None once folded."""
        hidden = self.first(x)
        if self.modulation is not None:
            assert embedding is not None
            scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
            hidden = hidden * (1 + scale) + shift
        out: Tensor = x + self.second(activate(hidden))
        return out

    @torch.no_grad()
    def fold(self, embedding: Tensor) -> None:
        """Move the modulation at `embedding` (1, E) into the first convolution."""
        if self.modulation is None:
            return
        scale, shift = self.modulation(embedding)[0].chunk(2)
        assert self.first.bias is not None
        self.first.weight.mul_((1 + scale)[:, None, None, None])
        self.first.bias.mul_(1 + scale).add_(shift)
        self.modulation = None
