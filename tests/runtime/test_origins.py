"""What is known of results: enough to replace them, and to leave all else alone."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from gtasr_video.errors import OutputError
from gtasr_video.runtime.origins import NAME, Origins


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "a.mp4"
    path.parent.mkdir()
    path.write_bytes(b"film")
    return path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    path = tmp_path / "out" / "deep" / "a.mp4"
    path.parent.mkdir(parents=True)
    return path


def made(source: Path, output: Path, folder: Path) -> None:
    assert not Origins(folder).begin(source, output)
    output.write_bytes(b"result")
    Origins(folder).finish(output)


def aged(path: Path, seconds: float) -> None:
    facts = path.stat()
    os.utime(path, (facts.st_atime, facts.st_mtime + seconds))


def test_the_same_film_under_another_path_has_its_result(source: Path, output: Path, tmp_path: Path) -> None:
    made(source, output, tmp_path / "out")
    moved = source.rename(tmp_path / "moved.mp4")
    assert Origins(tmp_path / "out").holds(moved, output)
    moved.write_bytes(b"another film")
    with pytest.raises(OutputError, match=f"was made of {source}, not of {moved}"):
        Origins(tmp_path / "out").holds(moved, output)


@pytest.mark.parametrize(("shift", "size"), [(0, "longer"), (-10, "film")], ids=["size", "time"])
def test_another_size_or_time_is_another_film(
    shift: float, size: str, source: Path, output: Path, tmp_path: Path
) -> None:
    made(source, output, tmp_path / "out")
    facts = source.stat()
    source.write_text(size)
    os.utime(source, (facts.st_atime, facts.st_mtime + shift))
    assert not Origins(tmp_path / "out").holds(source, output)


def test_a_result_that_was_changed_is_no_longer_ours(source: Path, output: Path, tmp_path: Path) -> None:
    made(source, output, tmp_path / "out")
    output.write_bytes(b"edited")
    aged(output, 10)
    source.write_bytes(b"another")
    aged(output, -1000)
    with pytest.raises(OutputError, match="is not what --watch left there"):
        Origins(tmp_path / "out").holds(source, output)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_spoiled_record_makes_all_somebody_elses(text: str, source: Path, output: Path, tmp_path: Path) -> None:
    made(source, output, tmp_path / "out")
    (tmp_path / "out" / NAME).write_text(text)
    aged(output, -1000)
    with pytest.raises(OutputError, match="is not what --watch left there"):
        Origins(tmp_path / "out").holds(source, output)
    output.unlink()
    made(source, output, tmp_path / "out")
    assert Origins(tmp_path / "out").holds(source, output)


def test_what_was_carried_off_is_forgotten(source: Path, output: Path, tmp_path: Path) -> None:
    made(source, output, tmp_path / "out")
    output.unlink()
    made(source, output.with_name("b.mp4"), tmp_path / "out")
    assert list(json.loads((tmp_path / "out" / NAME).read_text())) == ["deep/b.mp4"]


def test_two_watches_of_one_folder_do_not_forget_each_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second reads only when the first has written."""
    folder, films = tmp_path / "out", [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    folder.mkdir()
    for film in films:
        film.write_bytes(b"film")
    one, other = Origins(folder), Origins(folder)
    second = threading.Thread(target=other.begin, args=(films[1], folder / "b.mp4"))
    write = one._write

    def slowly(known: dict[str, Any]) -> None:
        second.start()
        assert not _is_unlocked(folder)
        write(known)

    monkeypatch.setattr(one, "_write", slowly)
    one.begin(films[0], folder / "a.mp4")
    second.join()
    assert set(json.loads((folder / NAME).read_text())) == {"a.mp4", "b.mp4"}


def _is_unlocked(folder: Path) -> bool:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
