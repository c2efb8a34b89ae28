"""What is found below folders and by patterns: everything, once, and what cannot be read is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gtasr_video.media.folders import below, matching

FILMS = {".mp4", ".mkv"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder of films, and another beside it."""
    for name in (
        "in/a.mp4",
        "in/b/c.MKV",
        "in/b/notes.txt",
        "in/._a.mp4",
        "in/.bin/d.mp4",
        "nas/films/e.mp4",
        "nas/f.mp4",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "in"


@pytest.fixture(params=["folder", "pattern"])
def look(request: pytest.FixtureRequest, tree: Path) -> Callable[[], dict[str, str]]:
    """What is found, by its path below the folder, and what is said of it."""

    def found() -> dict[str, str]:
        by_folder = request.param == "folder"
        pairs = list(below(tree, FILMS) if by_folder else matching(f"{tree}/**/*.[mM][pPkK]*"))
        assert len(dict(pairs)) == len(pairs)
        return {str(path.relative_to(tree)): fault for path, fault in pairs}

    return found


def deny(folder: str, patch: pytest.MonkeyPatch) -> None:
    """Let nobody list `folder`, root neither."""
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if not isinstance(path, int) and os.fspath(path).endswith(folder):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    patch.setattr("os.scandir", refusing)


def test_all_but_hidden_ones_are_found(look: Callable[[], dict[str, str]]) -> None:
    assert look() == {"a.mp4": "", "b/c.MKV": ""}


def test_a_folder_that_cannot_be_read_is_named(
    look: Callable[[], dict[str, str]], tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deny("in/b", monkeypatch)
    assert look() == {"a.mp4": "", "b": f"{tree / 'b'} cannot be read (Permission denied)"}


def test_linked_folders_are_gone_into_once_and_change_no_path(look: Callable[[], dict[str, str]], tree: Path) -> None:
    for name, target in {"a": "b", "films": "../nas", "more": "../nas", "loop": ".", "up": "..", "b/top": "/"}.items():
        (tree / name).symlink_to(target)
    (tree.parent / "nas" / "home").symlink_to(tree)
    assert look() == {"a.mp4": "", "b/c.MKV": "", "films/f.mp4": "", "films/films/e.mp4": ""}


def test_links_that_lead_nowhere_are_named(look: Callable[[], dict[str, str]], tree: Path) -> None:
    (tree / "gone.mp4").symlink_to("/none/gone.mp4")
    (tree / "self.mp4").symlink_to("self.mp4")
    (tree / "notes.txt").symlink_to("/none")
    (tree / "good.mp4").symlink_to("a.mp4")
    found = look()
    assert sorted(found) == ["a.mp4", "b/c.MKV", "gone.mp4", "good.mp4", "self.mp4"]
    gone = f"{tree / 'gone.mp4'}, a link to /none/gone.mp4, cannot be read (No such file or directory)"
    assert found["gone.mp4"] == gone
    assert "a link to self.mp4, cannot be read (Too many levels of symbolic links)" in found["self.mp4"]


def test_a_link_without_an_extension_may_have_led_to_a_folder(tree: Path) -> None:
    (tree / "disk").symlink_to("/none/disk")
    assert "cannot be read" in dict(below(tree, FILMS))[tree / "disk"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["a.mp4"]),
        ("*/*.MKV", ["b/c.MKV"]),
        ("b/c.MKV", ["b/c.MKV"]),
        ("[a]*", ["a.mp4"]),
        ("**", ["a.mp4", "b/c.MKV", "b/notes.txt"]),
        ("**/**/c.*", ["b/c.MKV"]),
        (".*/*", [".bin/d.mp4"]),
        ("../*/films/*", ["../nas/films/e.mp4"]),
        ("none/*", []),
        ("*/none.mp4", []),
    ],
)
def test_patterns(pattern: str, found: list[str], tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    assert sorted(str(path) for path, _ in matching(pattern)) == found
    whole = [(tree / path, "") for path in found]
    assert sorted(matching(f"{tree}/{pattern}")) == whole


def test_a_folder_on_the_way_that_need_not_be_listed_may_be_closed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deny("/in", monkeypatch)
    assert [path.name for path, _ in matching(f"{tree}/b/*.MKV")] == ["c.MKV"]
    assert [fault for _, fault in matching(f"{tree}/*/*.MKV")] == [f"{tree} cannot be read (Permission denied)"]
