"""Planes made in cells against the plain way: enlarge, shuffle, add, convert."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gtasr_video.frames import ColorSpec, PixelLayout
from gtasr_video.ops.assembly import can_assemble, planes_from_cells
from gtasr_video.ops.color import rgb_to_yuv
from gtasr_video.ops.resize import enlarge

LAYOUTS = [
    PixelLayout("yuv420p"),
    PixelLayout("yuv420p10le", 10),
    PixelLayout("yuv422p10le", 10, 1, 0),
    PixelLayout("yuv444p", 8, 0, 0),
    PixelLayout("gray", planes=1),
    PixelLayout("gbrp", 8, 0, 0),
]
# Cell and scale of the tiers, and their other scales.
SHAPES = [(2, 4), (2, 3), (2, 2), (1, 4)]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("color", [ColorSpec("bt709"), ColorSpec("bt601", chroma_siting="center", full_range=True)])
@pytest.mark.parametrize(("cell", "scale"), SHAPES)
def test_it_is_the_plain_way_to_rounding(layout: PixelLayout, color: ColorSpec, cell: int, scale: int) -> None:
    generator = torch.Generator().manual_seed(cell + scale)
    height, width, side = 4 * cell, 10 * cell, cell * scale
    assert can_assemble(width, cell, scale, layout, color)
    # Beyond black and white too, where codes are limited.
    x = torch.rand(1, 3, height, width, generator=generator) * 2.4 - 1.2
    residual = 0.1 * torch.randn(1, 3 * side**2, height // cell, width // cell, generator=generator)
    ours = planes_from_cells(x, residual, cell, scale, layout, color)
    plain = rgb_to_yuv((enlarge(x, scale) + F.pixel_shuffle(residual, side) + 1) / 2, layout, color)
    for one, other in zip(ours, plain, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        away = (one.int() - other.int()).abs()
        assert away.max() <= 1
        assert away.float().mean() < 0.01  # a rare code on the edge between two


@pytest.mark.parametrize(
    ("case", "color"),
    [
        ((32, 1, 3, LAYOUTS[0]), ColorSpec()),  # nine pixels cannot be halved
        ((32, 1, 2, LAYOUTS[0]), ColorSpec()),  # the filter of chroma reaches beyond the next cell
        ((6, 2, 4, LAYOUTS[0]), ColorSpec()),  # the sides are too near to each other
        ((32, 2, 4, LAYOUTS[0]), ColorSpec(chroma_siting="topleft")),
    ],
)
def test_it_says_what_it_cannot(case: tuple[int, int, int, PixelLayout], color: ColorSpec) -> None:
    assert not can_assemble(*case, color)
