"""The discriminator of the adversarial term: does this frame, and how it changed, look like the truth's?

It sees windows alone, of the frame, of what changed in it since the frame before and of what it was made from, so that
a picture is judged by its input and its past: detail that the input contradicts, and detail that flickers, give it
away. It sees luma alone: where it saw colours, they drifted within a few hundred steps, by 0.4 of a level in the mean
of a picture. Training alone has it; it is not part of the weights that ship.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from gtasr_video.ops.edges import luma

_WIDTHS = (32, 64, 96, 128)


class Discriminator(nn.Module):
    """Says of every patch of a window how true it looks: above 0 for true, below for made.

    A convolution at full size, three that halve it, and two that look around, each with its largest singular value
    brought to 1 (Miyato et al., arXiv 1802.05957), which keeps it from running ahead of the network it judges.
    """

    def __init__(self) -> None:
        super().__init__()
        first, *others = _WIDTHS
        layers: list[nn.Module] = [_convolution(3, first, 3)]
        for before, after in zip(_WIDTHS, others, strict=False):
            layers.append(_convolution(before, after, 4, stride=2))
        layers += [_convolution(_WIDTHS[-1], _WIDTHS[-1], 3), _convolution(_WIDTHS[-1], 1, 3)]
        self.layers = nn.ModuleList(layers)

    def forward(self, picture: Tensor, change: Tensor, yup: Tensor) -> Tensor:
        """Return (B, 1, H/8, W/8), fp32, for windows (B, 3, H, W) in [-1, 1].

        change  what the frame before, moved to this one, differs from it; 0 where there is none
        yup     the LR cue: bicubic of the frame's input
        """
        # fp32 also where autocast would have less: the singular values must be exact for what they bound.
        with torch.autocast(picture.device.type, enabled=False):
            x = torch.cat([luma(picture.float()), luma(change.float()), luma(yup.float())], dim=1)
            *hidden, last = self.layers
            for layer in hidden:
                x = F.leaky_relu(layer(x), 0.2)
            verdict: Tensor = last(x)
        return verdict


def _convolution(channels: int, out: int, size: int, stride: int = 1) -> nn.Module:
    return spectral_norm(nn.Conv2d(channels, out, size, stride, padding=1))
