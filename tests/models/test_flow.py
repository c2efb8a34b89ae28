from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.models.flow import ALIGN, REACH, Motion, estimate_motion, gather_pixels, source_index
from gtasr_video.ops.edges import luma
from tests.models.networks import scene


def inner(field: Tensor, cell: int) -> Tensor:
    """Cut away what may have come from outside the picture."""
    return field[..., 16 // cell : -16 // cell, 24 // cell : -24 // cell]


def textured(height: int, width: int, seed: int = 0) -> Tensor:
    """Return (1, 3, H, W) in [-1, 1] with detail of several sizes, as pictures have."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.zeros(1, 3, height, width)
    for size in (2, 4, 8, 16):
        coarse = torch.rand(1, 3, height // size + 1, width // size + 1, generator=generator) - 0.5
        picture += F.interpolate(coarse, size=(height, width), mode="bicubic") * 0.5
    return picture.clamp(-1, 1)


@pytest.mark.parametrize("shift", [0, 1, 3, -5, 11])
@pytest.mark.parametrize("cell", [1, 2])
def test_a_translation_is_found(shift: int, cell: int) -> None:
    clip = scene(2, 64, 96, seed=3, shift=shift)
    motion = estimate_motion(luma(clip[:, 1]), luma(clip[:, 0]), cell)
    whole = inner(motion.whole, cell)
    assert (whole[:, 0] == -shift).float().mean() > (0.95 if abs(shift) < 8 else 0.8)
    assert (whole[:, 1] == 0).float().mean() > 0.95
    assert inner(motion.left, cell).mean() < 0.02


@pytest.mark.parametrize(("across", "down"), [(0.25, 0.0), (0.75, -0.25), (1.5, 0.5), (-3.25, 2.75)])
def test_fractions_are_found_to_a_tenth_of_a_pixel(across: float, down: float) -> None:
    large = textured(64 * 4 + 64, 96 * 4 + 64)
    x, y = 32 + int(4 * across), 32 + int(4 * down)
    before, now = (F.avg_pool2d(p, 4) for p in (large[..., 32:288, 32:416], large[..., y : y + 256, x : x + 384]))
    gap = inner(estimate_motion(luma(now), luma(before), 2).flow, 2) - torch.tensor([across, down]).view(1, 2, 1, 1)
    assert gap.norm(dim=1).median() < 0.1
    assert gap.norm(dim=1).mean() < 0.2


def test_what_moves_alone_does_not_draw_the_rest_along() -> None:
    ground, thing = textured(96, 128, seed=1), textured(96, 128, seed=2)
    before, now = ground.clone(), ground.clone()
    before[..., 24:72, 40:88] = thing[..., 24:72, 40:88]
    now[..., 24:72, 42:90] = thing[..., 24:72, 40:88]
    flow = estimate_motion(luma(now), luma(before), 2).flow
    assert (flow[:, 0, 18:30, 27:39] + 2).abs().median() < 0.2
    still = torch.ones(48, 64, dtype=torch.bool)
    still[6:42, 12:52] = False
    assert flow[0, :, still].norm(dim=0).median() < 0.02


def test_flat_ground_and_noise_stand_still() -> None:
    flat = torch.full((1, 1, 64, 64), 0.3)
    assert estimate_motion(flat, flat, 2).flow.abs().max() == 0
    grainy = [flat + 0.02 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(k)) for k in (0, 1)]
    assert estimate_motion(*grainy, 2).flow.norm(dim=1).mean() < 0.3


def noisy(picture: Tensor, seed: int) -> Tensor:
    return picture + 0.01 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(seed))


def test_under_a_standing_camera_noise_is_no_motion_and_what_moves_still_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ground, thing = (luma(textured(96, 128, seed=seed)) for seed in (1, 2))
    before, now = noisy(ground, 1), noisy(ground, 2)
    before[..., 32:64, 40:72] = thing[..., 32:64, 40:72]
    now[..., 32:64, 43:75] = thing[..., 32:64, 40:72]
    still = torch.ones(48, 64, dtype=torch.bool)
    still[8:40, 12:46] = False
    found = estimate_motion(now, before, 2).flow
    assert (found[:, 0, 20:28, 26:32] + 3).abs().median() < 0.2
    monkeypatch.setattr("gtasr_video.models.flow._at_rest", lambda left, unmoved: torch.zeros_like(left))
    measured = estimate_motion(now, before, 2).flow
    assert found[0, :, still].norm(dim=0).mean() < 0.6 * measured[0, :, still].norm(dim=0).mean()


def test_what_a_codec_repeats_under_a_moving_camera_is_not_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    large = luma(textured(64 * 4 + 64, 128 * 4 + 64))
    before, now = (F.avg_pool2d(large[..., 32:288, x : x + 512], 4) for x in (32, 34))
    now[..., :64] = before[..., :64]  # half of the frame
    found = estimate_motion(now, before, 2).flow
    monkeypatch.setattr("gtasr_video.models.flow._at_rest", lambda left, unmoved: torch.zeros_like(left))
    measured = estimate_motion(now, before, 2).flow
    assert inner(measured, 2)[:, 0, :, 24:].mean() > 0.3
    assert (found - measured).abs().max() < 1e-3


def test_what_was_shown_is_found_where_it_is_and_what_is_left_is_measured_on_the_frames() -> None:
    large = luma(textured(64 * 4 + 64, 96 * 4 + 64))
    now, before, drifted = (F.avg_pool2d(large[..., 32:288, x : x + 384], 4) for x in (36, 32, 30))
    darker = before - 0.3
    motion = estimate_motion(now, darker, 2, drifted)
    assert (inner(motion.flow, 2) - torch.tensor([1.5, 0.0]).view(1, 2, 1, 1)).norm(dim=1).median() < 0.1
    assert inner(motion.left, 2).mean() > 0.25


def test_any_size_and_no_vector_longer_than_said() -> None:
    for height, width in ((8, 8), (20, 36), (ALIGN + 4, 2 * ALIGN)):
        before, now = textured(height, width, seed=1), textured(height, width, seed=2)
        motion = estimate_motion(luma(now), luma(before), 2)
        assert motion.flow.shape == (1, 2, height // 2, width // 2)
        assert motion.left.shape == (1, 1, height // 2, width // 2)
        assert motion.flow.abs().max() <= REACH
        assert torch.equal(motion.whole, motion.flow.round().long())


def test_each_stream_of_a_batch_for_itself() -> None:
    clips = [scene(2, 64, 96, seed=seed, shift=seed) for seed in (1, 4)]
    both = estimate_motion(*(torch.cat([luma(clip[:, k]) for clip in clips]) for k in (1, 0)), 2)
    alone = [estimate_motion(luma(clip[:, 1]), luma(clip[:, 0]), 2) for clip in clips]
    for field in Motion._fields:
        torch.testing.assert_close(getattr(both, field), torch.cat([getattr(one, field) for one in alone]))


def test_pixels_are_fetched_from_where_the_vector_leads() -> None:
    picture = torch.arange(12.0).view(1, 1, 3, 4)
    vector = torch.zeros(1, 2, 3, 4, dtype=torch.long)
    vector[:, 0] = 1
    vector[:, 1, 0] = -1
    assert gather_pixels(picture, vector)[0, 0].tolist() == [[1, 2, 3, 3], [5, 6, 7, 7], [9, 10, 11, 11]]
    _, inside = source_index(vector)
    assert inside[0, 0].tolist() == [[False] * 4, [True, True, True, False], [True, True, True, False]]
