"""Lists on this machine: nothing is taken for written that is not, as the program that writes them does not say."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import time
import urllib.parse
from pathlib import Path
from typing import Any

import av
import pytest

import gtasr_video
from gtasr_video.errors import OutputError, UsageError
from gtasr_video.media.streams import lists, receivers, sender
from gtasr_video.media.streams.child import Child
from gtasr_video.media.streams.config import StreamConfig
from gtasr_video.media.streams.lists import ListFiles
from tests.clips import Sound, make_clip
from tests.fakes import Nearest
from tests.media.streams import peers

# Of each kind of list the muxer's names, for `in`.
KINDS = {"in.m3u8": "in-00000.ts", "in.mpd": "in-0-00001.m4s"}


def upscale(source: Path, output: Path, **options: Any) -> Any:
    return gtasr_video.upscale(source, output, model=Nearest(2), device="cpu", **options)


def held(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["live.m3u8", "live.mpd"])
def test_a_whole_list_has_no_fault_and_one_with_an_empty_segment_has(name: str, tmp_path: Path) -> None:
    target = tmp_path / name
    upscale(make_clip(tmp_path / "in.mp4", frames=60), target)
    files = ListFiles(tmp_path / "other.m3u8", 0, overwrite=False)
    assert files.fault(at_end=True) == "No such file or directory"
    files.path = target
    assert files.fault(at_end=False) == files.fault(at_end=True) == ""
    segment = sorted(tmp_path.glob("live*0001.*"))[0]
    segment.write_bytes(b"")
    assert files.fault(at_end=True) == f"{segment.name} is empty"
    target.write_bytes(b"")
    assert files.fault(at_end=True) == f"{name} is empty"


@pytest.mark.parametrize("name", ["#1 of 100%5d?.m3u8", "a$b%&.mpd", "фильм.m3u8"])
def test_segments_have_names_that_any_player_finds(name: str, tmp_path: Path) -> None:
    target = tmp_path / "100% real" / name
    upscale(make_clip(tmp_path / "in.mp4", frames=60), target)
    said = target.read_text(encoding="utf-8")
    segments = [found.name for found in target.parent.glob("*-*") if found != target]
    assert len(segments) >= 2
    for segment in segments:
        assert segment == urllib.parse.unquote(urllib.parse.urlsplit(segment).path)
    if target.suffix == ".m3u8":
        assert all(f"\n{segment}\n" in said for segment in segments)
        with av.open(str(target)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 60
    else:
        assert segments[0].rsplit("-", 2)[0] in said


def test_a_folder_that_a_pattern_would_be_made_of_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "take%03d"
    folder.mkdir()
    with pytest.raises(OutputError, match=r"%03d in a folder's name is taken for a number"):
        ListFiles(folder / "live.m3u8", 0, overwrite=False)


def test_a_list_without_segments_is_not_whole(tmp_path: Path) -> None:
    files = ListFiles(tmp_path / "live.m3u8", 0, overwrite=False)
    files.path.write_text("#EXTM3U\n#EXT-X-ENDLIST\n")
    assert files.fault(at_end=True) == "no segment was written"


def test_a_full_disk_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "_FULL_BYTES", 1 << 60)
    monkeypatch.setattr(sender, "_LOOK_S", 0.0)
    source = make_clip(tmp_path / "in.mp4", frames=200)
    with pytest.raises(OutputError, match=r"live.m3u8: the disk is full; .* start again with -y"):
        upscale(source, tmp_path / "live.m3u8")


def test_what_a_program_lost_that_broke_off_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another goes on, but a file that could have waited is not whole in the list."""
    programs: list[Child] = []

    def start(*arguments: Any, **options: Any) -> Child:
        programs.append(Child(*arguments, **options))
        if len(programs) == 1:
            programs[0]._process.kill()
            programs[0]._process.wait()
        return programs[-1]

    monkeypatch.setattr(receivers, "Child", start)
    with pytest.raises(OutputError, match=r"live.m3u8: interrupted; .* start again with -y"):
        upscale(make_clip(tmp_path / "in.mp4", frames=60), tmp_path / "live.m3u8")
    assert len(programs) == 2


