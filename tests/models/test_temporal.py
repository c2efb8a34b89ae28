from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gtasr_video.models.flow import block_motion, gather_pixels, sub_pixel
from gtasr_video.models.temporal import find_reference, fresh_noise, move_cells, transport_noise
from tests.models.networks import scene


@pytest.mark.parametrize("shift", [0, 1, 3, -5, 11])
@pytest.mark.parametrize("cell", [1, 2])
def test_block_motion_finds_a_translation(shift: int, cell: int) -> None:
    clip = scene(2, 64, 96, seed=3, shift=shift)
    motion = block_motion(clip[:, 1], clip[:, 0], cell)
    inner = motion.whole[..., 16 // cell : -16 // cell, 24 // cell : -24 // cell]
    assert (inner[:, 0] == -shift).float().mean() > 0.95
    assert (inner[:, 1] == 0).float().mean() > 0.95
    assert motion.error[..., 16 // cell : -16 // cell, 24 // cell : -24 // cell].mean() < 0.01


def test_block_motion_measures_fractions() -> None:
    wide = scene(1, 64, 192, seed=5)[:, 0]
    fine = torch.nn.functional.avg_pool2d(wide, (1, 2))
    moved = torch.nn.functional.avg_pool2d(wide.roll(1, dims=-1), (1, 2))
    whole = block_motion(moved, fine, 2).whole
    total = (whole + sub_pixel(moved, fine, whole, 2))[:, 0, 8:-8, 12:-12]
    assert total.mean().item() == pytest.approx(-0.5, abs=0.12)


def test_confidence_is_high_where_motion_explains_and_zero_without_a_frame_before() -> None:
    clip = scene(2, 64, 96, seed=3, shift=4)
    known = find_reference(clip[:, 1], clip[:, 0], torch.tensor([1]), 2)
    assert known.valid.all()
    assert known.confidence[..., 8:-8, 12:-12].mean() > 0.9
    first = find_reference(clip[:, 1], clip[:, 0], torch.tensor([0]), 2)
    assert first.confidence.abs().max() == 0
    assert not first.valid.any()


def test_a_new_scene_is_a_cut_and_a_change_of_light_is_not() -> None:
    before, after = scene(1, 64, 96, seed=1)[:, 0], scene(1, 64, 96, seed=2)[:, 0]
    age = torch.tensor([7])
    assert not find_reference(after, before, age, 2).valid.item()
    assert find_reference(before + 0.05, before, age, 2).valid.item()


def test_cells_move_by_whole_pixels() -> None:
    clip = scene(2, 64, 96, seed=3, shift=3)
    motion = block_motion(clip[:, 1], clip[:, 0], 2)
    picture = torch.randn(1, 3, 64, 96)
    moved = torch.nn.functional.pixel_shuffle(move_cells(torch.nn.functional.pixel_unshuffle(picture, 2), motion, 2), 2)
    dense = motion.whole.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(moved, gather_pixels(picture, dense))


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def test_transported_noise_stays_unit_gaussian_and_follows_the_motion() -> None:
    """A thousand frames of random motion: mean 0, variance 1, white in space, and carried along where asked."""
    h, w, frames = 48, 64, 1000
    generator = torch.Generator().manual_seed(0)
    noise = fresh_noise(1, torch.zeros(1, dtype=torch.int64), 3, h, w)
    drift = torch.zeros(1, 2, h, w)
    total = squares = neighbours = down = carried = 0.0
    for k in range(1, frames + 1):
        coarse = torch.randn(1, 2, 4, 5, generator=generator) * 1.5
        vector = torch.nn.functional.interpolate(coarse, size=(h, w), mode="bilinear")
        keep = torch.rand(1, 1, h, w, generator=generator) > 0.05
        fresh = fresh_noise(1, torch.tensor([k]), 3, h, w)
        step = torch.round(vector - drift).long()
        following, drift = transport_noise(noise, drift, vector, keep, fresh)
        carried += correlation(following, gather_pixels(noise, step)) / frames
        noise = following
        total += noise.mean().item() / frames
        squares += noise.square().mean().item() / frames
        neighbours += correlation(noise[..., 1:], noise[..., :-1]) / frames
        down += correlation(noise[..., 1:, :], noise[..., :-1, :]) / frames
        assert drift.abs().max() <= 1
    # Averages over 1000 x 9216 values, of which neighbouring frames share most: 0.02 is many standard deviations.
    assert abs(total) < 0.02
    assert squares == pytest.approx(1, abs=0.02)
    assert abs(neighbours) < 0.02
    assert abs(down) < 0.02
    assert carried > 0.6


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
