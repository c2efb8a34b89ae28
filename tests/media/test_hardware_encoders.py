"""An encoder on the GPU is used where it opens; a software encoder stands behind the same door."""

from __future__ import annotations

import logging
from pathlib import Path

import av
import pytest
import torch

from gtasr_video.errors import UsageError
from gtasr_video.frames import PixelLayout, VideoSpec
from gtasr_video.media import Encoding, Reader, Writer
from gtasr_video.media.codecs import Codec
from gtasr_video.media.hardware_encoders import HARDWARE
from tests import fakes

FASTER = Codec("h264", "libx264", (1, 51, 19), ("p1", "p4"), "p4", preset_option="tag", crf_option="qp", even=True)


def written(path: Path, encoding: Encoding, of: VideoSpec | None = None) -> dict[str, object]:
    of = of or fakes.spec(64, 48)
    with Writer(path, of, encoding) as writer:
        for frame in fakes.frames(of, 8):
            writer.write(frame)
    with Reader(path) as reader:
        assert len(list(reader)) == 8
    return writer.facts()


def test_what_opens_encodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HARDWARE, "h264_nvenc", FASTER)
    facts = written(tmp_path / "out.mp4", Encoding(codec="h264_nvenc", crf=30))
    assert (facts["codec"], facts["encoder"], facts["preset"], facts["crf"]) == ("h264", "libx264", "p4", 30)


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines where it does not open")
@pytest.mark.parametrize(("codec", "software"), [("h264_nvenc", "libx264"), ("hevc_nvenc", "libx265")])
def test_what_does_not_open_is_left_although_it_is_listed(
    codec: str, software: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert av.Codec(codec, "w").name == codec
    with caplog.at_level(logging.WARNING, logger="gtasr_video"):
        facts = written(tmp_path / "out.mp4", Encoding(codec=codec, preset="p6"))
        written(tmp_path / "again.mp4", Encoding(codec=codec))
    assert facts["encoder"] == software and facts["preset"] == "veryfast"
    assert caplog.text.count(f"{codec} is not used") == 1 and "in software" in caplog.text


def test_ten_bits_stay_ten_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HARDWARE, "h264_nvenc", FASTER)
    ten = fakes.spec(64, 48, PixelLayout("yuv420p10le", 10))
    facts = written(tmp_path / "out.mkv", Encoding(codec="h264_nvenc"), ten)
    assert facts["pix_fmt"] == "yuv420p10le" and facts["preset"] == "veryfast"


def test_a_container_that_cannot_hold_the_codec_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot hold h264"):
        Writer(tmp_path / "out.webm", fakes.spec(64, 48), Encoding(codec="h264_nvenc"))
