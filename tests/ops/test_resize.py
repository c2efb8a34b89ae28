from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gtasr_video.ops.resize import bicubic, enlarge, enlarge_bilinear, enlarge_in_cells, shrink, shrink_in_cells


def test_enlarging_keeps_brightness_and_scale_one_is_the_picture_itself() -> None:
    x = torch.rand(1, 3, 12, 16)
    assert enlarge(x, 1) is x
    flat = torch.full((1, 3, 6, 7), 0.3)
    assert torch.allclose(enlarge(flat, 4), torch.full((1, 3, 24, 28), 0.3), atol=1e-6)


def test_shrinking_is_antialiased() -> None:
    fine = torch.tensor([0.0, 1.0]).repeat(32).expand(1, 1, 64, 64)
    small = bicubic(fine, (16, 16))[..., 2:-2, 2:-2]
    assert (small - 0.5).abs().max().item() < 0.05


def test_shrinking_what_was_enlarged_gives_it_back() -> None:
    x = bicubic(torch.rand(1, 3, 6, 6), (24, 24))
    assert (bicubic(enlarge(x, 4), (24, 24)) - x).abs().mean().item() < 0.01


@pytest.mark.parametrize("factor", [1, 2, 3, 8])
def test_bilinear_enlarging_by_whole_lines_is_that_of_torch(factor: int) -> None:
    for size in ((5, 7), (1, 4)):
        x = torch.rand(2, 2, *size) * 2 - 1
        expected = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
        assert torch.allclose(enlarge_bilinear(x, factor), expected, atol=1e-6)


@pytest.mark.parametrize("cell", [1, 2])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_one_convolution_enlarges_into_cells(cell: int, scale: int) -> None:
    x = torch.randn(2, 1, 6, 8)
    expected = F.pixel_unshuffle(enlarge(x, scale), cell * scale)
    assert torch.allclose(enlarge_in_cells(x, cell, scale), expected, atol=1e-5)


@pytest.mark.parametrize("cell", [1, 2])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_one_convolution_shrinks_in_cells(cell: int, scale: int) -> None:
    cells = torch.randn(2, (cell * scale) ** 2, 6, 8)
    shrunk = shrink(cells, cell, scale)
    picture = F.pixel_shuffle(cells, cell * scale)
    inner = (..., slice(2, -2), slice(2, -2))
    assert torch.allclose(shrunk[inner], bicubic(picture, (6 * cell, 8 * cell))[inner], atol=1e-5)
    assert torch.allclose(shrink_in_cells(cells, cell, scale), F.pixel_unshuffle(shrunk, cell), atol=1e-5)


def keys(x: torch.Tensor, a: float) -> torch.Tensor:
    """Keys' cubic convolution kernel (1981, equation 15 with free a)."""
    x = x.abs()
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


@pytest.mark.parametrize(("size", "length", "width", "a"), [(16, 64, 1.0, -0.75), (64, 16, 4.0, -0.5)])
def test_the_kernels_are_the_two_that_are_documented(size: int, length: int, width: float, a: float) -> None:
    """The response to an impulse in the middle: -0.75 enlarging, -0.5 stretched by the factor shrinking."""
    impulse = torch.zeros(1, 1, size, size, dtype=torch.float64)
    impulse[..., size // 2, :] = 1
    response = bicubic(impulse, (length, length))[0, 0, :, 0]
    places = (torch.arange(length) + 0.5) * size / length - 0.5 - size // 2
    weights = keys(places.double() / width, a) / width
    assert torch.allclose(response, weights, atol=2e-4)
    assert not torch.allclose(response, keys(places.double() / width, -1.25 - a) / width, atol=1e-3)
