"""The trunk: a U of residual blocks, from the cell resolution down by twos and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from gtasr_video.models.blocks import ResidualBlock, conv


class Trunk(nn.Module):
    """Residual blocks at each level on the way down and up, joined by additions.

    widths  channels a level, finest first; each level has half the size of the one before
    depths  residual blocks (down, up) a level; the last level uses only the first number

    Most weights sit at the coarse levels, where a multiply-accumulate is shared by many pixels. No global operation:
    the output at a place depends on a bounded window, which is what makes tiles exact.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[tuple[int, int]], embedding: int) -> None:
        super().__init__()
        levels = range(len(widths))
        self.down = nn.ModuleList(_blocks(widths[i], depths[i][0], embedding) for i in levels)
        self.up = nn.ModuleList(_blocks(widths[i], depths[i][1], embedding) for i in levels[:-1])
        self.shrink = nn.ModuleList(conv(widths[i], widths[i + 1], 3, stride=2) for i in levels[:-1])
        self.grow = nn.ModuleList(conv(widths[i + 1], 4 * widths[i], 1) for i in levels[:-1])

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        """Map (B, widths[0], H, W) to the same shape; H and W are multiples of 2^(levels - 1)."""
        return self._level(0, x, embedding)

    def blocks(self) -> Iterator[ResidualBlock]:
        """Iterate over all residual blocks."""
        return (m for m in self.modules() if isinstance(m, ResidualBlock))

    def _level(self, level: int, x: Tensor, embedding: Tensor | None) -> Tensor:
        x = _run(self.down[level], x, embedding)
        if level == len(self.shrink):
            return x
        below = self._level(level + 1, self.shrink[level](x), embedding)
        x = x + F.pixel_shuffle(self.grow[level](below), 2)
        return _run(self.up[level], x, embedding)


def _run(blocks: nn.Module, x: Tensor, embedding: Tensor | None) -> Tensor:
    for block in blocks.children():
        x = block(x, embedding)
    return x


def _blocks(width: int, count: int, embedding: int) -> nn.ModuleList:
    return nn.ModuleList(ResidualBlock(width, embedding) for _ in range(count))


def trunk_reach(depths: Sequence[tuple[int, int]]) -> int:
    """Return how many cells to each side the trunk can see.

    A 3x3 convolution at level i reaches 2^i cells, the strided one on the way down as far as one of its own level,
    and a pixel shuffle up to 2^(i+1) - 1 further within its parent.
    """
    reach = 0
    for level, (down, up) in enumerate(depths):
        last = level == len(depths) - 1
        convolutions = 2 * (down if last else down + up)
        reach += convolutions * 2**level
        if not last:
            reach += 2**level + (2 ** (level + 1) - 1)
    return reach
