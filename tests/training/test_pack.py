"""Packs: within their size, whole or not there, and as good to train on as what they were made of."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from gtasr_video.errors import OutputError, TrainingError
from gtasr_video.training.clips import ClipSource, DataSettings
from gtasr_video.training.library import load_library
from gtasr_video.training.licences import Origins
from gtasr_video.training.pack import pack
from gtasr_video.training.pack_command import command
from gtasr_video.training.shards import Shard
from tests.training.material import panning, save_picture, save_video, texture


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for n in range(6):
        save_picture(root / f"stills/{n}.png", texture(192, 256, n))
    save_video(root / "clips/a.mp4", panning(52, 96, 128), crf="10", g="12")
    (root / "clips/broken.mp4").write_bytes(b"nothing" * 50)
    (root / "manifest.csv").write_text(
        "path,kind,source,licence\nanywhere/stills/0.png,still,a museum,CC0\nclips/a.mp4,clip,a film,CC-BY-3.0\n"
    )
    return root


@pytest.fixture(scope="module")
def packed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packs") / "pack"
    pack([data], out, 4 * 2**20)
    return out


def library(path: Path) -> object:
    return load_library([path], minimum=64, short_side=2000, memory=2**30)


def test_a_pack_holds_what_it_was_made_of(data: Path, packed: Path) -> None:
    theirs, ours = library(packed), library(data)
    assert [i.size for i in theirs.stills] == [i.size for i in ours.stills]
    assert [i.frames for i in theirs.videos] == [40, 12]
    whole = ours.videos[0].read(0, 52)
    again = torch.cat([v.read(0, v.frames) for v in theirs.videos])
    assert (again.float() - whole.float()).abs().mean() < 4
    for a, b in zip(theirs.stills, ours.stills, strict=True):
        assert (a.read(0, 1).float() - b.read(0, 1).float()).abs().mean() < 4


def test_training_reads_a_pack_like_any_data(packed: Path) -> None:
    source = ClipSource([packed], DataSettings(crop=16, frames=3), 0)
    assert source.batch(range(4)).hr.shape == (4, 3, 3, 64, 64)


def test_sources_and_licences_travel_with_it(packed: Path) -> None:
    entries = Shard(packed / "shard-000.tar").entries
    assert [(e.source, e.licence) for e in entries if e.kind == "clip"] == [
        ("a film", "CC-BY-3.0"),
        ("a film from frame 40", "CC-BY-3.0"),
    ]
    stills = {e.source: e.licence for e in entries if e.kind == "still"}
    assert stills["a museum"] == "CC0" and stills["1.png"] == ""
    with (packed / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and rows[0]["path"].startswith("shard-000.tar/")
    assert {r["licence"] for r in rows} == {"CC-BY-3.0", "CC0", ""}


@pytest.mark.parametrize("size", [60_000, 150_000, 400_000])
def test_it_is_never_larger_than_asked(data: Path, tmp_path: Path, size: int) -> None:
    done = pack([data], tmp_path / "pack", size)
    actual = sum(f.stat().st_size for f in (tmp_path / "pack").iterdir())
    assert actual == done.bytes <= size
    assert [Path(s.name).name for s in done.skipped] == ["broken.mp4"]
    assert done.left_out == 8 - len(done.entries)


def test_too_small_a_size_is_an_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="none of 8 files can be packed"):
        pack([data], tmp_path / "pack", 5000)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_replaced_unasked_and_no_half_pack_is_left(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "pack"
    pack([data / "stills"], out, 10**6)
    before = sorted(f.name for f in out.iterdir())
    with pytest.raises(OutputError, match="exists"):
        pack([data / "stills"], out, 10**6)
    with pytest.raises(TrainingError):
        pack([data / "stills"], out, 5000, overwrite=True)
    assert sorted(f.name for f in out.iterdir()) == before
    pack([data / "stills"], out, 10**6, overwrite=True)
    (out / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="not a pack"):
        pack([data / "stills"], out, 10**6, overwrite=True)
    assert [f.name for f in tmp_path.iterdir()] == ["pack"]


def test_archives_and_folders_of_the_users_are_left_alone(
    data: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mine := tmp_path / "backups").mkdir()
    with tarfile.open(mine / "letters.tar", "w") as tar:
        tar.add(data / "manifest.csv")
    with pytest.raises(OutputError, match="is not a pack, and is not replaced"):
        pack([data], mine, 10**6, overwrite=True)
    assert [path.name for path in mine.iterdir()] == ["letters.tar"]
    (beside := tmp_path / "pack.part").mkdir()
    (beside / "letter.txt").write_text("mine")
    pack([data / "stills"], tmp_path / "pack", 10**6)
    assert (beside / "letter.txt").read_text() == "mine"
    monkeypatch.chdir(tmp_path / "pack")
    pack([data / "clips"], Path(), 10**6, overwrite=True)
    assert [entry.kind for entry in Shard(tmp_path / "pack" / "shard-000.tar").entries] == ["clip", "clip"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backups", "pack", "pack.part"]


def test_the_same_data_makes_the_same_pack(data: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        pack([data], tmp_path / name, 300_000)
    first, second = ([f.read_bytes() for f in sorted((tmp_path / n).iterdir())] for n in ("a", "b"))
    assert first == second


def test_opencv_alone_reads_a_pack(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No PyAV and no Pillow, as on machines that only train."""
    with_all = library(packed)
    find = importlib.util.find_spec
    hidden = ("av", "PIL")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in hidden else find(name, *a))
    monkeypatch.setitem(sys.modules, "gtasr_video.media.access", None)
    alone = library(packed)
    for a, b in zip((*with_all.stills, *with_all.videos), (*alone.stills, *alone.videos), strict=True):
        assert a.frames == b.frames
        assert (a.read(0, a.frames).float() - b.read(0, b.frames).float()).abs().mean() < 1.5


def test_a_damaged_member_is_named_and_the_rest_used(packed: Path, tmp_path: Path) -> None:
    path = tmp_path / "shard-000.tar"
    data = bytearray((packed / "shard-000.tar").read_bytes())
    with tarfile.open(packed / "shard-000.tar") as tar:
        member = tar.getmember("00001-1.webp")
    data[member.offset_data + 100] ^= 0xFF
    path.write_bytes(bytes(data))
    library_ = library(path)
    assert [(s.name, s.reason) for s in library_.skipped] == [
        (f"{path}:00001-1.webp", "damaged (its checksum differs)")
    ]
    assert len(library_.stills) == 5


def test_a_tar_that_is_no_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"not a tar")
    with pytest.raises(TrainingError, match=r"x\.tar: not a shard of a pack"):
        library(tmp_path)


def test_a_manifest_row_is_found_by_the_end_of_its_path(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,source,license\na/x.png,one,CC0\nb/x.png,two,MIT\n")
    origins = Origins([tmp_path])
    assert (origins.of(tmp_path / "b/x.png").source, origins.of(tmp_path / "a/x.png").licence) == ("two", "CC0")
    assert origins.of(tmp_path / "y.png").licence == ""


def test_the_command_says_what_it_made(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "pack"
    done = CliRunner().invoke(command, ["--data", str(data), "--out", str(out), "--max-bytes", "300K"])
    assert done.exit_code == 0, done.output
    assert "pictures and" in done.output and "skipped" in done.output and "have no licence" in done.output
    wrong = CliRunner().invoke(command, ["--data", str(data), "--out", str(out), "--max-bytes", "lots"])
    assert wrong.exit_code == 2 and "write 24M" in wrong.output


def test_settings_reject_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        dataclasses.replace(DataSettings(), frames=0)
