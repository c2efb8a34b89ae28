from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from gtasr_video.models.consistency import Path
from gtasr_video.models.temporal import fresh_noise, transport_noise
from gtasr_video.models.vgg import VGGDistance
from gtasr_video.ops.metrics import ssim
from gtasr_video.ops.warp import warp
from gtasr_video.training import losses
from tests.models.test_vgg import arrays

PATH = Path(4, 2.5, 0.3)


def pictures(count: int, size: int = 16) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(2, 3, size, size, generator=generator) * 2 - 1 for _ in range(count)]


def squared(a: Tensor, b: Tensor) -> Tensor:
    """Stand in for the perceptual distance: (B,), 0 iff equal."""
    return (a - b.detach()).square().mean(dim=(1, 2, 3))


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> VGGDistance:
    file = tmp_path_factory.mktemp("vgg") / "vgg.npz"
    np.savez(file, **arrays(2))
    return VGGDistance(file, layers=2)


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


@pytest.mark.parametrize("noise_scale", [0.0, 0.1, 1.0])
def test_alignment_pulls_every_wrong_pixel_towards_the_truth_on_every_path(noise_scale: float) -> None:
    """It is 0 iff the prediction is the truth: one pixel that is off by a 255th is seen, and pulled back."""
    (truth,) = pictures(1, 6)
    for path in (Path(4, 2.5, noise_scale), Path(3, 1.0, noise_scale), Path(2, 2.5, noise_scale)):
        for place in range(0, truth.numel(), 7):
            gap = torch.zeros_like(truth)
            gap.view(-1)[place] = 2 / 255 * (1 if place % 2 else -1)
            prediction = (truth + gap).requires_grad_(True)
            loss = losses.trajectory_alignment(prediction - truth, path)
            (gradient,) = torch.autograd.grad(loss, prediction)
            assert loss.item() > 0
            assert (gradient * gap).sum().item() > 0


@pytest.mark.parametrize("noise_scale", [0.0, 0.1, 1.0])
def test_temporal_alignment_equals_the_sum_over_the_path_with_transported_noise(noise_scale: float) -> None:
    """Truth and prediction are put on each step with one transported noise; their changes are compared, noise and all.

    Bilinear flow for the pictures, whole-pixel transport for the noise, another yup in each frame: all cancels.
    """
    now, before, guess, guess_before, yup, yup_before = pictures(6)
    flow = 3 * torch.rand(2, 2, 16, 16) - 1.5
    mask = (torch.rand(2, 1, 16, 16) > 0.2).float()
    keep = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    eps_before, fresh = (fresh_noise(5, torch.full((2,), k), 3, 16, 16) for k in range(2))
    eps, _ = transport_noise(eps_before, torch.zeros(2, 2, 16, 16), flow, keep, fresh)
    path = Path(4, 2.5, noise_scale)
    whole = torch.zeros(())
    for s in range(1, path.steps):
        tau = path.tau(torch.full((2,), s))
        change, wanted = (
            path.point(x, yup, eps, tau) - warp(path.point(x_before, yup_before, eps_before, tau), flow)
            for x, x_before in ((guess, guess_before), (now, before))
        )
        whole += losses.charbonnier(mask * (change - wanted)).mean() / mask.mean()
    loss = losses.temporal_trajectory_alignment(guess - now, guess_before - before, flow, mask, path)
    assert loss.item() == pytest.approx(whole.item(), rel=1e-4)


def test_temporal_alignment_is_zero_only_where_the_error_moves_with_the_scene() -> None:
    """One masked-in pixel whose error changes is seen and pulled back; one masked out is neither."""
    (error,) = pictures(1, 8)
    flow, mask = torch.zeros(2, 2, 8, 8), torch.ones(2, 1, 8, 8)
    mask[..., :2] = 0
    for place in range(0, error.numel(), 5):
        gap = torch.zeros_like(error)
        gap.view(-1)[place] = 2 / 255
        changed = (error + gap).requires_grad_(True)
        loss = losses.temporal_trajectory_alignment(changed, error, flow, mask, PATH)
        (gradient,) = torch.autograd.grad(loss, changed)
        counts = place % 8 >= 2
        assert (loss.item() > 0) is counts
        assert ((gradient * gap).sum().item() > 0) is counts


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


