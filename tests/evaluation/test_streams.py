"""Frames through the bundled ffmpeg: exact where they must be, whole or not at all, and clear when they fail."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gtasr_video.errors import EvaluationError
from gtasr_video.evaluation.streams import LOSSLESS, read_frames, write_frames, x264
from tests.evaluation.conftest import scene


def test_lossless_means_every_bit(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    frames = [torch.randint(0, 256, (3, 50, 62), dtype=torch.uint8, generator=draw) for _ in range(3)]
    file = tmp_path / "noise.mkv"
    assert write_frames(file, frames, LOSSLESS) == 3
    assert all(torch.equal(a, b) for a, b in zip(read_frames(file), frames, strict=True))


def test_compressed_colours_come_back_as_themselves(tmp_path: Path) -> None:
    """Eight flat colours: a wrong matrix or range would be off by ten steps and more."""
    corners = torch.tensor([[r, g, b] for r in (40, 210) for g in (40, 210) for b in (40, 210)], dtype=torch.uint8)
    bars = corners.T.reshape(3, 1, 8).repeat_interleave(64, 1).repeat_interleave(16, 2)
    write_frames(tmp_path / "bars.mp4", [bars] * 2, x264(1))
    found = next(read_frames(tmp_path / "bars.mp4"))
    middles = (slice(None), slice(None), slice(8, None, 16))
    assert (found[middles].int() - bars[middles].int()).abs().max() <= 3


def test_a_limit_stops_early(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.mkv", scene(5))
    assert len(list(read_frames(tmp_path / "a.mkv", 2))) == 2


def test_leaving_off_in_the_middle_is_no_error(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.mkv", scene(5))
    frames = read_frames(tmp_path / "a.mkv")
    assert next(frames).shape == (3, 96, 128)
    frames.close()  # type: ignore[attr-defined]


def test_names_that_look_like_options_or_urls_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-y.mkv", "concat:a.mkv", "with space.mkv"):
        write_frames(Path(name), scene(1))
        assert len(list(read_frames(Path(name)))) == 1


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(EvaluationError, match=r"text\.mp4: cannot be decoded"):
        list(read_frames(text))
    with pytest.raises(EvaluationError, match="no such file"):
        list(read_frames(tmp_path / "none.mp4"))


def test_a_damaged_file_is_an_error_not_fewer_frames(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    write_frames(file, scene(12, 192, 256), x264(10))
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    file.write_bytes(data)
    with pytest.raises(EvaluationError, match=r"a\.mp4: cannot be decoded"):
        list(read_frames(file))


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def broken():  # type: ignore[no-untyped-def]
        yield from scene(2)
        raise EvaluationError("the source broke")

    with pytest.raises(EvaluationError, match="the source broke"):
        write_frames(tmp_path / "a.mkv", broken())
    with pytest.raises(EvaluationError, match="frame 1 has another size"):
        write_frames(tmp_path / "b.mkv", [*scene(1), *scene(1, 64, 64)])
    with pytest.raises(EvaluationError, match="no frame to write"):
        write_frames(tmp_path / "c.mkv", [])
    with pytest.raises(EvaluationError, match="cannot be encoded"):
        write_frames(tmp_path / "nowhere" / "d.mkv", scene(1))
    assert list(tmp_path.iterdir()) == []


def test_equal_frames_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_frames(tmp_path / name, scene(4), x264(23))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
