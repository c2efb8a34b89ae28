from __future__ import annotations

import pytest
import torch

from gtasr_video.ops.edges import laplacian, luma, sobel


def ramp(slope: float) -> torch.Tensor:
    return (slope * torch.arange(8.0)).expand(1, 1, 8, 8)


def test_sobel_measures_the_slope_whatever_its_direction() -> None:
    inner = sobel(ramp(0.25))[..., 2:-2, 2:-2]
    assert torch.allclose(inner, torch.full_like(inner, 0.5), atol=1e-4)
    turned = sobel(ramp(0.25).transpose(-1, -2))[..., 2:-2, 2:-2]
    assert torch.allclose(turned, inner)


def test_sobel_is_smooth_on_flat_ground() -> None:
    flat = torch.full((1, 3, 8, 8), 0.3, requires_grad=True)
    edges = sobel(flat)
    assert edges.max().item() < 2e-3
    (gradient,) = torch.autograd.grad(edges.sum(), flat)
    assert torch.isfinite(gradient).all()


def test_laplacian_sees_curves_and_no_slopes() -> None:
    assert laplacian(ramp(0.25))[..., 2:-2, 2:-2].abs().max().item() < 1e-6
    point = torch.zeros(1, 1, 5, 5)
    point[..., 2, 2] = 1
    assert laplacian(point)[0, 0, 2].tolist() == pytest.approx([0, 0.25, -1, 0.25, 0])


def test_luma_of_grey_is_the_grey() -> None:
    assert torch.allclose(luma(torch.full((1, 3, 2, 2), 0.4)), torch.full((1, 1, 2, 2), 0.4), atol=1e-6)