@pytest.mark.parametrize("distance", ["squared", "charbonnier", "vgg"])
def test_matching_gives_no_gradient_and_stays_finite_at_the_truth(distance: str, vgg: VGGDistance) -> None:
    """With each distance that stands in it: what the frozen copy reads is the same, so there is nothing to learn."""
    perceptual = {"squared": squared, "charbonnier": losses.pixel_distance, "vgg": vgg}[distance]
    truth, reading = pictures(2)
    prediction = truth.clone().requires_grad_(True)
    loss = losses.distribution_trajectory_matching(prediction, truth, reading, reading, perceptual)
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert torch.isfinite(loss)
    assert gradient.abs().max().item() == 0
    # The test can fail: with another reading there is a gradient.
    other = losses.distribution_trajectory_matching(prediction, truth, reading * 0.9, reading, perceptual)
    (gradient,) = torch.autograd.grad(other, prediction)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max().item() > 0


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


def test_the_discriminator_is_taught_by_what_it_is_not_sure_of_alone() -> None:
    sure, unsure = torch.full((1, 1, 2, 2), 1.5), torch.zeros(1, 1, 2, 2)
    assert losses.discriminator(sure, -sure).item() == 0
    assert losses.discriminator(unsure, unsure).item() == 2
    assert losses.discriminator(-sure, -sure).item() == 2.5


def test_the_adversarial_term_falls_where_what_is_made_looks_truer() -> None:
    verdict = torch.zeros(2, 1, 3, 3, requires_grad=True)
    losses.adversarial(verdict).backward()
    assert verdict.grad is not None
    assert bool((verdict.grad < 0).all())


def test_the_guide_is_judged_by_edges_and_texture_of_luma() -> None:
    from gtasr_video.ops.edges import laplacian, luma, sobel

    (truth,) = pictures(1)
    y = luma(truth)
    assert losses.guide(sobel(y), laplacian(y), truth).item() == pytest.approx(0, abs=1e-7)
    assert losses.guide(torch.zeros_like(y), torch.zeros_like(y), truth).item() > 0.1


def test_similarity_is_one_less_the_ssim_that_is_measured() -> None:
    truth, noise = pictures(2, 40)
    truth, noise = truth[..., :28], noise[..., :28]
    prediction = (0.7 * truth + 0.3 * noise).clamp(-1, 1)
    measured = ssim((prediction + 1) / 2, (truth + 1) / 2, border=0).mean().item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert losses.similarity(prediction, truth).item() == pytest.approx(1 - measured, abs=1e-5)


def test_similarity_asks_for_contrast_where_the_error_is_the_same() -> None:
    (truth,) = pictures(1, 32)
    truth = 0.5 * truth
    mean = truth.mean((2, 3), keepdim=True)
    flat = truth + 0.4 * (mean - truth)
    bold = truth - 0.4 * (mean - truth)
    assert losses.similarity(truth, truth).item() == pytest.approx(0, abs=1e-5)
    assert squared(flat, truth).allclose(squared(bold, truth))
    assert losses.similarity(flat, truth).item() > 1.5 * losses.similarity(bold, truth).item() > 0.01
    flat.requires_grad_(True)
    losses.similarity(flat, truth).backward()
    assert flat.grad is not None
    assert bool(flat.grad.isfinite().all())
    assert bool((flat.grad * (truth - mean)).sum() < 0), "it pulls towards more contrast"


def test_colour_is_that_of_the_input_whatever_the_detail() -> None:
    y, detail = pictures(2, 8)
    detail = detail - detail.mean((2, 3), keepdim=True)
    assert losses.color(y + detail, y).item() == pytest.approx(0, abs=1e-6)
    shift = torch.tensor([0.1, -0.2, 0.0]).view(3, 1, 1)
    assert losses.color(y + detail + shift, y).item() == pytest.approx(0.1, abs=1e-6)
