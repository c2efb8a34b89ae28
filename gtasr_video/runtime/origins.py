"""What the results of a hot folder were made of, kept beside them: so another film of a name is known as such.

In ``OUTPUT/.gtasr-video-watch.json``, for each result::

    "film"    of which it was made: path, bytes, time of the last change
    "result"  as it was left: bytes, time
    "begun"   of which it is being made
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gtasr_video.errors import OutputError
from gtasr_video.media.durable import Space
from gtasr_video.runtime.job.journal import folder_for

NAME: Final = ".gtasr-video-watch.json"
# Some file systems keep times no finer, and round down what they were told.
_GRAIN_S: Final = 2


class Origins:
    """The origins of what lies in the output folder `folder`; read anew each time, as others may add to them."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._file = folder, folder / NAME

    def holds(self, source: Path, output: Path) -> bool:
        """Return whether the existing `output` is what `source` became; False where it became of a film before it.

        A file of which nothing is known is taken for the result unless `source` came later. Raises OutputError where
        `output` must not be replaced but is not the result.
        """
        entry = self._read().get(self._key(output), {})
        if entry.get("result") != _mark(output):
            # Not the time of its last change, which copies keep: the system's own, of when it came to be here.
            if source.stat().st_ctime_ns > output.stat().st_mtime_ns:
                raise OutputError(
                    f"{output} was there before {source} came, and is not what --watch left there; "
                    "move it away, or use -y to replace it"
                )
            return True
        film, made_of = _film(source), entry["film"]
        if film[1:] != made_of[1:] and film[0] != made_of[0]:
            raise OutputError(
                f"{output} was made of {made_of[0]}, not of {source}; move it away, or use -y to replace it"
            )
        return bool(film[1:] == made_of[1:])

    def begin(self, source: Path, output: Path) -> bool:
        """Keep that `output` is about to be made of `source`.

        Return whether it has an unfinished job, begun by --watch with an earlier film, that is worth nothing any more.
        """
        with self._alone():
            known, key, film = self._read(), self._key(output), _film(source)
            before = known.get(key, {}).get("begun")
            stale = before is not None and before[0] == film[0] and before != film
            if folder_for(output).exists() and not stale:
                return False
            self._write({**known, key: {**known.get(key, {}), "begun": film}})
            return stale

    def finish(self, output: Path) -> None:
        """Keep that `output` is made, and what it looks like."""
        with self._alone():
            known, key = self._read(), self._key(output)
            film = known.get(key, {}).get("begun")
            if film is not None:
                self._write({**known, key: {"film": film, "result": _mark(output)}})

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other watches of the folder from writing between our reading and our writing, where it can be locked."""
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _key(self, output: Path) -> str:
        return output.relative_to(self._folder).as_posix()

    def _read(self) -> dict[str, Any]:
        """Return what is known; nothing where that cannot be read, which makes all that is there somebody else's."""
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(self._file.read_text(encoding="utf-8"))
            return known if isinstance(known, dict) else {}
        return {}

    def _write(self, known: dict[str, Any]) -> None:
        """Keep what is known of all that is still there, or has been begun."""
        kept = {key: entry for key, entry in known.items() if "begun" in entry or (self._folder / key).exists()}
        Space(self._folder).write_whole(self._file, json.dumps(kept, indent=1).encode())


def _mark(path: Path) -> list[int]:
    """Return what tells a file from another of its name."""
    facts = path.stat()
    return [facts.st_size, int(facts.st_mtime) // _GRAIN_S]


def _film(path: Path) -> list[Any]:
    return [str(path.resolve()), *_mark(path)]
