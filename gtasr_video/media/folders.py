"""The files below a folder, or of a pattern, and what there is that cannot be looked into."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Container, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path


def below(root: Path, suffixes: Container[str]) -> Iterator[tuple[Path, str]]:
    """Yield (path, "") for each file below `root` with one of `suffixes`, and (path, why) for what cannot be read.

    suffixes   in lower case, with their dot. A link without any may have been one to a folder: it is tried, too

    Hidden files and folders are left out. Linked folders come after all others and each folder is gone into once, so
    no link changes the path of what is found without it. None is followed up to a folder that holds it, or `root`.
    """
    for folder, entries, fault in _walk(root):
        if fault:
            yield folder, fault
        for entry in entries:
            suffix = Path(entry.name).suffix.lower()
            if suffix in suffixes or (not suffix and entry.is_symlink()):
                yield from _looked_at(folder / entry.name)


def matching(pattern: str) -> Iterator[tuple[Path, str]]:
    """Yield (path, "") for each file that `pattern` means, and (path, why) for what cannot be read on the way.

    ``*`` and the like mean no hidden name; ``**`` any number of folders, as `below` goes into them. Each file comes
    once, however many ways lead to it.
    """
    path, seen = Path(pattern), set[tuple[str, str]]()
    for found, fault in _expanded(Path(path.anchor), path.relative_to(path.anchor).parts):
        place = (os.path.realpath(found.parent), found.name)
        if place not in seen:
            seen.add(place)
            yield found, fault


def is_shown_by_us(path: Path) -> bool:
    """Return whether a picture lies where `train` and `evaluate` put what they show: it is a result, no material."""
    marks = {"validation": "run.json", "sheets": "results.json"}
    mark = marks.get(path.parent.name)
    return mark is not None and (path.parent.parent / mark).is_file()


def is_folder(path: str | Path) -> bool:
    """Return whether `path` is a folder, or leads to one, as far as that can be asked."""
    return os.path.isdir(path)  # noqa: PTH112 - false where it cannot be asked, where Path.is_dir raises


def _expanded(folder: Path, parts: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Yield what `matching` does for a pattern of `parts` in `folder`, some of it perhaps more than once."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        for one, _, fault in _walk(folder):
            yield from [(one, fault)] if fault else _expanded(one, rest or ("*",))
        return
    names, fault, listed = [part], "", glob.has_magic(part)
    if listed:
        entries, fault = _entries(folder)
        shown = (entry.name for entry in entries if part.startswith(".") or not entry.name.startswith("."))
        names = [name for name in shown if fnmatch(name, part)]
    if fault:
        yield folder, fault
    for path in (folder / name for name in names):
        if rest and is_folder(path):
            yield from _expanded(path, rest)
        elif not rest and (listed or os.path.lexists(path)):
            yield from _looked_at(path)


def _walk(root: Path) -> Iterator[tuple[Path, list[os.DirEntry[str]], str]]:
    """Yield `root` and each folder below it, with what it holds that is no folder, and why it cannot be read."""
    home, seen = _true(root), set[Path]()
    own, linked = [root], list[Path]()
    while own or linked:
        folder = own.pop() if own else linked.pop(0)
        here = _true(folder)
        if here in seen:
            continue
        seen.add(here)
        entries, fault = _entries(folder)
        files = []
        for entry in (entry for entry in entries if not entry.name.startswith(".")):
            path = folder / entry.name
            if entry.is_dir(follow_symlinks=False):
                own.append(path)
            elif not (entry.is_symlink() and is_folder(path)):
                files.append(entry)
            elif not any(place.is_relative_to(_true(path)) for place in (here, home)):
                linked.append(path)
        yield folder, files, fault


def _entries(folder: Path) -> tuple[list[os.DirEntry[str]], str]:
    """Return what `folder` holds, sorted, and why it cannot be read, else ""."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name), ""
    except OSError as error:
        return [], _unreadable(folder, error)


def _looked_at(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield what `below` does for `path`; nothing where it is no file."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            yield path, ""
    except OSError as error:
        yield path, _unreadable(path, error)


def _unreadable(path: Path, error: OSError) -> str:
    link = f", a link to {os.readlink(path)}," if os.path.islink(path) else ""  # noqa: PTH114, PTH115 - it may loop
    return f"{path}{link} cannot be read ({error.strerror or error})"


def _true(path: Path) -> Path:
    """Return `path` without links, as far as that can be known; `Path.resolve` raises where they lead in a circle."""
    return Path(os.path.realpath(path))