def test_what_a_program_lost_that_broke_off_at_the_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its list and segments are there, and none is empty, but the last ones are missing."""

    class Cut(Child):
        def close_input(self) -> None:
            while not (tmp_path / "live.m3u8").exists():
                time.sleep(0.01)
            self._process.kill()
            super().close_input()

    monkeypatch.setattr(receivers, "Child", Cut)
    with pytest.raises(OutputError, match=r"live.m3u8: ended with code -9"):
        upscale(make_clip(tmp_path / "in.mp4", frames=120), tmp_path / "live.m3u8")


@pytest.mark.parametrize("name", KINDS)
def test_a_list_whose_picture_could_not_be_made_out_is_no_success(name: str, tmp_path: Path) -> None:
    """A still with a song: its program goes by the sound alone, and HLS had a list without a picture."""
    source = make_clip(tmp_path / "in.mp4", frames=2, sound=[Sound()], sound_seconds=12)
    with pytest.raises(OutputError, match="too few pictures beside so much sound"):
        upscale(source, tmp_path / name)


def test_a_list_that_cannot_be_finished_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program stands still, so that what was given to it is not in the list."""

    def start(*arguments: Any, **options: Any) -> Child:
        child = Child(*arguments, **options)
        child._process.send_signal(signal.SIGSTOP)
        return child

    monkeypatch.setattr(receivers, "Child", start)
    monkeypatch.setattr(sender, "FINISH_S", 0.5)
    with pytest.raises(OutputError, match=r"nobody could be reached|did not finish in time"):
        upscale(make_clip(tmp_path / "in.mp4", frames=10), tmp_path / "live.m3u8")


@pytest.mark.parametrize("name", KINDS)
def test_the_input_is_never_replaced_by_a_segment(name: str, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "real.mp4", frames=5)
    for linked, place in enumerate((tmp_path / "a", tmp_path / "b")):
        place.mkdir()
        given = place / KINDS[name]
        given.hardlink_to(source) if linked else shutil.copy(source, given)
        before = held(place)
        for overwrite in (False, True):
            with pytest.raises(UsageError, match=f"the input .*{KINDS[name]} would be replaced by .*{name}"):
                upscale(source if linked else given, place / name, overwrite=overwrite)
        assert held(place) == before


def test_nor_is_a_folder_that_holds_it(tmp_path: Path) -> None:
    folder = tmp_path / "in-00000.ts"
    folder.mkdir()
    source = make_clip(folder / "clip.mp4", frames=5)
    with pytest.raises(OutputError, match=r"in-00000.ts is no file, and in the way of .*in.m3u8"):
        upscale(source, tmp_path / "in.m3u8", overwrite=True)
    assert source.exists()


