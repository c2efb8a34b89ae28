"""Scores against independent implementations, at the extremes, and in the order they must keep."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from gtasr_video.ops.metrics import color_shift, jitter, luma, luma_full, psnr, ssim, warping_error


def pictures(seed: int = 0, count: int = 2) -> torch.Tensor:
    """Smooth random pictures, as uint8 steps of 1/255."""
    draw = np.random.default_rng(seed)
    x = draw.random((count, 3, 48, 60))
    for axis in (2, 3):
        x = correlate1d(x, np.ones(5) / 5, axis=axis)
    return torch.from_numpy(np.round(255 * (x - x.min()) / (x.max() - x.min())) / 255).float()


def noisy(x: torch.Tensor, sigma: float, seed: int = 1) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (x + sigma * torch.randn(x.shape, generator=draw)).clamp(0, 1)


def reference_luma(x: torch.Tensor) -> np.ndarray:
    red, green, blue = (x[:, c].double().numpy() for c in range(3))
    return (16 + 65.481 * red + 128.553 * green + 24.966 * blue)[:, 4:-4, 4:-4]


def reference_psnr(a: torch.Tensor, b: torch.Tensor) -> list[float]:
    errors = ((reference_luma(a) - reference_luma(b)) ** 2).mean((1, 2))
    return [20 * math.log10(255) - 10 * math.log10(e) for e in errors]


def reference_ssim(a: torch.Tensor, b: torch.Tensor) -> list[float]:
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    line /= line.sum()

    def smooth(x: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(x, line, axis=0), line, axis=1)[5:-5, 5:-5]

    found = []
    for x, y in zip(reference_luma(a), reference_luma(b), strict=True):
        mx, my = smooth(x), smooth(y)
        vx, vy, vxy = smooth((x - 128) ** 2), smooth((y - 128) ** 2), smooth((x - 128) * (y - 128))
        vx, vy, vxy = vx - (mx - 128) ** 2, vy - (my - 128) ** 2, vxy - (mx - 128) * (my - 128)
        top = (2 * mx * my + 2.55**2) * (2 * vxy + 7.65**2)
        found.append(float((top / ((mx**2 + my**2 + 2.55**2) * (vx + vy + 7.65**2))).mean()))
    return found


@pytest.mark.parametrize("sigma", [0.01, 0.1])
def test_psnr_and_ssim_agree_with_a_reference(sigma: float) -> None:
    a, b = pictures(), noisy(pictures(), sigma)
    assert psnr(a, b).tolist() == pytest.approx(reference_psnr(a, b), abs=1e-4)
    assert ssim(a, b).tolist() == pytest.approx(reference_ssim(a, b), abs=1e-6)


def test_a_known_psnr() -> None:
    a = torch.full((1, 3, 32, 32), 0.5)
    # One step of 8-bit grey is 219/255 of a step of luma.
    assert psnr(a, a + 1 / 255).item() == pytest.approx(20 * math.log10(255 * 255 / 219), abs=1e-3)


def test_equal_pictures_score_best() -> None:
    a = pictures()
    assert psnr(a, a).tolist() == [100.0, 100.0]
    assert ssim(a, a).tolist() == pytest.approx([1.0, 1.0])
    assert color_shift(a, a).tolist() == [0.0, 0.0]


def test_more_noise_scores_worse() -> None:
    a = pictures()
    levels = [noisy(a, sigma) for sigma in (0.01, 0.03, 0.1)]
    for score in (psnr, ssim):
        found = [score(a, b).mean().item() for b in levels]
        assert found == sorted(found, reverse=True)


def test_the_border_is_not_looked_at() -> None:
    a = pictures()
    b = a.clone()
    b[..., :4, :], b[..., -4:, :], b[..., :4], b[..., -4:] = 0, 1, 0, 1
    assert psnr(a, b).tolist() == [100.0, 100.0]
    assert psnr(a, b, border=3).max() < 40


def test_luma_of_black_white_and_red() -> None:
    colors = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0]])[:, :, None, None]
    assert luma(colors).flatten().tolist() == pytest.approx([16, 235, 81.481], abs=1e-3)
    assert luma_full(colors).flatten().tolist() == pytest.approx([0, 255, 76.245], abs=1e-3)


def moving(count: int = 6, step: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """A scene that moves `step` pixels left a frame, and its flow from each frame to the one before."""
    wide = pictures(3, 1)
    # The scene moves left, so a pixel was further to the right before: sample at p + step.
    frames = torch.cat([wide[..., k * step : k * step + 40] for k in range(count)])
    flow = torch.tensor([float(step), 0.0]).view(1, 2, 1, 1).expand(1, 2, 48, 40)
    return frames, flow


def valid_for(flow: torch.Tensor) -> torch.Tensor:
    mask = torch.ones(1, 1, *flow.shape[-2:], dtype=torch.bool)
    mask[..., -4:] = False
    return mask


def mean_jitter(frames: torch.Tensor, truth: torch.Tensor, flow: torch.Tensor) -> float:
    scores = [
        jitter(frames[k : k + 1], frames[k - 1 : k], truth[k : k + 1], truth[k - 1 : k], flow, valid_for(flow))
        for k in range(1, len(frames))
    ]
    return torch.cat(scores).mean().item()


def test_the_truth_has_no_jitter_and_noise_has() -> None:
    truth, flow = moving()
    assert mean_jitter(truth, truth, flow) == 0
    assert mean_jitter(noisy(truth, 0.02), truth, flow) > 2


def test_texture_that_moves_with_the_scene_is_no_jitter() -> None:
    truth, flow = moving()
    wide = noisy(pictures(3, 1), 0.05)
    stuck = torch.cat([wide[..., 2 * k : 2 * k + 40] for k in range(len(truth))])
    assert mean_jitter(stuck, truth, flow) < 1e-3
    on_screen = (truth + (stuck[:1] - truth[:1])).clamp(0, 1)
    assert mean_jitter(on_screen, truth, flow) > 5


def test_light_that_really_changes_is_no_jitter() -> None:
    truth, flow = moving()
    ramp = torch.linspace(0.5, 1.0, len(truth)).view(-1, 1, 1, 1)
    lit = truth * ramp
    assert mean_jitter((lit + 0.1).clamp(0, 1), lit, flow) < 0.6
    assert mean_jitter(truth, lit, flow) > 5, "a result that does not follow the light is wrong"


def test_flicker_of_brightness_is_jitter_of_its_size() -> None:
    truth, flow = moving()
    truth = truth * 0.8
    flicker = truth + torch.tensor([0.0, 4 / 255] * 3).view(-1, 1, 1, 1)
    assert mean_jitter(flicker, truth, flow) == pytest.approx(4, abs=1e-3)


def test_warping_error_is_zero_along_the_motion_only() -> None:
    truth, flow = moving()
    now, before = truth[1:2], truth[:1]
    assert warping_error(now, before, flow, valid_for(flow)).item() < 1e-4
    assert warping_error(now, before, flow * 0, valid_for(flow)).item() > 5


def test_nowhere_to_look_is_no_score() -> None:
    truth, flow = moving()
    nowhere = torch.zeros_like(valid_for(flow))
    assert math.isnan(warping_error(truth[1:2], truth[:1], flow, nowhere).item())


def test_color_shift_is_in_eight_bit_steps() -> None:
    grey = torch.full((1, 3, 8, 8), 0.5)
    assert color_shift(grey, grey + 2 / 255).item() == pytest.approx(2, abs=1e-4)
    red = grey.clone()
    red[:, 0] += 2 / 255
    assert color_shift(grey, red).item() == pytest.approx(2 * (1 - 0.299) / 1.402, abs=1e-4)
