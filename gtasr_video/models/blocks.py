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
        # Number by number: a tensor of them would be copied from the host, which a CUDA graph cannot hold.
        angle = torch.cat([tau.float()[:, None] * frequency for frequency in self.frequencies], dim=1)
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


INPUT_MAX, WEIGHT_MAX = 127, 63


class Int8Conv2d(nn.Conv2d):
    """`conv` with inputs limited to +-`limit` and, like its weights, rounded to integers times a scale.

    Inputs have 8 bits and one scale, weights 7 bits and a scale for each output channel.
    """

    def __init__(self, conv: nn.Conv2d, limit: float) -> None:
        size, stride, padding = conv.kernel_size, conv.stride, conv.padding
        super().__init__(conv.in_channels, conv.out_channels, size, stride, padding, bias=False)  # type: ignore[arg-type]
        self.weight, self.bias = conv.weight, conv.bias
        self.scale = max(limit, 1e-6) / INPUT_MAX

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of `x`."""
        return self.rounded(x, self.weight, self.bias)

    def rounded(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the same with other weights."""
        scales = weight.detach().abs().amax(dim=(1, 2, 3)).clamp(min=1e-8) / WEIGHT_MAX
        x = torch.fake_quantize_per_tensor_affine(x, self.scale, 0, -128, 127)
        zeros = torch.zeros_like(scales, dtype=torch.int32)
        weight = torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -127, 127)
        return F.conv2d(x, weight, bias, self.stride, self.padding)


def read_through(conv: nn.Conv2d, x: Tensor, matrix: Tensor) -> Tensor:
    """Return ``matrix conv(x)`` in float32, for a 1x1 `conv` of C channels and `matrix` (K, C), without conv(x).

    The two are one convolution with fewer channels than `conv` where K < C.
    """
    assert conv.bias is not None
    weight = (matrix @ conv.weight.flatten(1).float())[..., None, None]
    bias = matrix @ conv.bias.float()
    return conv.rounded(x, weight, bias) if isinstance(conv, Int8Conv2d) else F.conv2d(x.float(), weight, bias)
