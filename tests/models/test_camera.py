"""The motion of the camera: found among noise and things that move otherwise."""

from __future__ import annotations

import torch
from torch import Tensor

from gtasr_video.models.camera import camera_field, fit_affine
from gtasr_video.models.flow import estimate_motion
from gtasr_video.ops.edges import luma
from gtasr_video.ops.resize import bicubic


def zoom_and_roll(height: int, width: int) -> Tensor:
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack([1.5 + 0.6 * x - 0.2 * y, -0.7 + 0.2 * x + 0.4 * y])[None]


def test_an_affine_field_is_its_own_fit() -> None:
    field = zoom_and_roll(20, 32)
    assert torch.allclose(fit_affine(field, torch.rand(1, 1, 20, 32)), field, atol=0.02)


def test_a_third_that_moves_otherwise_and_noise_are_not_followed() -> None:
    generator = torch.Generator().manual_seed(1)
    field = zoom_and_roll(40, 64)
    seen = field + 0.15 * torch.randn(field.shape, generator=generator)
    seen[..., 10:36, 20:52] += torch.tensor([-4.0, 2.5]).view(1, 2, 1, 1)
    weight = torch.rand(1, 1, 40, 64, generator=generator)
    found = camera_field(seen, weight)
    assert (found - field).abs().max() < 0.05
    # Plain least squares are drawn along: what is tested is the reweighting.
    assert (fit_affine(seen, weight) - field).abs().max() > 0.5


def test_a_frame_without_any_weight_gets_the_mean() -> None:
    field = zoom_and_roll(8, 8)
    found = fit_affine(field, torch.zeros(1, 1, 8, 8))
    assert torch.isfinite(found).all()
    assert torch.allclose(found.mean((2, 3)), field.mean((2, 3)), atol=1e-4)


def test_each_stream_of_a_batch_has_a_camera_of_its_own() -> None:
    fields = torch.cat([zoom_and_roll(16, 16), -zoom_and_roll(16, 16)])
    weight = torch.rand(2, 1, 16, 16)
    both = camera_field(fields, weight)
    for k in range(2):
        assert torch.allclose(both[k : k + 1], camera_field(fields[k : k + 1], weight[k : k + 1]), atol=1e-5)


def test_a_pan_under_noise_is_found_far_more_exactly_than_patch_by_patch() -> None:
    """Half a pixel to the right under noise of 5/255, and a square that stands still in front of it."""
    generator = torch.Generator().manual_seed(4)
    rough = torch.rand(1, 3, 140, 204, generator=generator)
    page = bicubic(rough, (420, 612)).clamp(0, 1) * 2 - 1
    before, after = (bicubic(page[..., x : x + 512][..., :384, :], (96, 128)) for x in (8, 6))
    for frame in (before, after):
        frame[..., 32:56, 40:64] = 0.8 * (rough[..., :24, :24] * 2 - 1)
        frame += 5 / 127.5 * torch.randn(frame.shape, generator=generator)
    flow = estimate_motion(luma(after), luma(before), 2).flow
    pan = torch.tensor([-0.5, 0.0]).view(1, 2, 1, 1)
    error = (flow - pan).norm(dim=1)
    assert error[..., 4:-4, 40:-4].median() < 0.015
    assert flow[..., 20:24, 24:28].abs().mean() < 0.1
