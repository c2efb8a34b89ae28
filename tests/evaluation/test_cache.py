"""What is made once is found again, by content; what failed is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gtasr_video.errors import EvaluationError
from gtasr_video.evaluation.cache import Cache, file_hash, key

# Each begins its file, and ends it when the other has begun, too.
SHARING = """
import sys, time
from pathlib import Path
from gtasr_video.evaluation.cache import Cache

folder, number = Path(sys.argv[1]), int(sys.argv[2])

def make(path):
    part = path.with_name(f"{path.name}.part")
    part.write_text("x")
    (folder / f"begun-{number}").touch()
    while not (folder / f"begun-{1 - number}").exists():
        time.sleep(0.01)
    part.replace(path)

Cache(folder).file("a.mkv", make)
"""


def test_made_once_and_kept(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        path.write_text("x")

    for _ in range(2):
        cache = Cache(tmp_path)
        assert cache.file("a", make).read_text() == "x"
        cache.close()
    assert len(made) == 1


def test_what_is_not_kept_goes(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    file = cache.file("a", lambda path: path.write_text("x"), keep=False)
    kept = cache.file("b", lambda path: path.write_text("x"))
    cache.forget([file, kept])
    assert not file.exists() and kept.exists()
    again = cache.file("a", lambda path: path.write_text("y"), keep=False)
    cache.close()
    assert not again.exists()


def test_without_a_folder_nothing_is_kept() -> None:
    cache = Cache(None)
    file = cache.file("a", lambda path: path.write_text("x"))
    cache.close()
    assert not file.exists()


def test_json_is_given_back(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.json("a", lambda: {"psnr": 1.5, "jitter": None}) == {"psnr": 1.5, "jitter": None}
    assert cache.json("a", lambda: pytest.fail("made twice"))["psnr"] == 1.5
    cache.close()


def test_a_kept_file_that_was_cut_short_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    cache = Cache(tmp_path)
    assert cache.json("a", lambda: {"psnr": 1.5}) == {"psnr": 1.5}
    assert cache.json("a", lambda: pytest.fail("made twice")) == {"psnr": 1.5}
    cache.close()


def test_two_measurements_may_share_a_folder(tmp_path: Path) -> None:
    """Both wrote to one unfinished file, and the second to be ready found it gone."""
    making = [subprocess.Popen([sys.executable, "-c", SHARING, str(tmp_path), str(n)]) for n in range(2)]
    assert [process.wait(60) for process in making] == [0, 0]
    assert [path.name for path in tmp_path.glob("a*")] == ["a.mkv"]


def test_keys_differ_with_every_part() -> None:
    keys = {key("a", 1), key("a", 2), key("b", 1), key(["a", 1]), key("a", None)}
    assert len(keys) == 5
    assert key("a", {"x": 1, "y": 2}) == key("a", {"y": 2, "x": 1})


def test_a_file_that_changes_has_another_hash(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("one")
    first = file_hash(file)
    file.write_text("two!")
    assert file_hash(file) != first
    with pytest.raises(EvaluationError, match="cannot be read"):
        file_hash(tmp_path / "none")


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file")
    with pytest.raises(EvaluationError, match="choose --cache"):
        cache.file("a", lambda path: path.write_text("x"))
    cache.close()
