"""Damage in FFV1 pictures is found by their checksums, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from gtasr_video.media import Reader, ffv1
from tests.clips import picture_of

FRAMES = 8


def encoded(path: Path, **options: str) -> list[tuple[int, int]]:
    """Write a clip of FFV1 and return where its packets lie."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("ffv1", 25, options={"g": "4", **options})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(FRAMES):
            frame = picture_of(number, 96, 64, "yuv420p")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with av.open(str(path)) as source:
        return [(p.pos or 0, p.size) for p in source.demux(source.streams.video[0]) if p.size]


def corrupt(path: Path) -> int:
    with Reader(path) as reader:
        assert sum(1 for _ in reader) == FRAMES
    return reader.corrupt_packets


@pytest.mark.parametrize(
    "options",
    [
        {"level": "3", "slices": "4", "slicecrc": "1"},
        {"level": "3", "slices": "9", "slicecrc": "1", "coder": "range_tab"},
        {"level": "4", "slices": "4", "slicecrc": "2", "strict": "experimental"},
    ],
)
def test_pictures_with_damaged_slices_are_counted(options: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    spots = encoded(path, **options)
    assert corrupt(path) == 0
    data = bytearray(path.read_bytes())
    for number in (1, 2, 6):
        position, size = spots[number]
        data[position + size // 2] ^= 0x10
    path.write_bytes(data)
    assert corrupt(path) == 3


@pytest.mark.parametrize("options", [{"level": "3", "slices": "4", "slicecrc": "0"}, {"level": "1"}])
def test_pictures_without_checksums_are_not_called_damaged(options: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    encoded(path, **options)
    assert corrupt(path) == 0


def test_any_bytes_can_be_looked_at() -> None:
    generator = np.random.default_rng(0)
    assert not any(ffv1.has_damage(generator.bytes(size)) for size in (0, 1, 7, 8, 9, 100, 1000))
