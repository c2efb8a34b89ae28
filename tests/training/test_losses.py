from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gtasr_video.models.consistency import Path
from gtasr_video.training import losses

PATH = Path(4, 2.5, 0.3)


def pictures(count: int, size: int = 16) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(2, 3, size, size, generator=generator) * 2 - 1 for _ in range(count)]


def squared(a: Tensor, b: Tensor) -> Tensor:
    """Stand in for the perceptual distance: (B,), 0 iff equal."""
    return (a - b.detach()).square().mean(dim=(1, 2, 3))


@pytest.mark.parametrize("noise_scale", [0.0, 0.1, 1.0])
def test_trajectory_alignment_equals_the_sum_over_the_path_with_its_noise(noise_scale: float) -> None:
    truth, prediction, yup = pictures(3)
    path = Path(4, 2.5, noise_scale)
    whole = torch.zeros(())
    for s in range(1, path.steps):
        eps = torch.randn_like(truth)
        tau = path.tau(torch.full((2,), s))
        whole += losses.charbonnier(path.point(truth, yup, eps, tau) - path.point(prediction, yup, eps, tau)).mean()
    assert losses.trajectory_alignment(prediction - truth, path).item() == pytest.approx(whole.item(), rel=1e-4)


def test_trajectory_alignment_is_zero_at_the_truth_only_and_pulls_towards_it() -> None:
    truth, other = pictures(2)
    assert losses.trajectory_alignment(truth - truth, PATH).item() == 0
    prediction = other.clone().requires_grad_(True)
    loss = losses.trajectory_alignment(prediction - truth, PATH)
    assert loss.item() > 0
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert (-gradient * (truth - other)).sum().item() > 0
    # Element by element too: every pixel is pulled towards its own truth.
    assert ((-gradient * (truth - other)) >= 0).all()


def test_temporal_alignment_sees_changes_of_the_error_not_of_the_picture() -> None:
    error, other = pictures(2)
    flow, mask = torch.zeros(2, 2, 16, 16), torch.ones(2, 1, 16, 16)
    assert losses.temporal_trajectory_alignment(error, error, flow, mask, PATH).item() == pytest.approx(0, abs=1e-6)
    change = other.clone().requires_grad_(True)
    loss = losses.temporal_trajectory_alignment(change, error, flow, mask, PATH)
    (gradient,) = torch.autograd.grad(loss, change)
    assert (-gradient * (error - other)).sum().item() > 0


def test_temporal_alignment_follows_the_motion_and_the_mask() -> None:
    (error,) = pictures(1)
    moved = error.roll(3, dims=-1)
    flow, mask = torch.zeros(2, 2, 16, 16), torch.ones(2, 1, 16, 16)
    flow[:, 0] = -3
    mask[..., :3] = 0
    loss = losses.temporal_trajectory_alignment(moved, error, flow, mask, PATH)
    assert loss.item() == pytest.approx(0, abs=1e-5)
    still = losses.temporal_trajectory_alignment(moved, error, torch.zeros_like(flow), mask, PATH)
    assert still.item() > 0.1
    nothing = losses.temporal_trajectory_alignment(moved, -error, flow, torch.zeros_like(mask), PATH)
    assert nothing.item() == 0


def test_matching_gives_no_gradient_and_stays_finite_at_the_truth() -> None:
    (truth,) = pictures(1)
    prediction = truth.clone().requires_grad_(True)
    loss = losses.distribution_trajectory_matching(prediction, truth, truth, truth, squared)
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert torch.isfinite(loss)
    assert gradient.abs().max().item() == 0


def test_matching_moves_against_the_difference_of_the_readings() -> None:
    truth, other, reading = pictures(3)
    prediction = other.clone().requires_grad_(True)
    from_truth = reading
    from_prediction = reading + 0.1
    loss = losses.distribution_trajectory_matching(prediction, truth, from_prediction, from_truth, squared)
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert (gradient > 0).all(), "descending must lower the prediction where its reading is too bright"


def test_rectification_compares_structure_not_brightness() -> None:
    truth, other = pictures(2)
    assert losses.rectification(truth * 0.5 + 0.2, truth * 0.5, squared).item() == pytest.approx(0, abs=1e-8)
    assert losses.rectification(other, truth, squared).item() > 1e-3


def test_temporal_rectification_needs_confidence_and_the_truths_agreement() -> None:
    truth, prediction, reference = pictures(3)
    sure = torch.ones(2, 1, 16, 16)
    loss = losses.temporal_rectification(prediction, reference, truth, truth, sure)
    assert loss.item() > 1e-3
    assert losses.temporal_rectification(prediction, reference, truth, truth, 0 * sure).item() == 0
    assert losses.temporal_rectification(prediction, prediction, truth, truth, sure).item() == pytest.approx(
        0, abs=1e-6
    )
    changed = losses.temporal_rectification(prediction, reference, truth, -truth.roll(5, -1), sure)
    assert changed.item() < 0.7 * loss.item()


def test_perceptual_alignment_is_unbiased_over_the_path() -> None:
    truth, prediction, yup = pictures(3)
    eps = torch.zeros_like(truth)
    wanted = sum(
        squared(path_point(prediction, yup, s), path_point(truth, yup, s)).mean().item() for s in range(1, PATH.steps)
    )
    each = [
        losses.trajectory_alignment_perceptual(truth, prediction, yup, eps, PATH, torch.full((2,), s), squared).item()
        for s in range(1, PATH.steps)
    ]
    assert sum(each) / len(each) == pytest.approx(wanted, rel=1e-5)


def path_point(x: Tensor, yup: Tensor, s: int) -> Tensor:
    return PATH.point(x, yup, torch.zeros_like(x), PATH.tau(torch.full((2,), s)))


def test_the_guide_is_judged_by_edges_and_texture_of_luma() -> None:
    from gtasr_video.ops.edges import laplacian, luma, sobel

    (truth,) = pictures(1)
    y = luma(truth)
    assert losses.guide(sobel(y), laplacian(y), truth).item() == pytest.approx(0, abs=1e-7)
    assert losses.guide(torch.zeros_like(y), torch.zeros_like(y), truth).item() > 0.1
