"""What a file holds, and what this machine can encode."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from gtasr_video.errors import InputError
from gtasr_video.media import encoders, probe
from tests.clips import Picture, Sound, make_clip


def test_everything_in_a_file_is_named(tmp_path: Path) -> None:
    said = Picture(matrix=1, full_range=False, primaries=1, transfer=1, rotation=90, sample_aspect=Fraction(4, 3))
    sound = [Sound(language="deu"), Sound("mp3", "fra", 44100, "mono", default=False)]
    path = make_clip(tmp_path / "a.mp4", frames=30, picture=said, sound=sound, metadata={"title": "x"})
    found = probe(path)
    assert found["container"].startswith("mov,mp4")
    assert found["size_bytes"] == path.stat().st_size
    assert found["duration_s"] == pytest.approx(1.2, abs=0.03)
    assert found["tags"]["title"] == "x"
    picture, first, second = found["streams"]
    wanted = {
        "type": "video",
        "codec": "h264",
        "width": 64,
        "height": 48,
        "pix_fmt": "yuv420p",
        "frame_rate": "25",
        "frames": 30,
        "rotation": 90,
        "sample_aspect": "4/3",
        "matrix": "bt709",
        "full_range": False,
        "chroma_siting": "left",
        "interlaced": False,
    }
    assert {key: picture[key] for key in wanted} == wanted
    assert (first["codec"], first["language"], first["channels"], first["sample_rate"]) == ("aac", "deu", 2, 48000)
    assert (second["codec"], second["language"], second["layout"]) == ("mp3", "fra", "mono")
    assert first["flags"] == ["default"]
    assert second["flags"] == []
    json.dumps(found)


def test_what_a_file_does_not_say_is_none(tmp_path: Path) -> None:
    found = probe(make_clip(tmp_path / "a.mkv", codec="ffv1", frames=2))["streams"][0]
    assert found["matrix"] is None
    assert found["full_range"] is None
    assert found["frames"] is None


def test_a_song_can_be_looked_at(tmp_path: Path) -> None:
    found = probe(make_clip(tmp_path / "a.wav", frames=0, sound=[Sound("pcm_s16le")]))
    assert [s["codec"] for s in found["streams"]] == ["pcm_s16le"]


@pytest.mark.parametrize("name", ["a.mkv", "what?.mkv"])
def test_bytes_that_are_no_text_do_not_hurt(tmp_path: Path, name: str) -> None:
    path = make_clip(tmp_path / name, frames=2, metadata={"title": "x" * 9})
    path.write_bytes(path.read_bytes().replace(b"x" * 9, b"caf\xe9 \xff\xfe!!"))
    print(probe(path))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        probe(tmp_path / "none.mp4")


def test_encoders_are_tried_by_opening_them() -> None:
    found = {e.name: e for e in encoders()}
    assert found["libx264"].works
    assert not found["libx264"].hardware
    assert found["h264_nvenc"].hardware
    assert all(e.works or e.reason for e in found.values())
    assert all(e.works for e in found.values() if not e.hardware)
