"""Warping: exact for whole pixels, linear between them, and honest about what it cannot know."""

from __future__ import annotations

import pytest
import torch

from gtasr_video.ops.warp import consistent, inside, warp


def constant(right: float, down: float, height: int = 12, width: int = 17) -> torch.Tensor:
    return torch.tensor([right, down]).view(1, 2, 1, 1).expand(1, 2, height, width)


def picture() -> torch.Tensor:
    return torch.rand(1, 3, 12, 17, generator=torch.Generator().manual_seed(0))


def test_no_flow_changes_nothing() -> None:
    assert torch.allclose(warp(picture(), constant(0, 0)), picture(), atol=1e-6)


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, 2), (-4, 1), (2, -3)])
def test_whole_pixels_are_fetched_from_p_plus_flow(right: int, down: int) -> None:
    moved = warp(picture(), constant(right, down))
    expected = torch.roll(picture(), (-down, -right), (2, 3))
    valid = inside(constant(right, down)).expand_as(moved)
    assert torch.allclose(moved[valid], expected[valid], atol=1e-5)
    assert valid.float().mean() == pytest.approx((12 - abs(down)) * (17 - abs(right)) / (12 * 17))


def test_between_pixels_it_is_linear() -> None:
    ramp = torch.arange(17.0).view(1, 1, 1, 17).expand(1, 1, 12, 17)
    moved = warp(ramp, constant(0.25, 0.5))
    assert torch.allclose(moved[..., :-1], ramp[..., :-1] + 0.25, atol=1e-5)


def test_sharp_takes_less_of_detail_and_amplifies_nothing() -> None:
    """Any wave, moved by any part of a pixel: what is left of it, in x and in y."""
    width = 64
    point = torch.zeros(1, 1, 64, width)
    point[..., 32, 32] = 1
    for part in torch.linspace(0, 1, 11).tolist():
        for flow in (constant(part, 0, 64, width), constant(0, part, 64, width)):
            left = {sharp: torch.fft.fft2(warp(point, flow, sharp=sharp)).abs() for sharp in (False, True)}
            assert left[True].max() < 1 + 1e-5
            assert (left[True] >= left[False] - 1e-5).all()
    half = constant(0.5, 0, 64, width)
    left = {sharp: torch.fft.fft2(warp(point, half, sharp=sharp)).abs()[0, 0, 0] for sharp in (False, True)}
    assert (left[False][8], left[False][16]) == (pytest.approx(0.924, abs=1e-3), pytest.approx(0.707, abs=1e-3))
    assert (left[True][8], left[True][16]) == (pytest.approx(0.992, abs=1e-3), pytest.approx(0.884, abs=1e-3))


def test_sharp_fetches_whole_pixels_and_repeats_the_border() -> None:
    assert torch.allclose(warp(picture(), constant(2, -3), sharp=True), warp(picture(), constant(2, -3)), atol=1e-5)
    far = warp(picture(), constant(100, 0), sharp=True)
    assert torch.allclose(far, picture()[..., -1:].expand_as(far), atol=1e-5)


def test_the_border_is_repeated_outside() -> None:
    moved = warp(picture(), constant(100, 0))
    assert torch.allclose(moved, picture()[..., -1:].expand_as(moved), atol=1e-5)
    assert not inside(constant(100, 0)).any()


def test_half_precision_keeps_its_type_and_places() -> None:
    wide = torch.arange(3000.0).view(1, 1, 1, 3000).expand(1, 1, 2, 3000) % 7
    moved = warp(wide.bfloat16(), constant(1, 0, 2, 3000))
    assert moved.dtype == torch.bfloat16
    assert torch.allclose(moved[..., :-1].float(), wide[..., 1:], atol=0.05)


def test_gradients_reach_picture_and_flow() -> None:
    x, flow = picture().requires_grad_(), constant(0.3, 0.6).clone().requires_grad_()
    warp(x, flow).square().sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert flow.grad is not None and flow.grad.abs().sum() > 0


def test_consistent_where_there_and_back_agree() -> None:
    there = constant(2, -1)
    assert torch.equal(consistent(there, -there), inside(there))
    assert not consistent(there, there).any()
    assert not consistent(there, torch.zeros_like(there)).any()


def test_one_pixel_wide_pictures_work() -> None:
    thin = torch.rand(1, 3, 12, 1)
    assert torch.allclose(warp(thin, constant(0, 0, 12, 1)), thin, atol=1e-6)
