"""Files with bytes flipped, cut off or overwritten end in frames or in one line."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from gtasr_video.errors import GTASRVideoError, describe
from gtasr_video.media import Encoding, Reader, Writer, probe
from tests.clips import Sound, make_clip

SOURCES = {
    "a.mp4": {"sound": [Sound()]},
    "b.mkv": {"sound": [Sound("mp3")], "codec": "libvpx-vp9"},
    "c.ts": {"sound": [Sound("mp3")]},
    "d.avi": {"codec": "mpeg4", "time_base": Fraction(1, 25), "pts": list(range(12))},
    "e.flv": {"sound": [Sound("mp3")]},
}


def mutated(data: bytes, generator: np.random.Generator) -> bytes:
    """Flip bits, cut off, overwrite a stretch, or write extreme numbers where headers are."""
    spoiled = bytearray(data)
    kind = generator.integers(0, 4)
    if kind == 0:
        for spot in generator.integers(0, len(spoiled), generator.integers(1, 30)):
            spoiled[spot] ^= 1 << int(generator.integers(0, 8))
    elif kind == 1:
        del spoiled[generator.integers(1, len(spoiled)) :]
    elif kind == 2:
        begin = int(generator.integers(0, len(spoiled) - 200))
        spoiled[begin : begin + 150] = generator.bytes(150)
    else:
        for spot in generator.integers(0, min(len(spoiled) - 8, 2000), 4):
            spoiled[spot : spot + 4] = [b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"][generator.integers(0, 3)]
    return bytes(spoiled)


@pytest.mark.parametrize("name", SOURCES)
def test_spoiled_files_end_in_frames_or_one_line(tmp_path: Path, name: str) -> None:
    whole = make_clip(tmp_path / name, **{"frames": 12, **SOURCES[name]}).read_bytes()  # type: ignore[arg-type]
    spoiled = tmp_path / f"spoiled{Path(name).suffix}"
    ends = {"frames": 0, "refused": 0}
    for seed in range(12):
        spoiled.write_bytes(mutated(whole, np.random.default_rng(seed)))
        try:
            with Reader(spoiled, frames=100) as reader:
                encoding = Encoding(preset="ultrafast")
                with Writer(tmp_path / "out.mkv", reader.spec, encoding, source=reader, overwrite=True) as writer:
                    for frame in reader:
                        writer.write(frame)
            assert reader.facts()["frames"] == writer.facts()["frames"] > 0
            ends["frames"] += 1
        except GTASRVideoError as error:
            assert "\n" not in describe(error)
            ends["refused"] += 1
        try:
            probe(spoiled)
        except GTASRVideoError as error:
            assert str(spoiled) in describe(error)
    assert not list(tmp_path.glob("*.part*"))
    assert ends["frames"] > 0
