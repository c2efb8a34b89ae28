"""Dither: exact codes stay, ramps become mixtures, and the pattern is the same however a plane is laid out."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from gtasr_video.frames import ColorSpec, PixelLayout
from gtasr_video.ops.assembly import planes_from_cells
from gtasr_video.ops.color import rgb_to_yuv
from gtasr_video.ops.dither import thresholds, thresholds_in_cells
from gtasr_video.ops.resize import enlarge

CPU = torch.device("cpu")
GREY = PixelLayout("gray", planes=1)
FULL = ColorSpec("bt709", full_range=True)


def codes(value: torch.Tensor, layout: PixelLayout = GREY, *, dither: bool = True) -> torch.Tensor:
    """Return the codes of grey of `value` (in codes)."""
    rgb = (value / 255).expand(1, 3, *value.shape)
    return rgb_to_yuv(rgb, layout, FULL, dither=dither)[0]


def test_the_thresholds_are_all_different_and_even() -> None:
    found = thresholds(8, 8, CPU).flatten().sort().values
    assert torch.equal(found, (torch.arange(64) + 0.5) / 64)


def test_a_value_that_is_a_code_stays_and_ten_bits_are_not_touched() -> None:
    whole = torch.arange(256.0).repeat(9, 1)
    assert torch.equal(codes(whole).float(), whole)
    ten = PixelLayout("gray10le", 10, planes=1)
    ramp = torch.linspace(20, 30, 64).repeat(8, 1)
    assert torch.equal(codes(ramp, ten).int(), codes(ramp, ten, dither=False).int())


def test_a_slow_ramp_shows_no_steps() -> None:
    """The mean over a few pixels follows the ramp, where rounding leaves it by half a code."""
    ramp = torch.linspace(100, 103, 512).repeat(64, 1)

    def worst(dither: bool) -> float:
        mean = F.avg_pool2d(codes(ramp, dither=dither).float()[None], 8)
        return float((mean - F.avg_pool2d(ramp[None], 8)).abs().max())

    assert worst(dither=True) < 0.05 < 0.4 < worst(dither=False)


def test_cells_carry_the_pattern_of_the_plane() -> None:
    for rows, columns in ((8, 8), (4, 8), (6, 6), (1, 3)):
        cells = thresholds_in_cells(rows, columns, 5, 7, CPU).expand(1, rows * columns, 5, 7)
        plane = cells.view(rows, columns, 5, 7).permute(2, 0, 3, 1).reshape(5 * rows, 7 * columns)
        assert torch.equal(plane, thresholds(5 * rows, 7 * columns, CPU))


def test_planes_made_in_cells_are_dithered_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    layout, color = PixelLayout("yuv420p"), ColorSpec()
    x = torch.rand(1, 3, 12, 20, generator=generator) * 2 - 1
    residual = torch.randn(1, 192, 6, 10, generator=generator) / 10
    found = planes_from_cells(x, residual, 2, 4, layout, color, dither=True)
    picture = (enlarge(x, 4) + F.pixel_shuffle(residual, 8) + 1) / 2
    for one, other in zip(found, rgb_to_yuv(picture, layout, color, dither=True), strict=True):
        gap = (one.int() - other.int()).abs()
        assert int(gap.max()) <= 1 and float(gap.float().mean()) < 0.005
