"""What lies under the name of an unfinished file is the only copy of something, until it is known to be ours."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

import pytest

from gtasr_video.errors import OutputError
from gtasr_video.media import target as targets
from gtasr_video.media.target import Target
from tests import fakes


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture(autouse=True)
def heard() -> None:
    logging.getLogger("gtasr_video").propagate = True


HINTS = {
    ".mkv": "it plays, and 'ffmpeg -i a.part-3.mkv -map 0 -c copy NAME.mkv'",
    ".ts": "it plays, and 'ffmpeg -i a.part-3.ts ",
    ".mp4": "lacks its index, which untrunc rebuilds",
    ".gif": "a.part-3.gif",
}


@pytest.mark.parametrize("suffix", HINTS)
def test_what_is_there_is_moved_aside_and_named(suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    part, aside = tmp_path / f"a.part{suffix}", tmp_path / f"a.part-3{suffix}"
    kept = {part: b"nine hours", tmp_path / f"a.part-1{suffix}": b"of before", tmp_path / f"a.part-2{suffix}": b""}
    for path, data in kept.items():
        path.write_bytes(data)
    target = Target(tmp_path / f"a{suffix}", overwrite=True)
    (told,) = warnings(caplog)
    assert str(part) in told and str(aside) in told and HINTS[suffix] in told and "\n" not in told
    target.part.write_bytes(b"new")
    target.commit()
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == {
        f"a{suffix}": b"new",
        aside.name: b"nine hours",
        f"a.part-1{suffix}": b"of before",
        f"a.part-2{suffix}": b"",
    }


def test_an_empty_one_is_taken_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.part.mkv").touch()
    Target(tmp_path / "a.mkv", overwrite=False).discard()
    assert (list(tmp_path.iterdir()), warnings(caplog)) == ([], [])


def test_one_that_is_being_written_stays_where_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = Target(tmp_path / "a.mkv", overwrite=False)
    first.part.write_bytes(b"nine hours and going on")
    with pytest.raises(OutputError, match="another process"):
        Target(tmp_path / "a.mkv", overwrite=True)
    first.commit()
    assert ((tmp_path / "a.mkv").read_bytes(), warnings(caplog)) == (b"nine hours and going on", [])


def test_one_that_gets_its_name_just_now_is_not_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Target(tmp_path / "a.mkv", overwrite=False)
    first.part.write_bytes(b"whole")
    lock, locked = fcntl.flock, []

    def after_the_first_is_done(file: int, how: int) -> None:
        if not locked:
            first.commit()
        locked.append(file)
        lock(file, how)

    monkeypatch.setattr(targets.fcntl, "flock", after_the_first_is_done)
    second = Target(tmp_path / "a.mkv", overwrite=False)
    assert len(locked) == 2
    assert (tmp_path / "a.mkv").read_bytes() == b"whole"
    assert second.part.read_bytes() == b""


def test_a_link_is_moved_and_not_what_it_leads_to(tmp_path: Path) -> None:
    film = fakes.clip(tmp_path / "film.mp4", 3)
    data = film.read_bytes()
    (tmp_path / "a.part.mp4").symlink_to(film)
    Target(tmp_path / "a.mp4", overwrite=False).discard()
    assert film.read_bytes() == data
    assert (tmp_path / "a.part-1.mp4").readlink() == film


def test_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.ts")
    with pytest.raises(OutputError, match="no file but a pipe or a device; write to - and send it there"):
        Target(tmp_path / "a.ts", overwrite=True)
    assert (tmp_path / "a.ts").is_fifo()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_workplace_holds_nothing_but_ours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place, beside = tmp_path / "a.mkv.job", tmp_path / "a.part.mkv"
    beside.write_bytes(b"the user's")
    place.mkdir()
    (place / "a.part.mkv").write_bytes(b"left by a kill")
    target = Target(tmp_path / "a.mkv", overwrite=False, workplace=place)
    assert target.part.read_bytes() == b""
    target.discard()
    assert (list(tmp_path.iterdir()), warnings(caplog)) == ([beside], [])
    assert beside.read_bytes() == b"the user's"


def test_a_workplace_that_holds_more_stays(tmp_path: Path) -> None:
    place = tmp_path / "a.mkv.job"
    place.mkdir()
    (place / "job.json").touch()
    Target(tmp_path / "a.mkv", overwrite=False, workplace=place).discard()
    assert [path.name for path in place.iterdir()] == ["job.json"]
    other = tmp_path / "b.mkv.job"
    other.touch()
    with pytest.raises(OutputError, match=r"b\.mkv\.job: cannot be written"):
        Target(tmp_path / "b.mkv", overwrite=False, workplace=other)
