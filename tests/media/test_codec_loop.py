"""A clip through real encoders in memory."""

from __future__ import annotations

import pytest
import torch

from gtasr_video.errors import OutputError
from gtasr_video.media.access import decode_bytes
from gtasr_video.media.codec_loop import encode_mp4, round_trip
from tests.training.material import panning


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(10 * torch.log10(65025 / (a.float() - b.float()).square().mean()))


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4", "vp9"])
def test_each_codec_damages_more_at_a_higher_rate_factor(codec: str) -> None:
    clip = panning(5, 64, 96)
    good, bad = round_trip(clip, codec, 18), round_trip(clip, codec, 36)
    assert good.shape == clip.shape and good.dtype == torch.uint8
    assert psnr(good, clip) > 30
    assert 20 < psnr(bad, clip) < psnr(good, clip) - 2


def test_equal_input_gives_equal_output() -> None:
    """x264's AVX-512 code does not, in about one of ten short encodes of small pictures."""
    clip = panning(5, 64, 96)
    done = round_trip(clip, "h264", 18)
    for _ in range(60):
        assert torch.equal(round_trip(clip, "h264", 18), done)


def test_frames_keep_their_order_and_place() -> None:
    clip = panning(6, 64, 96)
    done = round_trip(clip, "h264", 20)
    for k in range(6):
        assert max(range(6), key=lambda n: psnr(done[k], clip[n])) == k


def test_b_frames_can_be_left_out() -> None:
    clip = panning(7, 64, 96)
    assert not torch.equal(round_trip(clip, "h264", 30, b_frames=False), round_trip(clip, "h264", 30, b_frames=True))


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4", "vp9"])
def test_any_size_is_taken(codec: str) -> None:
    """x265 corrupts memory below 64 x 64: equal input must give equal output, many times."""
    clip = panning(3, 39, 57)
    first = round_trip(clip, codec, 24)
    assert first.shape == clip.shape and psnr(first, clip) > 25
    assert all(torch.equal(first, round_trip(clip, codec, 24)) for _ in range(8))


def test_an_encoder_that_refuses_is_a_one_line_error() -> None:
    with pytest.raises(OutputError, match=r"^cannot degrade with h264 at crf 20\.0: .+$"):
        round_trip(panning(2, 32, 32), "h264", 20, preset="no such preset")


def test_an_mp4_in_memory_decodes_to_nearly_the_same_clip() -> None:
    clip = panning(4, 66, 98)
    assert psnr(decode_bytes(encode_mp4(clip, 15), "test"), clip) > 38
