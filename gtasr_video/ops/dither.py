"""Ordered dither: where a smooth ramp falls between two codes, both are mixed instead of showing a step.

The thresholds are Bayer's 8 x 8 matrix (Bayer, "An optimum method for two-level rendition of continuous-tone pictures",
ICC 1973). They stay in place from frame to frame, so that nothing shimmers, and are the same on every device. A value
that is a code already comes out as that code: what the network leaves alone is not touched.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

SIZE = 8
# Eight bits show their steps on a smooth sky; ten do not.
DITHERED_BITS = 8


@cache
def _matrix(device: torch.device) -> Tensor:
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    rank = torch.zeros_like(x)
    for bit in range(3):
        low_x, low_y = (x >> bit) & 1, (y >> bit) & 1
        rank = (rank << 2) | ((low_x ^ low_y) << 1) | low_y
    return ((rank + 0.5) / SIZE**2).to(device, torch.float32)


def thresholds(height: int, width: int, device: torch.device) -> Tensor:
    """Return (height, width) float32 in (0, 1): add it to a value in codes and take the floor.

    With 1/2 everywhere that would be rounding; the mean here is 1/2 too.
    """
    matrix = _matrix(device)
    return matrix.repeat(-(-height // SIZE), -(-width // SIZE))[:height, :width]


def thresholds_in_cells(rows: int, columns: int, height: int, width: int, device: torch.device) -> Tensor:
    """Return the same for a plane in cells of `rows` x `columns`: (1, rows columns, height, width).

    Height and width are 1 where all cells are alike.
    """
    if rows % SIZE == 0 and columns % SIZE == 0:
        height = width = 1
    whole = thresholds(rows * height, columns * width, device)
    return whole.view(height, rows, width, columns).permute(1, 3, 0, 2).reshape(1, rows * columns, height, width)
