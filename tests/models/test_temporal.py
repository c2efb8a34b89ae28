from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gtasr_video.models.flow import Motion, estimate_motion, gather_pixels
from gtasr_video.models.temporal import (
    find_reference,
    fresh_noise,
    missed,
    move_features,
    move_picture,
    transport_noise,
)
from gtasr_video.ops.edges import luma
from tests.models.networks import scene


def test_confidence_is_high_where_motion_explains_and_zero_without_a_frame_before() -> None:
    clip = scene(2, 64, 96, seed=3, shift=4)
    known = find_reference(luma(clip[:, 1]), luma(clip[:, 0]), torch.tensor([1]), 2)
    assert known.valid.all()
    assert known.confidence[..., 8:-8, 12:-12].mean() > 0.9
    first = find_reference(luma(clip[:, 1]), luma(clip[:, 0]), torch.tensor([0]), 2)
    assert first.confidence.abs().max() == 0
    assert not first.valid.any()


def test_fine_print_is_believed_where_it_moved_and_not_where_something_else_stands() -> None:
    """Aliasing grows with contrast: the same error says little on print and all on flat ground."""
    dots = torch.randint(0, 2, (1, 1, 50, 70), generator=torch.Generator().manual_seed(1)).float() * 1.6 - 0.8
    page = dots.repeat_interleave(6, 2).repeat_interleave(6, 3).expand(-1, 3, -1, -1)

    def sampled(x: int) -> Tensor:
        return torch.nn.functional.avg_pool2d(page[..., :256, x : x + 256], 2)[..., ::2, ::2]

    before, after = sampled(0), sampled(2)
    age = torch.tensor([1])
    moved = find_reference(luma(after), luma(before), age, 2)
    assert moved.confidence[..., 8:-8, 8:-8].mean() > 0.4
    other = torch.cat([after[..., :32], sampled(9).flip(2)[..., 32:]], dim=-1)
    replaced = find_reference(luma(other), luma(before), age, 2)
    assert replaced.confidence[..., 8:-8, 20:-6].mean() < 0.1


def test_a_new_scene_is_a_cut_and_a_change_of_light_is_not() -> None:
    before, after = scene(1, 64, 96, seed=1)[:, 0], scene(1, 64, 96, seed=2)[:, 0]
    age = torch.tensor([7])
    assert not find_reference(luma(after), luma(before), age, 2).valid.item()
    assert find_reference(luma(before) + 0.05, luma(before), age, 2).valid.item()


def test_features_move_by_whole_pixels() -> None:
    clip = scene(2, 64, 96, seed=3, shift=3)
    motion = estimate_motion(luma(clip[:, 1]), luma(clip[:, 0]), 2)
    picture = torch.randn(1, 3, 64, 96)
    cells = torch.nn.functional.pixel_unshuffle(picture, 2)
    moved = torch.nn.functional.pixel_shuffle(move_features(cells, motion, 2), 2)
    dense = motion.whole.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(moved, gather_pixels(picture, dense))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_picture_moves_by_pixels_of_its_own_size(scale: int) -> None:
    """A quarter of an LR pixel is one pixel of a picture four times as large, and there it is exact."""
    h, w, cell = 16, 24, 2
    flow = torch.zeros(1, 2, h // cell, w // cell)
    flow[:, 0], flow[:, 1] = 1 / scale, -2 / scale
    still = torch.zeros(1, 1, h // cell, w // cell)
    picture = torch.randn(1, 3, h * scale, w * scale)
    cells = torch.nn.functional.pixel_unshuffle(picture, cell * scale)
    moved = move_picture(cells, Motion(flow, flow.long(), still), cell, scale)
    back = torch.nn.functional.pixel_shuffle(moved, cell * scale)
    assert torch.allclose(back[..., 2:, :-1], picture[..., :-2, 1:], atol=1e-4)


def test_what_is_moved_again_and_again_stays_sharp() -> None:
    """Stripes as wide as four LR pixels, x4, moved ten times by an eighth of one: by half a pixel of their own."""
    flow = torch.zeros(1, 2, 8, 16)
    flow[:, 0] = 1 / 8
    motion = Motion(flow, flow.long(), torch.zeros(1, 1, 8, 16))
    stripes = torch.sin(2 * torch.pi / 16 * torch.arange(128.0)).expand(1, 1, 64, 128)
    cells = torch.nn.functional.pixel_unshuffle(stripes, 8)
    for _ in range(10):
        cells = move_picture(cells, motion, 2, 4)
    back = torch.nn.functional.pixel_shuffle(cells, 8)[..., 16:-16]
    assert back.abs().max() > 0.95  # bilinear means would leave 0.82
    assert back.abs().max() < 1.001


def test_memory_that_shows_the_frame_has_missed_nothing_of_it() -> None:
    frame = torch.rand(1, 1, 16, 24) - 0.5
    assert missed(frame, frame).abs().max() == 0


def test_detail_that_memory_misses_is_believed_sooner_than_that_it_has_too_much() -> None:
    """Stripes in the frame or in memory alone, and too faint to tell from damage in either."""
    stripes = torch.tensor([1.0, -1.0]).repeat(12).expand(1, 1, 16, 24)
    assert missed(0.03 * stripes, 0 * stripes).abs().max() == 0
    assert torch.allclose(missed(0.2 * stripes, 0 * stripes), 0.5 * (0.2 - 0.04) * stripes)
    assert missed(0.01 * stripes, 0.1 * stripes).abs().max() == 0
    assert torch.allclose(missed(0.05 * stripes, 0.25 * stripes), -0.5 * (0.2 - 0.1) * stripes)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def test_transported_noise_stays_unit_gaussian_and_follows_the_motion() -> None:
    """A thousand frames of random motion: mean 0, variance 1, white in space, and carried along where asked."""
    h, w, frames = 24, 32, 1000
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(frames, 2, 3, 4, generator=generator) * 1.5
    vectors = torch.nn.functional.interpolate(coarse, size=(h, w), mode="bilinear")
    keeps = torch.rand(frames, 1, h, w, generator=generator) > 0.05
    fresh = fresh_noise(1, torch.arange(1, frames + 1), 3, h, w)
    noise, drift = fresh_noise(1, torch.zeros(1, dtype=torch.int64), 3, h, w), torch.zeros(1, 2, h, w)
    seen, followed = [], []
    for k in range(frames):
        step = torch.round(vectors[k : k + 1] - drift).long()
        before = noise
        noise, drift = transport_noise(noise, drift, vectors[k : k + 1], keeps[k : k + 1], fresh[k : k + 1])
        assert drift.abs().max() <= 1
        seen.append(noise)
        followed.append(gather_pixels(before, step))
    now, moved = torch.cat(seen), torch.cat(followed)
    # 1000 x 2304 values, of which a frame shares most with the one before: 0.01 is five standard deviations.
    assert abs(now.mean().item()) < 0.01
    assert now.var().item() == pytest.approx(1, abs=0.01)
    assert abs(now.pow(3).mean().item()) < 0.03
    assert now.pow(4).mean().item() == pytest.approx(3, abs=0.06)
    assert abs(correlation(now[..., 1:], now[..., :-1])) < 0.01
    assert abs(correlation(now[..., 1:, :], now[..., :-1, :])) < 0.01
    assert abs(correlation(now[..., 1:, 1:], now[..., :-1, :-1])) < 0.01
    # Each frame by itself too: nothing wears out.
    each = now.flatten(1)
    assert each.var(dim=1).sub(1).abs().max().item() < 0.2
    assert now[-100:].var().item() == pytest.approx(1, abs=0.02)
    # A carried value is the very value: along the motion the correlation is the share carried, no more and no less.
    carried = (now == moved).float().mean().item()
    assert 0.6 < carried < 0.95
    assert correlation(now, moved) == pytest.approx(carried, abs=0.01)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0])
