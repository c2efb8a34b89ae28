"""Dual-Reference Structural Rectification as a module of the network: the learned high-frequency guide.

Reference one, the LR cue, is the bicubic prior that the network's output is a residual on. Reference two is this
guide: a shallow network on the LR frame whose features join the trunk and whose maps are trained to be the Sobel and
Laplacian maps of the truth (arXiv 2602.24240, section on DRSR; the module form is ours).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from gtasr_video.models.blocks import activate, conv


class HighFrequencyGuide(nn.Module):
    """Two 3x3 convolutions on the pixel-unshuffled LR frame: (B, 3c^2, h, w) -> features (B, width, h, w)."""

    def __init__(self, cell: int, width: int) -> None:
        super().__init__()
        self.first = conv(3 * cell**2, width)
        self.second = conv(width, width)

    def forward(self, cells: Tensor) -> Tensor:
        """Return the guide's features."""
        return activate(self.second(activate(self.first(cells))))


class GuideMaps(nn.Module):
    """Read the maps off the guide's features; used in training only, where they are supervised."""

    def __init__(self, width: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.maps = conv(width, 2 * factor**2, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return (Sobel magnitude, Laplacian) of the HR luma as the guide sees them, each (B, 1, H, W)."""
        edges, texture = F.pixel_shuffle(self.maps(features), self.factor).chunk(2, dim=1)
        return edges, texture
