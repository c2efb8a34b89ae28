"""Files made once and found again by what they were made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from gtasr_video.errors import EvaluationError

# Part of every key: raise it when a degradation, a peer or a score changes its meaning.
VERSION = 1


def default_folder() -> Path:
    """Return the user's cache folder for measurements (XDG_CACHE_HOME, else ``~/.cache``)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gtasr-video" / "evaluate"


def key(*parts: Any) -> str:
    """Return a name that stands for `parts`: 24 hexadecimal digits of the SHA-256 of their JSON."""
    text = json.dumps([VERSION, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; raises EvaluationError if it cannot be read."""
    try:
        return _hash(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be read ({error.strerror})") from error


@cache
def _hash(path: Path, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Cache:
    """A folder of files named by `key`. Without a folder, a temporary one that ends with this object."""

    def __init__(self, folder: Path | None = None) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="gtasr-evaluate-")
        self._kept = folder

    def close(self) -> None:
        """Delete what was not to be kept."""
        self._temporary.cleanup()

    def forget(self, files: Iterable[Path]) -> None:
        """Delete those of `files` that are not kept, to have their room back before the end."""
        for file in files:
            if file.is_relative_to(self._temporary.name):
                file.unlink(missing_ok=True)

    def drop(self, *names: str) -> None:
        """Delete what is kept under `names`, so that it is made anew when it is next asked for."""
        if self._kept is not None:
            for name in names:
                with contextlib.suppress(OSError):
                    (self._kept / name).unlink(missing_ok=True)

    def file(self, name: str, make: Callable[[Path], object], *, keep: bool = True) -> Path:
        """Return the file `name`, made by `make(path)` unless it is there; `keep` False: for this run only.

        `make` must leave a whole file or raise. Raises EvaluationError if the folder cannot be written.
        """
        path = self._path(name, keep=keep)
        if path.is_file():
            return path
        # Two measurements may share the folder: each makes the file under a name of its own.
        making = path.with_name(f"{path.stem}.{os.getpid()}{path.suffix}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            make(making)
            making.replace(path)
        except OSError as error:
            raise EvaluationError(f"{path}: cannot be written ({error.strerror or error}); choose --cache") from error
        finally:
            with contextlib.suppress(OSError):
                making.unlink(missing_ok=True)
        return path

    def json(self, name: str, make: Callable[[], Any], *, keep: bool = True) -> Any:
        """Return what `make()` gives, or gave when it was last asked for under `name`."""

        def write(path: Path) -> None:
            path.write_text(json.dumps(make()), encoding="utf-8")

        try:
            return _read_json(self.file(name, write, keep=keep))
        except ValueError:  # cut short, as a machine that lost its power leaves it
            self.drop(name)
            return _read_json(self.file(name, write, keep=keep))

    def _path(self, name: str, *, keep: bool) -> Path:
        return (self._kept if keep and self._kept is not None else Path(self._temporary.name)) / name


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
