"""Random access to video files: exactly the frames that reading from the start gives."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gtasr_video.errors import InputError
from gtasr_video.media import access
from gtasr_video.media.access import DecordReader, FrameReader, decord_agrees, index, open_frames, read_clip
from tests.training.material import panning, save_video

FRAMES = 30
KINDS = {
    "closed.mp4": ("libx264", {"g": "10", "bf": "2"}),
    "open.mp4": ("libx264", {"x264-params": "open-gop=1:keyint=10:bframes=2"}),
    "hevc.mp4": ("libx265", {"x265-params": "keyint=10:log-level=none"}),
    "vp9.webm": ("libvpx-vp9", {"g": "10", "deadline": "realtime", "cpu-used": "8"}),
    "closed.ts": ("libx264", {"g": "10", "bf": "2"}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("access")
    for name, (codec, options) in KINDS.items():
        save_video(root / name, panning(FRAMES, 64, 96), codec, **options)
    return root


@pytest.mark.parametrize("name", KINDS)
def test_any_frame_is_the_one_that_reading_in_order_gives(folder: Path, name: str) -> None:
    file, whole = index(folder / name), read_clip(folder / name)
    assert (len(file.pts), file.width, file.height, len(whole)) == (FRAMES, 96, 64, FRAMES)
    reader = FrameReader(file)
    for start, count in ((29, 1), (0, 3), (9, 4), (20, 2), (10, 1), (1, 12)):
        assert torch.equal(reader.read(start, count), whole[start : start + count]), (start, count)


def test_a_film_is_read_without_being_held_several_times(folder: Path) -> None:
    read_clip(folder / "closed.mp4", 1)  # what is loaded on first use is not counted
    tracemalloc.start()
    whole = read_clip(folder / "closed.mp4")
    _, peak = tracemalloc.get_traced_memory()  # of numpy: the result itself is torch's
    tracemalloc.stop()
    assert peak < 1.5 * whole.numel()


def test_closed_and_open_groups_are_told_apart(folder: Path) -> None:
    assert index(folder / "closed.mp4").closed
    assert not index(folder / "open.mp4").closed
    assert index(folder / "closed.mp4").keys == (0, 10, 20)


def test_decord_is_used_where_it_gives_the_same_frames(folder: Path) -> None:
    file = index(folder / "closed.mp4")
    assert decord_agrees(file)
    reader = open_frames(replace(file, decord=True))
    assert isinstance(reader, DecordReader)
    whole = read_clip(file.path)
    for start, count in ((29, 1), (3, 5), (0, 2), (18, 4)):
        assert torch.equal(reader.read(start, count), whole[start : start + count])


@pytest.mark.parametrize("name", ["open.mp4", "hevc.mp4", "vp9.webm"])
def test_decord_is_not_used_where_it_may_be_wrong(folder: Path, name: str) -> None:
    file = index(folder / name)
    assert not decord_agrees(file)
    assert isinstance(open_frames(file), FrameReader)


def test_decord_is_not_used_if_one_frame_differs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = DecordReader.read
    monkeypatch.setattr(access.DecordReader, "read", lambda self, n, count: right(self, max(0, n - (n == 19)), count))
    assert not decord_agrees(index(folder / "closed.mp4"))


def test_decord_is_not_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "decord", None)
    assert not decord_agrees(index(folder / "closed.mp4"))


def test_reading_stops_at_the_limit(folder: Path) -> None:
    assert len(read_clip(folder / "closed.mp4", 7)) == 7


def test_a_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("not a video at all" * 100)
    with pytest.raises(InputError, match=r"notes\.mp4"):
        index(path)
    with pytest.raises(InputError, match=r"notes\.mp4"):
        read_clip(path)


def test_a_file_cut_short_gives_what_is_there_or_says_which_frame_is_not(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.ts"
    data = (folder / "closed.ts").read_bytes()
    path.write_bytes(data[: len(data) // 2])
    file = index(path)
    assert 0 < len(file.pts) < FRAMES
    assert torch.equal(FrameReader(file).read(2, 3), read_clip(folder / "closed.ts")[2:5])
    missing = replace(file, pts=(*file.pts, file.pts[-1] + 90_000))
    with pytest.raises(InputError, match=rf"cut\.ts: frame {len(file.pts)} at "):
        FrameReader(missing).read(len(file.pts), 1)