@pytest.mark.parametrize("name", KINDS)
def test_a_file_with_the_name_of_a_segment_is_replaced_only_if_asked_to(name: str, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip.mp4", frames=5)
    other = tmp_path / "out" / KINDS[name]
    other.parent.mkdir()
    other.write_bytes(b"mine")
    with pytest.raises(OutputError, match=f"{KINDS[name]} exists, as if it were of .*{name}; use -y to delete it"):
        upscale(source, other.parent / name)
    assert held(other.parent) == {other.name: b"mine"}
    upscale(source, other.parent / name, overwrite=True)
    assert other.read_bytes() != b"mine"


@pytest.mark.parametrize("name", KINDS)
def test_of_a_list_that_is_replaced_no_segment_stays(name: str, tmp_path: Path) -> None:
    place = tmp_path / "out"
    upscale(make_clip(tmp_path / "long.mp4", frames=120), place / name)
    others = [place / "in.ts", place / "in-1.ts", place / "inn-00000.ts", place / "in-notes.txt", place / "in.m4s"]
    for other in others:
        other.write_bytes(b"mine")
    long = set(held(place))
    upscale(make_clip(tmp_path / "short.mp4", frames=5), place / name, overwrite=True)
    assert len(set(held(place))) < len(long)
    assert all(other.read_bytes() == b"mine" for other in others)
    if name.endswith(".m3u8"):
        assert set(held(place)) == {name, "in-00000.ts", *(other.name for other in others)}


def test_lists_that_would_write_the_same_files_are_refused(tmp_path: Path) -> None:
    config = gtasr_video.UpscaleConfig(stream=StreamConfig(also=(str(tmp_path / "a_23.m3u8"),)))
    with pytest.raises(UsageError, match=r"a#.m3u8 and .*a_23.m3u8 would write the same files"):
        upscale(make_clip(tmp_path / "clip.mp4", frames=5), tmp_path / "a#.m3u8", config=config)


def test_a_list_that_is_a_link_is_written_where_it_leads(tmp_path: Path) -> None:
    source, there = make_clip(tmp_path / "clip.mp4", frames=5), tmp_path / "there"
    there.mkdir()
    link = tmp_path / "live.m3u8"
    link.symlink_to(there / "real.m3u8")
    upscale(source, link)
    assert link.is_symlink()
    assert set(held(there)) == {"real.m3u8", "real-00000.ts"}
    with pytest.raises(OutputError, match=r"real.m3u8 exists; use -y"):
        upscale(source, link)
    astray = tmp_path / "astray.mpd"
    astray.symlink_to(there / "real.txt")
    with pytest.raises(OutputError, match=r"astray.mpd leads to .*real.txt, which is no .m3u8 or .mpd list"):
        upscale(source, astray)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("%v/live.m3u8", "%v in a folder's name is taken for a number"),
        ("live%v.m3u8", "%v in the name is taken for a number"),
        (os.fsdecode(b"bad\xff/live.m3u8"), "a list cannot be written where a name is not UTF-8"),
        (os.fsdecode(b"bad\xff.mpd"), "a list cannot be written where a name is not UTF-8"),
        ("none/none/live.m3u8", "there is no folder .*none for .*live.m3u8; make it first"),
        ("file/live.m3u8", "file is no folder; choose another"),
    ],
)
def test_where_no_list_can_be_is_said_at_once(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=reason):
        ListFiles(tmp_path / name, 0, overwrite=True)
    assert set(held(tmp_path)) == {"file"}


def test_what_a_program_wrote_of_a_manifest_is_kept_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program is killed when the first segments are there; another begins with its own."""
    programs: list[Child] = []
    looks = itertools.count()
    whole, target = ListFiles.fault, tmp_path / "out" / "live.mpd"

    def start(*arguments: Any, **options: Any) -> Child:
        programs.append(Child(*arguments, **options))
        return programs[-1]

    def look(files: ListFiles, *, at_end: bool) -> str:
        if next(looks) == 100:
            while not target.exists():
                time.sleep(0.01)
            programs[0]._process.kill()
        return whole(files, at_end=at_end)

    monkeypatch.setattr(receivers, "Child", start)
    monkeypatch.setattr(ListFiles, "fault", look)
    monkeypatch.setattr(sender, "_LOOK_S", -1.0)
    with pytest.raises(OutputError, match=r"live.mpd: interrupted; the list is not whole"):
        upscale(make_clip(tmp_path / "in.mp4", frames=200), target)
    kept = target.with_name("live.part-1.mpd")
    assert len(programs) == 2
    assert 'type="static"' in kept.read_text()
    assert count(kept) >= 50
    assert count(target) >= 50
    upscale(make_clip(tmp_path / "short.mp4", frames=5), target, overwrite=True)
    assert {name.split("-")[0] for name in held(target.parent)} == {"live", "live.mpd"}


def count(manifest: Path) -> int:
    """Return how many pictures the program plays of `manifest`; PyAV is built without DASH."""
    command = [peers.program(), "-v", "error", "-i", str(manifest), "-map", "0:v", "-f", "framecrc", "-"]
    played = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not played.stderr
    return sum(not line.startswith("#") for line in played.stdout.splitlines())
