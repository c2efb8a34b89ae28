"""The model of a codec behaves as a codec does."""

from __future__ import annotations

import pytest
import torch

from gtasr_video.media.codec_loop import round_trip
from gtasr_video.ops.codec_model import codec_model
from gtasr_video.ops.degrade import Codec
from tests.training.material import panning, texture


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(10 * torch.log10(65025 / (a.float() - b.float()).square().mean()))


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    """A panning texture with the fine noise that pictures have."""
    noise = 6 * torch.randn(5, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    return (panning(5, 96, 128) + noise).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("b_frames", [True, False])
def test_it_damages_about_as_much_as_x264(clip: torch.Tensor, b_frames: bool) -> None:
    for crf in (20.0, 28.0, 36.0):
        real = round_trip(clip, "h264", crf, b_frames=b_frames)
        model = codec_model(clip[None], [Codec("h264", crf, b_frames=b_frames)])[0]
        assert psnr(model, clip) == pytest.approx(psnr(real, clip), abs=2.0), crf


def test_each_clip_of_a_batch_has_its_own_rate(clip: torch.Tensor) -> None:
    both = codec_model(torch.stack((clip, clip)), [Codec("h264", 20.0), Codec("h264", 36.0)])
    assert psnr(both[0], clip) > psnr(both[1], clip) + 4
    alone = codec_model(clip[None], [Codec("h264", 36.0)])
    assert (both[1].short() - alone[0].short()).abs().max() <= 1


def test_colour_is_halved_and_grey_stays_grey() -> None:
    stripes = torch.zeros(1, 1, 3, 32, 32, dtype=torch.uint8)
    stripes[..., 0, :, 0::2] = 200
    stripes[..., 2, :, 1::2] = 200
    done = codec_model(stripes, [Codec("h264", 1.0)]).float()
    assert (done[..., 0, :, 0::2] - done[..., 0, :, 1::2]).mean() < 120
    grey = torch.full((1, 2, 3, 32, 32), 90, dtype=torch.uint8)
    assert (codec_model(grey, [Codec("h264", 30.0)]).short() - 90).abs().max() <= 2


def test_a_still_scene_is_held_until_it_changes() -> None:
    still = texture(64, 64).expand(1, 5, 3, 64, 64).contiguous()
    done = codec_model(still, [Codec("h264", 32.0, b_frames=False)]).float()
    held = (done[0, 2] - done[0, 1]).abs().mean()
    assert held < 0.3 * (done[0, 1] - still[0, 1]).abs().mean()


def test_motion_is_predicted(clip: torch.Tensor) -> None:
    """A pan costs little more than a still scene; unrelated pictures would."""
    done = codec_model(clip[None], [Codec("h264", 30.0, b_frames=False)])[0]
    shuffled = torch.stack([texture(96, 128, n) for n in range(5)])
    unrelated = codec_model(shuffled[None], [Codec("h264", 30.0, b_frames=False)])[0]
    assert psnr(done[1:], clip[1:]) > 24
    assert psnr(unrelated[1:], shuffled[1:]) > 24


@pytest.mark.parametrize("shape", [(1, 2, 3, 50, 70), (1, 1, 3, 16, 16), (1, 6, 3, 34, 18)])
def test_any_size_and_length_is_taken(shape: tuple[int, ...]) -> None:
    clips = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert codec_model(clips, [Codec("mpeg4", 25.0)]).shape == shape
