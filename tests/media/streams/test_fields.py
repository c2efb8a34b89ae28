"""Interlaced streams become whole pictures on their way, as files do, and wait for no more than that takes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

import gtasr_video
from gtasr_video.frames import Frame
from gtasr_video.media import Reader
from gtasr_video.media.deinterlace import Deinterlace
from gtasr_video.media.streams.config import StreamConfig
from gtasr_video.media.streams.pipe_source import PipeSource
from gtasr_video.media.streams.reader import StreamReader
from tests.fakes import Nearest
from tests.media.streams.test_pipes import FRAME, answered, fed
from tests.media.test_deinterlace import moving
from tests.media.test_streams import ffmpeg

BROADCAST = ("-c:v", "mpeg2video", "-q:v", "3", "-g", "12", "-bf", "2", "-c:a", "mp2")
TONE = ("-f", "lavfi", "-i", "sine=duration=1")


@pytest.fixture(scope="module")
def channels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A second of television in fields, and one of whole pictures, as MPEG-TS with sound."""
    folder = tmp_path_factory.mktemp("channels")
    woven = ("-vf", "tinterlace=interleave_top", "-flags", "+ildct+ilme")
    made: dict[str, tuple[str, ...]] = {
        "fields": (*moving(), *TONE, *woven, *BROADCAST),
        "film": (*moving(1, "25"), *TONE, *BROADCAST),
    }
    for name, arguments in made.items():
        ffmpeg(*arguments, folder / f"{name}.ts")
    return {name: folder / f"{name}.ts" for name in made}


def piped(data: bytes, deinterlace: Deinterlace = "auto") -> tuple[list[Frame], dict[str, Any]]:
    with fed(data) as source, StreamReader(PipeSource(StreamConfig(), source), deinterlace=deinterlace) as reader:
        return list(reader), reader.facts()


def read(path: Path, deinterlace: Deinterlace = "auto") -> list[Frame]:
    with Reader(path, deinterlace=deinterlace) as reader:
        return list(reader)


def are_equal(one: list[Frame], other: list[Frame]) -> bool:
    assert [frame.pts for frame in one] == [frame.pts for frame in other]
    return all(torch.equal(a.planes[0], b.planes[0]) for a, b in zip(one, other, strict=True))


def test_a_broadcast_through_a_pipe_has_the_frames_of_the_file(channels: dict[str, Path]) -> None:
    whole, facts = piped(channels["fields"].read_bytes())
    assert facts["deinterlaced"] and not facts["interlaced"] and not facts["warnings"]
    assert are_equal(whole, read(channels["fields"]))
    assert not are_equal(whole, read(channels["fields"], "never"))
    assert {frame.duration for frame in whole[:-1]} == {3600}  # of the last FFmpeg says that it lasts one field


def test_never_and_always_are_heeded(channels: dict[str, Path]) -> None:
    combed, facts = piped(channels["fields"].read_bytes(), "never")
    assert are_equal(combed, read(channels["fields"], "never"))
    assert not facts["deinterlaced"]
    assert any("is interlaced; its frames are enlarged as they are" in line for line in facts["warnings"])
    film = channels["film"].read_bytes()
    assert not are_equal(piped(film, "always")[0], piped(film)[0])
    assert are_equal(piped(film)[0], read(channels["film"], "never"))


def test_a_channel_that_changes_to_fields_is_noticed(channels: dict[str, Path]) -> None:
    both, facts = piped(channels["film"].read_bytes() + channels["fields"].read_bytes())
    assert facts["deinterlaced"]
    assert len(both) == 50
    apart = [*read(channels["film"], "never"), *read(channels["fields"])]
    alike = [torch.equal(a.planes[0], b.planes[0]) for a, b in zip(both, apart, strict=True)]
    assert sum(alike) >= 49  # the first field has nothing before it in one of them


def test_fields_wait_for_one_frame_more_and_no_longer() -> None:
    header = b"YUV4MPEG2 W64 H48 F25:1 It A1:1 C420mpeg2\n"
    parts = [b"FRAME\n" + bytes([16 + 20 * number]) * FRAME for number in range(6)]
    out = answered(header + b"".join(parts[:3]), b"".join(parts[3:]), 4 * FRAME)
    assert out.count(b"FRAME\n") == 6


def test_what_does_not_go_out_is_told_once(
    channels: dict[str, Path],
    caplog: pytest.LogCaptureFixture,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    logging.getLogger("gtasr_video").propagate = True
    config = gtasr_video.UpscaleConfig(stream=StreamConfig(output_format="y4m"))
    report = gtasr_video.upscale(channels["fields"], "-", model=Nearest(1), config=config, device="cpu")
    out = capfdbinary.readouterr().out
    assert out.startswith(b"YUV4MPEG2 W96 H480 F25:1 Ip") and out.count(b"FRAME\n") == 25
    assert report.media_seconds == pytest.approx(1, abs=0.03)
    assert [s["action"] for s in report.output["streams"]] == ["left out"]
    records = dict.fromkeys(caplog.records)  # each once, whoever else listens
    said = [record.getMessage() for record in records if record.levelno >= logging.WARNING]
    assert said == ["standard output (yuv4mpegpipe) cannot hold all; left out: audio stream 1 (mp2)"]