def test_the_correlation_along_the_motion_is_the_one_asked_for(share: float) -> None:
    """Where whole-pixel motion is believed at a share of the places, that share of the noise goes along."""
    h, w, frames = 32, 40, 60
    generator = torch.Generator().manual_seed(4)
    noise, drift = fresh_noise(2, torch.zeros(1, dtype=torch.int64), 3, h, w), torch.zeros(1, 2, h, w)
    pairs = []
    for k in range(1, frames + 1):
        dx, dy = torch.randint(-3, 4, (2,), generator=generator).tolist()
        vector = torch.tensor([dx, dy], dtype=torch.float32).view(1, 2, 1, 1).expand(1, 2, h, w)
        keep = torch.rand(1, 1, h, w, generator=generator) < share
        before, fresh = noise, fresh_noise(2, torch.tensor([k]), 3, h, w)
        noise, drift = transport_noise(noise, drift, vector, keep, fresh)
        pairs.append(torch.stack([noise, gather_pixels(before, vector.long())])[..., 4:-4, 4:-4])
    now, moved = torch.cat(pairs, dim=1)
    assert correlation(now, moved) == pytest.approx(share, abs=0.01)


def test_slow_motion_adds_up_instead_of_being_rounded_away() -> None:
    h, w = 16, 64
    noise = fresh_noise(0, torch.zeros(1, dtype=torch.int64), 1, h, w)
    start, drift = noise, torch.zeros(1, 2, h, w)
    vector = torch.zeros(1, 2, h, w)
    vector[:, 0] = -0.3
    keep = torch.ones(1, 1, h, w, dtype=torch.bool)
    for k in range(1, 21):
        noise, drift = transport_noise(noise, drift, vector, keep, fresh_noise(0, torch.tensor([k]), 1, h, w))
    # 20 frames of 0.3 pixels to the right are 6 pixels.
    assert torch.equal(noise[..., 8:-8], start[..., 2:-14])


def test_a_source_gives_its_noise_to_one_place_only() -> None:
    h, w = 8, 32
    noise = fresh_noise(0, torch.zeros(1, dtype=torch.int64), 1, h, w)
    fresh = fresh_noise(0, torch.ones(1, dtype=torch.int64), 1, h, w)
    # Zoom in by two: two places ask for each source.
    x = torch.arange(w).view(1, 1, w).expand(1, h, w)
    vector = torch.stack([torch.div(x, 2, rounding_mode="floor") - x, torch.zeros_like(x)], dim=1).float()
    keep = torch.ones(1, 1, h, w, dtype=torch.bool)
    moved, _ = transport_noise(noise, torch.zeros(1, 2, h, w), vector, keep, fresh)
    assert len(torch.unique(moved)) == moved.numel()
    assert torch.equal(moved[..., ::2], noise[..., : w // 2])
    assert torch.equal(moved[..., 1::2], fresh[..., 1::2])


def test_noise_is_a_function_of_seed_and_age() -> None:
    ages = torch.tensor([0, 1, 0])
    noise = fresh_noise(3, ages, 12, 32, 32)
    assert torch.equal(noise[0], noise[2])
    assert abs(correlation(noise[0], noise[1])) < 0.05
    assert abs(correlation(noise[0], fresh_noise(4, ages, 12, 32, 32)[0])) < 0.05
    assert noise.mean().abs() < 0.02
    assert noise.std().item() == pytest.approx(1, abs=0.02)
    # The tails are there: of 36864 values about 50 lie beyond three standard deviations twice counted.
    assert 20 < (noise.abs() > 3).sum().item() < 20 + 36864 * math.erfc(3 / math.sqrt(2)) * 2
