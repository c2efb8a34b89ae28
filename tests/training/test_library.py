"""Finding and holding material: any mix, what is bad named once, what is too much left on disk."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from gtasr_video.errors import InputError, TrainingError
from gtasr_video.training.files import find_files
from gtasr_video.training.items import PictureOnDisk, VideoOnDisk, detail_within
from gtasr_video.training.library import Library, load_library
from gtasr_video.training.pictures import read_picture
from tests.training.material import panning, save_picture, save_video, texture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_picture(tmp_path / "stills/a.png", texture(96, 120, 1))
    save_picture(tmp_path / "stills/deep/b.webp", texture(120, 96, 2))
    save_video(tmp_path / "clips/c.mp4", panning(8, 96, 128), g="4")
    return tmp_path


def load(*paths: Path, memory: int = 2**30, minimum: int = 64, short_side: int = 1000) -> Library:
    return load_library(paths, minimum=minimum, short_side=short_side, memory=memory)


def test_folders_files_pictures_and_videos_mix(folder: Path) -> None:
    library = load(folder / "stills", folder / "clips/c.mp4", folder)
    assert [Path(i.name).name for i in library.stills] == ["a.png", "b.webp"]
    assert [(i.size, i.frames) for i in library.videos] == [((96, 128), 8)]
    assert library.summary() == "2 pictures and 1 videos, 0.00 GiB in memory"
    assert torch.equal(library.stills[0].read(0, 1)[0], texture(96, 120, 1))


def test_what_is_corrupt_or_tiny_is_named_once_and_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "stills/broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    (folder / "clips/broken.mp4").write_bytes(b"nothing" * 40)
    save_picture(folder / "stills/tiny.png", texture(32, 200))
    with caplog.at_level(logging.WARNING, "gtasr_video"):
        library = load(folder)
    assert len(library.stills) == 2 and len(library.videos) == 1
    assert sorted(Path(s.name).name for s in library.skipped) == ["broken.jpg", "broken.mp4", "tiny.png"]
    for name in ("broken.jpg", "broken.mp4", "tiny.png: 200x32 is smaller than a crop of 64x64"):
        assert sum(name in r.getMessage() for r in caplog.records) == 1
    assert library.summary().endswith("3 files skipped")


def test_an_empty_set_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    save_picture(tmp_path / ".hidden/x.png", texture(96, 96))
    with pytest.raises(TrainingError, match="no pictures or videos in"):
        load(tmp_path)
    with pytest.raises(TrainingError, match="no such file or folder"):
        load(tmp_path / "missing")
    save_picture(tmp_path / "small.png", texture(20, 20))
    with pytest.raises(TrainingError, match=r"none of 1 files can be trained on.*small\.png"):
        load(tmp_path)


def test_what_does_not_fit_in_memory_is_read_from_disk_and_is_the_same(folder: Path) -> None:
    held, read = load(folder), load(folder, memory=0)
    assert isinstance(read.stills[0], PictureOnDisk) and isinstance(read.videos[0], VideoOnDisk)
    assert read.summary() == "2 pictures and 1 videos, 0.00 GiB in memory, 3 read from disk as needed"
    for a, b in zip((*held.stills, *held.videos), (*read.stills, *read.videos), strict=True):
        assert (a.size, a.frames, a.name) == (b.size, b.frames, b.name)
        for start in (0, a.frames // 2, a.frames - 1):
            assert torch.equal(a.read(start, 1), b.read(start, 1))


def test_memory_is_filled_in_the_order_of_the_paths(folder: Path) -> None:
    library = load(folder, memory=3 * 96 * 128 * 8 + 100)
    assert not isinstance(library.videos[0], VideoOnDisk)
    assert all(isinstance(i, PictureOnDisk) for i in library.stills)


def test_large_pictures_are_shrunk_to_their_short_side(folder: Path) -> None:
    assert load(folder, short_side=80).stills[0].size == (80, 100)


def test_files_are_found_in_a_fixed_order_each_once(folder: Path) -> None:
    assert find_files([folder, folder / "clips"]) == sorted(set(find_files([folder])))


def test_linked_folders_are_searched_and_what_leads_nowhere_is_named(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    linked = tmp_path_factory.mktemp("linked")
    (linked / "a").symlink_to(folder)
    (linked / "gone.mp4").symlink_to("/nowhere.mp4")
    (linked / "a.png").mkdir()
    found = [path.relative_to(linked / "a") for path in find_files([linked])]
    assert found == [path.relative_to(folder) for path in find_files([folder])]
    assert "gone.mp4" in caplog.text


def test_what_a_run_shows_within_its_data_is_no_material(folder: Path) -> None:
    """`train --data . --out runs/mine` would train on its own pictures once it is resumed."""
    before = find_files([folder])
    for name, mark in (("runs/mine/validation/step-1.webp", "run.json"), ("report/sheets/a-web.png", "results.json")):
        picture = save_picture(folder / name, texture(96, 96))
        assert picture in find_files([folder])
        (picture.parent.parent / mark).write_text("{}")
        assert find_files([folder]) == before


def test_detail_is_where_there_is_something_to_see(folder: Path) -> None:
    half = texture(96, 192)
    half[:, :, 96:] = 128
    save_picture(folder / "half/half.png", half)
    item = load(folder / "half").stills[0]
    assert detail_within(item, (0, 0, 96, 96)) > 5 * detail_within(item, (0, 112, 96, 80))


def test_16_bits_of_either_order_are_scaled_and_32_refused(tmp_path: Path) -> None:
    """Big-endian ones could not be read, and 32 bits became black or white pictures."""
    from PIL import Image

    gray = np.linspace(0, 65535, 64 * 64).reshape(64, 64)
    Image.frombytes("I;16B", (64, 64), gray.astype(">u2").tobytes()).save(tmp_path / "big.tif")
    assert torch.equal(read_picture(tmp_path / "big.tif")[0], torch.from_numpy((gray // 256).astype(np.uint8)))
    for kind in (np.float32, np.int32):
        Image.fromarray(gray.astype(kind)).save(tmp_path / "deep.tif")
        with pytest.raises(InputError, match="its pixels have 32 bits"):
            read_picture(tmp_path / "deep.tif")


def test_pictures_of_every_mode_become_rgb(tmp_path: Path) -> None:
    from PIL import Image

    gray = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(gray).save(tmp_path / "gray16.png")
    Image.fromarray(texture(64, 64).permute(1, 2, 0).numpy()).convert("P").save(tmp_path / "palette.png")
    Image.new("RGBA", (64, 64), (10, 20, 30, 128)).save(tmp_path / "alpha.png")
    deep = read_picture(tmp_path / "gray16.png")
    assert deep.shape == (3, 64, 64) and int(deep.max()) == 255 and 120 < deep.float().mean() < 135
    assert read_picture(tmp_path / "palette.png").shape == (3, 64, 64)
    assert read_picture(tmp_path / "alpha.png")[:, 0, 0].tolist() == [10, 20, 30]


def test_exif_orientation_is_obeyed(tmp_path: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(texture(40, 80).permute(1, 2, 0).numpy()).save(tmp_path / "turned.png", exif=exif)
    assert read_picture(tmp_path / "turned.png").shape == (3, 80, 40)


def test_opencv_reads_the_same_where_pillow_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    there = read_picture(folder / "stills/deep/b.webp")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "PIL" else find(name, *a))
    by_opencv = read_picture(folder / "stills/deep/b.webp")
    assert (by_opencv.short() - there.short()).abs().max() <= 2
    (folder / "bad.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"bad\.png"):
        read_picture(folder / "bad.png")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None)
    with pytest.raises(TrainingError, match=r"gtasr-video\[train\]"):
        read_picture(folder / "stills/a.png")


def test_decoded_material_is_kept_and_renewed_when_its_file_changes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gtasr_video.training import library as module

    kept = tmp_path / "kept"

    def load_kept() -> Library:
        return load_library(
            [folder / "stills", folder / "clips"], minimum=64, short_side=1000, memory=2**30, cache=kept
        )

    first = load_kept()
    right = module.read_picture
    monkeypatch.setattr(module, "read_picture", lambda *a: pytest.fail("decoded again"))
    again = load_kept()
    assert all(torch.equal(a.read(0, 1), b.read(0, 1)) for a, b in zip(first.stills, again.stills, strict=True))
    assert torch.equal(first.videos[0].read(0, 8), again.videos[0].read(0, 8))
    monkeypatch.setattr(module, "read_picture", right)
    save_picture(folder / "stills/a.png", texture(80, 100, 9))
    assert load_kept().stills[0].size == (80, 100)


def test_a_cache_that_cannot_be_written_is_said_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = folder / "clips/c.mp4/cache"
    with caplog.at_level(logging.WARNING, "gtasr_video"):
        library = load_library([folder / "stills"], minimum=64, short_side=1000, memory=2**30, cache=blocked)
    assert len(library.stills) == 2
    assert sum("nothing is kept" in r.getMessage() for r in caplog.records) == 1
