"""Many files: the tree is kept, one bad file stops nothing, and the same command again does what is missing."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gtasr_video.batch import Item, _watched, find_items, is_many, upscale_folder
from gtasr_video.errors import InputError, UsageError
from gtasr_video.runtime import job as jobs
from gtasr_video.runtime import origins
from gtasr_video.runtime.job.seal import sealed, unsealed
from tests import fakes
from tests.clips import make_clip
from tests.conftest import Outcome
from tests.media.test_folders import deny
from tests.runtime.job.jobs import film
from tests.test_bad_input import frames_of

Cli = Callable[..., Outcome]
MODEL = ("--model", "bicubic", "--scale", "2", "--progress", "none")
ROOT = Path(__file__).parent.parent


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder with two videos, one of them deeper, and things that are none."""
    folder = tmp_path / "videos"
    (folder / "2024" / "march").mkdir(parents=True)
    fakes.clip(folder / "one.mp4", 3)
    fakes.clip(folder / "2024" / "march" / "two.mkv", 4)
    (folder / "notes.txt").write_text("not a video")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_with_its_tree(videos: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "out"
    done = cli("upscale", videos, out, *MODEL)
    assert (done.code, done.err) == (0, "")
    assert names(out) == ["2024/march/two.mkv", "one.mp4"]
    assert frames_of(out / "2024" / "march" / "two.mkv") == 4
    assert done.out.splitlines()[-1] == "2 done, 0 there already, 0 failed"


def test_again_does_what_is_missing(videos: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "out"
    assert cli("upscale", videos, out, *MODEL).code == 0
    before = (out / "one.mp4").stat().st_mtime_ns
    fakes.clip(videos / "three.mp4", 2)
    (out / "2024" / "march" / "two.mkv").unlink()
    done = cli("upscale", videos, out, *MODEL)
    assert done.out.splitlines()[-1] == "2 done, 1 there already, 0 failed"
    assert (out / "one.mp4").stat().st_mtime_ns == before
    assert len(names(out)) == 3


def test_one_bad_file_does_not_stop_the_others(videos: Path, tmp_path: Path, cli: Cli) -> None:
    (videos / "bad.mp4").write_text("not a video at all\n" * 100)
    out, report = tmp_path / "out", tmp_path / "report.json"
    done = cli("upscale", videos, out, *MODEL, "--report", report)
    assert done.code == 1
    assert done.err.startswith(f"gtasr-video: error: {videos / 'bad.mp4'} is not a media file")
    assert done.out.splitlines()[-1] == "2 done, 0 there already, 1 failed"
    assert names(out) == ["2024/march/two.mkv", "one.mp4"]
    files = {Path(f["source"]).name: f for f in json.loads(report.read_text())["files"]}
    assert files["bad.mp4"]["state"] == "failed"
    assert files["one.mp4"]["report"]["frames_out"] == 3


def test_several_files_and_patterns(videos: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "out"
    assert cli("upscale", videos / "one.mp4", videos / "2024" / "march" / "two.mkv", out, *MODEL).code == 0
    assert names(out) == ["one.mp4", "two.mkv"]
    again = tmp_path / "again"
    assert cli("upscale", f"{videos}/**/*.m*", f"{again}/", *MODEL).code == 0
    assert names(again) == ["2024/march/two.mkv", "one.mp4"]


def test_one_file_into_a_folder(videos: Path, tmp_path: Path, cli: Cli) -> None:
    assert cli("upscale", videos / "one.mp4", f"{tmp_path / 'new'}/", *MODEL).code == 0
    assert names(tmp_path / "new") == ["one.mp4"]


@pytest.mark.parametrize("output", ["out.mp4", "notes"])
def test_a_folder_does_not_go_into_a_file(output: str, videos: Path, tmp_path: Path, cli: Cli) -> None:
    target = tmp_path / output
    if output == "notes":
        target.write_text("mine")
    done = cli("upscale", videos, target, *MODEL)
    assert (done.code, done.out) == (2, "")
    assert f"{target} is no folder" in done.err
    assert len(done.err.splitlines()) == 1


def test_workers_share_each_file(videos: Path, tmp_path: Path, cli: Cli) -> None:
    done = cli("upscale", videos, tmp_path / "out", *MODEL, "--workers", "2")
    assert done.code == 0, done
    assert names(tmp_path / "out") == ["2024/march/two.mkv", "one.mp4"]
    assert "one.mp4: one process does it instead of 2: parts are no shorter than 10 s" in done.err


def test_settings_that_cannot_be_end_it_at_once(videos: Path, tmp_path: Path, cli: Cli) -> None:
    done = cli("upscale", videos, tmp_path / "out", "--model", "bicubik")
    assert done.code == 2
    assert "no model 'bicubik'" in done.err
    assert not (tmp_path / "out").exists()


def test_a_folder_without_videos(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "empty").mkdir()
    done = cli("upscale", tmp_path / "empty", tmp_path / "out", *MODEL)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"gtasr-video: error: there is no video in {tmp_path / 'empty'}\n"


def test_the_output_may_lie_in_the_input(videos: Path) -> None:
    out = videos / "large"
    out.mkdir()
    fakes.clip(out / "one.mp4", 1)
    for name in ("half.part.mp4", "half.part-1.mp4", "odd.suspect-1.mp4"):
        (videos / name).touch()
    fakes.clip(videos / "odd.suspect.mp4", 1)
    assert sorted(item.source.name for item in find_items([videos], out)) == ["one.mp4", "two.mkv"]


def test_what_cannot_be_read_has_failed(
    videos: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, report = tmp_path / "out", tmp_path / "report.json"
    (videos / "gone.mp4").symlink_to("/none/gone.mp4")
    (videos / "._one.mp4").write_bytes(b"what macOS keeps")
    deny("/2024", monkeypatch)
    done = cli("upscale", videos, out, *MODEL, "--report", report)
    assert done.code == 1
    closed = f"{videos / '2024'} cannot be read (Permission denied)"
    assert closed in done.err
    assert done.err.count("gtasr-video: error: ") == 2
    assert done.out.splitlines()[-1] == "1 done, 0 there already, 2 failed"
    files = {Path(f["source"]).name: f for f in json.loads(report.read_text())["files"]}
    assert {name: f["state"] for name, f in files.items()} == {
        "2024": "failed",
        "gone.mp4": "failed",
        "one.mp4": "done",
    }
    assert files["2024"]["message"] == closed
    assert names(out) == ["one.mp4"]


def test_what_cannot_be_read_takes_no_name(videos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "one.mp4").symlink_to("/none/one.mp4")
    found = find_items([videos, other], tmp_path / "out")
    assert [(item.source.name, bool(item.fault)) for item in found] == [
        ("two.mkv", False),
        ("one.mp4", False),
        ("one.mp4", True),
    ]


def test_a_folder_that_is_linked_keeps_its_tree(videos: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "disk" / "films").mkdir(parents=True)
    fakes.clip(tmp_path / "disk" / "films" / "three.mp4", 2)
    (videos / "more").symlink_to(tmp_path / "disk")
    (videos / "loop").symlink_to(".")
    assert cli("upscale", videos, tmp_path / "out", *MODEL).code == 0
    assert names(tmp_path / "out") == ["2024/march/two.mkv", "more/films/three.mp4", "one.mp4"]


def test_a_name_like_ours_is_ours_only_beside_what_says_so(
    videos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("gtasr_video").propagate = True
    theirs = ["a.part-1.mp4", "a.part-2.mp4", "b.part.mp4", "c.suspect.mp4", "paint.job/d.mp4"]
    ours = ["e.mp4", "e.part-1.mp4", "f.part.mp4", "f.part-1.mp4", "g.suspect-1.mp4", "g.suspect.mp4", "h.part.mp4"]
    for name in (*theirs, *ours, "h.mp4.job/lock", "h.mp4.job/h.part.mp4"):
        (videos / name).parent.mkdir(exist_ok=True)
        (videos / name).touch()
    found = {str(item.source.relative_to(videos)) for item in find_items([videos], tmp_path / "out")}
    assert found == {*theirs, "e.mp4", "one.mp4", "2024/march/two.mkv"}
    (line,) = {record.getMessage() for record in caplog.records}
    assert line.startswith(f"left out, as an unfinished run leaves such files: {videos / 'e.part-1.mp4'}, ")
    assert line.endswith(" and 3 more; give one by name to take it")
    named = find_items([videos, videos / "e.part-1.mp4"], tmp_path / "out")
    assert videos / "e.part-1.mp4" in [item.source for item in named]


def test_only_below_the_input_is_a_journal_ours(tmp_path: Path) -> None:
    folder = tmp_path / "in.mp4.job"
    folder.mkdir()
    (folder / "lock").touch()
    fakes.clip(folder / "one.mp4", 1)
    assert [item.source.name for item in find_items([folder], tmp_path / "out")] == ["one.mp4"]


@pytest.mark.parametrize("more", [(), ("-y",), ("--watch",)], ids=str)
@pytest.mark.parametrize("what", ["one", "two", "pattern", "link"])
def test_files_do_not_go_into_their_own_folder(
    what: str, more: tuple[str, ...], videos: Path, tmp_path: Path, cli: Cli
) -> None:
    fakes.clip(videos / "three.mp4", 1)
    before = {path: path.read_bytes() for path in videos.glob("*.mp4")}
    (tmp_path / "link").symlink_to(videos)
    one, three = videos / "one.mp4", videos / "three.mp4"
    sources = {"one": [one], "two": [three, one], "pattern": [videos / "*.mp4"], "link": [one]}[what]
    done = cli("upscale", *sources, tmp_path / "link" if what == "link" else videos, *MODEL, *more)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert str(sources[0]) in line
    assert line.endswith("give another folder")
    assert {path: path.read_bytes() for path in videos.glob("*.mp4")} == before


@pytest.mark.parametrize(
    ("arguments", "empty"),
    [
        (("one.mp4", ""), "OUTPUT"),
        (("one.mp4", "one.mp4", ""), "OUTPUT"),
        (("one.mp4", "", "--watch"), "OUTPUT"),
        (("-", ""), "OUTPUT"),
        (("", "out.mp4"), "INPUT"),
        (("", "out/"), "INPUT"),
        (("one.mp4", "", "out/"), "INPUT"),
        (("", "-"), "INPUT"),
    ],
)
def test_an_empty_name_is_not_this_folder(
    arguments: tuple[str, ...], empty: str, videos: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(videos)
    done = cli("upscale", *arguments, *MODEL)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"gtasr-video: error: {empty} is empty, ")
    assert len(done.err.splitlines()) == 1
    assert sorted(path.name for path in videos.iterdir()) == ["2024", "notes.txt", "one.mp4"]


@pytest.mark.parametrize("out", [".", "videos", "videos/."])
def test_the_input_may_not_lie_in_the_output(out: str, videos: Path) -> None:
    with pytest.raises(UsageError, match=r"OUTPUT .* holds INPUT .*; give another folder"):
        find_items([videos], videos.parent / out)


def test_names_that_cannot_be_written_are_mkv(tmp_path: Path) -> None:
    for name in ("a.avi", "b.avi", "b.mkv", "c.mpg", "d.jpg"):
        (tmp_path / name).touch()
    found = {item.source.name: item.output.name for item in find_items([tmp_path], tmp_path / "out")}
    assert found == {"a.avi": "a.avi.mkv", "b.avi": "b.avi.mkv", "b.mkv": "b.mkv", "c.mpg": "c.mpg.mkv"}
    (photo,) = find_items([f"{tmp_path}/*.jpg"], tmp_path / "out")
    assert photo.output.name == "d.jpg"


def test_each_of_two_of_one_name_is_made_and_found_again(tmp_path: Path, cli: Cli) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    old = {"codec": "mpeg4", "time_base": Fraction(1, 25)}
    make_clip(videos / "x.avi", pts=list(range(3)), **old)
    assert cli("upscale", videos, out, *MODEL).code == 0
    make_clip(videos / "x.wmv", pts=list(range(4)), **old)
    fakes.clip(videos / "x.mkv", 5)
    done = cli("upscale", videos, out, *MODEL)
    assert done.out.splitlines()[-1] == "2 done, 1 there already, 0 failed"
    assert {name: frames_of(out / name) for name in names(out)} == {"x.avi.mkv": 3, "x.mkv": 5, "x.wmv.mkv": 4}
    assert cli("upscale", videos, out, *MODEL).out.splitlines()[-1] == "0 done, 3 there already, 0 failed"


@pytest.mark.parametrize("what", ["folders", "files", "patterns"])
@pytest.mark.parametrize("more", [(), ("-y",), ("--watch",)], ids=str)
def test_two_files_never_become_one(what: str, more: tuple[str, ...], tmp_path: Path, cli: Cli) -> None:
    one, two = tmp_path / "card1", tmp_path / "card2"
    one.mkdir()
    two.mkdir()
    fakes.clip(one / "first.mp4", 1)
    fakes.clip(one / "a.mp4", 3)
    fakes.clip(two / "a.mp4", 4)
    sources = {"folders": (one, two), "files": (one / "a.mp4", two / "a.mp4"), "patterns": (one / "*", two / "*")}
    done = cli("upscale", *sources[what], tmp_path / "out", *MODEL, *more)
    assert (done.code, done.out, (tmp_path / "out").exists()) == (2, "", False)
    told = f"{one / 'a.mp4'} and {two / 'a.mp4'} would both become {tmp_path / 'out' / 'a.mp4'}; "
    assert done.err.startswith(f"gtasr-video: error: {told}")
    assert len(done.err.splitlines()) == 1
    # The way out that it names.
    assert cli("upscale", tmp_path, tmp_path / "out", *MODEL).code == 0
    assert names(tmp_path / "out") == ["card1/a.mp4", "card1/first.mp4", "card2/a.mp4"]


def test_a_file_that_is_named_twice_is_one(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(videos)
    (item,) = find_items(["one.mp4", videos / "one.mp4", "./*.mp4"], tmp_path / "out")
    assert (item.source.name, item.rival) == ("one.mp4", None)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        find_items([tmp_path / "none.mp4"], tmp_path / "out")
    with pytest.raises(UsageError, match="is no folder"):
        find_items([tmp_path], tmp_path / "out.mkv")
    assert find_items([f"{tmp_path}/*.mp4"], tmp_path / "out") == []


def test_what_is_many(tmp_path: Path) -> None:
    assert is_many(["a", "b"], "out")
    assert is_many([str(tmp_path)], "out.mp4")
    assert is_many(["*.mp4"], "out.mp4")
    assert not is_many(["a.mp4"], "b.mp4")
    assert not is_many(["rtmp://host/*"], "b.mp4")
    assert not is_many(["rtmp://host/app/key"], f"{tmp_path}/")
    assert not is_many(["a.mp4"], "rtmp://host/app/key/")
    (tmp_path / "what[1].mp4").touch()
    assert not is_many([str(tmp_path / "what[1].mp4")], "b.mp4")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rtmp://h/app/SECRET", "out"), "out is a folder; name the file that the stream becomes: out/stream.mkv"),
        (("rtmp://h/app/SECRET", "new/"), "new/ is a folder; name the file that the stream becomes: new/stream.mkv"),
        (("rtmp://h/app/SECRET", "out", "--watch"), "goes with one INPUT and one OUTPUT"),
        (("rtmp://h/app/SECRET", "rtmp://h/app/SECRET", "out"), "goes with one INPUT and one OUTPUT"),
        (("videos/one.mp4", "videos/notes.txt", "rtmp://h/app/SECRET.mp4"), "goes with one INPUT and one OUTPUT"),
        (("videos/one.mp4", "videos/notes.txt", "-"), "goes with one INPUT and one OUTPUT"),
        (("videos/*.mp4", "rtmp://h/app/SECRET"), "goes with one INPUT and one OUTPUT"),
        (("videos", "rtmp://h/app/SECRET/"), "goes with one INPUT and one OUTPUT"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_streams_are_none_of_many_files(
    arguments: tuple[str, ...], words: str, videos: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    outcome = cli("upscale", *arguments, *MODEL)
    assert outcome.code, outcome
    (line,) = outcome.err.splitlines()
    assert words in line
    assert "SECRET" not in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "videos"]
    assert not list((tmp_path / "out").iterdir())


def test_a_path_made_of_an_address_is_no_folder(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="cannot write rtmp: addresses"):
        upscale_folder(videos, Path("rtmp://h/app/SECRET"), model="bicubic")
    assert not (tmp_path / "rtmp:").exists()


class Stage:
    """A clock that goes on when someone waits, and what happens in the folder meanwhile."""

    def __init__(self, script: Iterator[object]) -> None:
        self.now, self._script = 0.0, script

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds
        next(self._script)


def test_a_hot_folder_waits_for_files_to_be_whole(tmp_path: Path) -> None:
    growing, whole = tmp_path / "growing.mp4", tmp_path / "whole.mp4"
    seen: list[str] = []

    def script() -> Iterator[None]:
        whole.write_bytes(b"12")
        for size in range(6):  # it grows for longer than a whole one would have to rest
            growing.write_bytes(b"1" * (size + 1))
            assert "growing.mp4" not in seen
            yield
        yield from (None for _ in range(5))
        assert seen == ["whole.mp4", "growing.mp4"]
        yield from (None for _ in range(5))
        whole.write_bytes(b"another film of that name")
        yield from (None for _ in range(5))

    stage = Stage(script())
    with pytest.raises(RuntimeError, match="StopIteration"):
        for item in _watched([tmp_path], tmp_path / "out", stage.clock, stage.pause):
            assert isinstance(item, Item)
            seen.append(item.source.name)
    assert seen == ["whole.mp4", "growing.mp4", "whole.mp4"]


def test_what_cannot_be_read_in_a_hot_folder_is_told_once(tmp_path: Path) -> None:
    link, seen = tmp_path / "x.mp4", []
    link.symlink_to(tmp_path / "disk" / "x.mp4")

    def script() -> Iterator[None]:
        yield from (None for _ in range(10))
        assert [bool(item.fault) for item in seen] == [True]
        (tmp_path / "disk").mkdir()
        (tmp_path / "disk" / "x.mp4").write_bytes(b"12")
        link.unlink()
        link.symlink_to(tmp_path / "disk" / "x.mp4")
        yield from (None for _ in range(5))

    stage = Stage(script())
    with pytest.raises(RuntimeError, match="StopIteration"):
        seen.extend(_watched([link.parent], tmp_path / "out", stage.clock, stage.pause))
    assert [bool(item.fault) for item in seen] == [True, False, False]


class Inbox:
    """``--watch`` on a folder, by the command, while a script puts films into it and looks at what becomes of them."""

    def __init__(self, folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        self.source, self.out = folder / "in" / "x.mp4", folder / "out" / "x.mp4"
        self.source.parent.mkdir()
        self._spare, self._cli, self._patch = folder / "spare.mp4", cli, monkeypatch

    def put(self, frames: int, source: Path | None = None) -> None:
        """Copy in a film of so many frames as a card reader does, which keeps its time: older than all else here."""
        fakes.clip(self._spare, frames)
        os.utime(self._spare, (10**9 + frames, 10**9 + frames))
        shutil.copy2(self._spare, source or self.source)
        self._spare.unlink()

    def watch(self, script: Iterator[object], *more: str | Path) -> Outcome:
        """Return what the command left behind when `script` ended, each of whose steps lets two seconds pass."""

        def until_interrupted() -> Iterator[object]:
            yield from script
            raise KeyboardInterrupt

        stage = Stage(until_interrupted())
        self._patch.setattr("gtasr_video.batch._watched", partial(_watched, clock=stage.clock, pause=stage.pause))
        done = self._cli("upscale", self.source.parent, *more, self.out.parent, "--watch", *MODEL)
        assert (done.code, next(script, None)) == (130, None), done.err
        return done


@pytest.fixture
def inbox(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Inbox:
    return Inbox(tmp_path, cli, monkeypatch)


def settle() -> Iterator[None]:
    yield from (None for _ in range(5))


def counts(done: Outcome) -> str:
    return done.out.splitlines()[-1]


def test_another_film_of_the_name_is_made_again(inbox: Inbox) -> None:
    def script() -> Iterator[None]:
        inbox.put(3)
        yield from settle()
        assert frames_of(inbox.out) == 3
        inbox.put(5)
        yield from settle()
        assert frames_of(inbox.out) == 5

    assert counts(inbox.watch(script())) == "2 done, 0 there already, 0 failed"
    assert counts(inbox.watch(settle())) == "0 done, 1 there already, 0 failed"
    inbox.put(4)  # while nobody watches
    assert counts(inbox.watch(settle())) == "1 done, 0 there already, 0 failed"
    assert frames_of(inbox.out) == 4
    inbox.out.unlink()
    assert counts(inbox.watch(settle())) == "1 done, 0 there already, 0 failed"


def test_what_watching_did_not_make_is_never_replaced(inbox: Inbox) -> None:
    def script() -> Iterator[None]:
        yield from settle()
        inbox.put(3)
        yield from settle()
        assert frames_of(inbox.out) == 2
        inbox.out.unlink()
        inbox.put(4)
        yield from settle()
        assert frames_of(inbox.out) == 4
        inbox.put(2, inbox.out)
        inbox.put(5)
        yield from settle()

    inbox.put(7)
    inbox.out.parent.mkdir()
    fakes.clip(inbox.out, 2)  # after the film came: taken for its result
    done = inbox.watch(script())
    assert counts(done) == "1 done, 1 there already, 2 failed"
    assert frames_of(inbox.out) == 2
    told = f"error: {inbox.out} was there before {inbox.source} came, and is not what --watch left there; "
    assert done.err.count(told) == 2
    assert counts(inbox.watch(settle(), "-y")) == "1 done, 0 there already, 0 failed"
    assert frames_of(inbox.out) == 5


def test_a_film_that_takes_the_place_of_one_in_work_is_made(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    check, seen = jobs._Run._check_source, []

    def replaced(run: Any, part: Any) -> None:
        if not seen:
            seen.append([*inbox.out.parent.glob("x.mp4.job/part-0/*.json")])
            inbox.put(5)
        check(run, part)

    monkeypatch.setattr(jobs._Run, "_check_source", replaced)

    def script() -> Iterator[None]:
        film(inbox.source, 200, size=(48, 32), sound=())
        yield from settle()
        yield from settle()

    done = inbox.watch(script())
    assert seen[0], "nothing was finished of the first film: this shows nothing"
    assert counts(done) == "1 done, 0 there already, 1 failed"
    assert "changed while it was read" in done.err
    assert frames_of(inbox.out) == 5
    assert names(inbox.out.parent) == [origins.NAME, "x.mp4"]


def test_a_job_that_watching_did_not_begin_is_kept(inbox: Inbox) -> None:
    job = inbox.out.with_name("x.mp4.job")
    job.mkdir(parents=True)
    known = {"format": 2, "source": {"bytes": 1, "sha256": "of another film"}, "settings": {}, "parts": []}
    (job / "job.json").write_bytes(sealed(known))
    for frames in (3, 4):
        inbox.put(frames)
        assert "was begun with another source" in inbox.watch(settle()).err
    assert unsealed(job / "job.json") == known


@pytest.mark.parametrize("stays", [True, False])
def test_two_folders_that_are_watched_do_not_mix(stays: bool, inbox: Inbox) -> None:
    other = inbox.source.parent.with_name("in2")
    other.mkdir()

    def script() -> Iterator[None]:
        inbox.put(3)
        yield from settle()
        if not stays:
            inbox.source.unlink()
        inbox.put(4, other / "x.mp4")
        inbox.put(5, other / "y.mp4")
        yield from settle()

    done = inbox.watch(script(), other)
    assert counts(done) == "2 done, 0 there already, 1 failed"
    assert (f"error: {other / 'x.mp4'} and {inbox.source} would both become" in done.err) == stays
    assert (f"error: {inbox.out} was made of {inbox.source}, not of {other / 'x.mp4'}; " in done.err) != stays
    assert frames_of(inbox.out) == 3


def test_watching_ends_with_ctrl_c_and_the_table(
    videos: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def two(*_: object) -> Iterator[Item]:
        yield Item(videos / "one.mp4", tmp_path / "out" / "one.mp4")
        raise KeyboardInterrupt

    monkeypatch.setattr("gtasr_video.batch._watched", two)
    done = cli("upscale", videos, tmp_path / "out", "--watch", *MODEL)
    assert done.code == 130
    assert done.out.splitlines()[-1] == "1 done, 0 there already, 0 failed"


def test_pipeline_folder_to_folder(videos: Path, tmp_path: Path) -> None:
    (videos / "bad.mp4").write_text("no")
    command = [sys.executable, str(ROOT / "pipelines" / "folder_to_folder.py"), str(videos), str(tmp_path / "out")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--model", "bicubic", "--scale", "2"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 3
    assert names(tmp_path / "out") == ["2024/march/two.mkv", "one.mp4"]


def test_an_option_that_there_is_not_fails_at_once(small_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'crv'"):
        upscale_folder(small_clip, tmp_path / "out", model="bicubic", crv=20)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--codec", "h266"), "unknown codec 'h266'"),
        (("--codec", "h264", "--crf", "77"), "crf 77 is outside 0 to 51 of h264"),
        (("--crf", "77"), "crf 77 is outside 0 to 51 of h264"),
        (("--preset", "medum"), "h264 has no preset 'medum'"),
        (("--frames", "0"), "frames must be at least 1"),
        (("--device", "gpu"), "no device named 'gpu'"),
    ],
)
def test_what_would_fail_with_every_file_is_refused_at_once(
    option: tuple[str, ...], words: str, videos: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    done = cli("upscale", videos, tmp_path / "out", "--model", "bicubic", *option)
    assert done.code == 2, done.err
    assert done.err.count("\n") == 1
    assert words in done.err
    assert not (tmp_path / "out").exists()


def test_what_one_of_the_files_can_be_encoded_with_is_not_refused(
    videos: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    done = cli("upscale", videos, tmp_path / "out", "--model", "bicubic", "--scale", "2", "--codec", "ffv1")
    assert done.code == 1
    assert "mp4 cannot hold ffv1" in done.err
    assert names(tmp_path / "out") == ["2024/march/two.mkv"]


def test_odd_names_are_shown_in_one_line_and_reported_as_they_are(
    small_clip: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    folder, report = tmp_path / "in", tmp_path / "report.json"
    folder.mkdir()
    odd = folder / "new\nline\x1b[31m.mp4"
    shutil.copy(small_clip, odd)
    done = cli("upscale", folder, tmp_path / "out", "--model", "bicubic", "--scale", "2", "--report", report)
    assert done.code == 0
    assert "\x1b" not in done.out + done.err and done.err.count("\n") == 1
    assert json.loads(report.read_text())["files"][0]["source"] == str(odd)
