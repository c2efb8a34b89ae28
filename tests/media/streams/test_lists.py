"""Lists on this machine: nothing is taken for written that is not, as the program that writes them does not say."""

from __future__ import annotations

import signal
import urllib.parse
from pathlib import Path
from typing import Any

import av
import pytest

import gtasr_video
from gtasr_video.errors import OutputError
from gtasr_video.media.streams import lists, receivers, sender
from gtasr_video.media.streams.child import Child
from gtasr_video.media.streams.lists import ListFiles
from tests.clips import make_clip
from tests.fakes import Nearest


def upscale(source: Path, output: Path) -> Any:
    return gtasr_video.upscale(source, output, model=Nearest(2), device="cpu")


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
        return programs[-1]

    monkeypatch.setattr(receivers, "Child", start)
    with pytest.raises(OutputError, match=r"live.m3u8: interrupted; .* start again with -y"):
        upscale(make_clip(tmp_path / "in.mp4", frames=60), tmp_path / "live.m3u8")
    assert len(programs) == 2


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
