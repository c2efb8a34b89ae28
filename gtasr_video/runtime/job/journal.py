"""What is done of a job, beside its output, so that nothing finished is ever done again.

::

    out.mp4.job/
      lock              held by the process that works on it
      out.part.mp4      the output while it is joined; made anew of the segments if that does not end
      job.json          which source, which settings, which parts
      part-0/
        lock
        000000.packets  a finished segment
        000000.json     what it is, written last: a segment without it does not count
        000003.state    the network's memory after the last segment, as safetensors

Everything is written under another name, synced and renamed, so each file is whole or absent at any moment. What is
spoiled later is known by checksums: of the packets and the memory in the record of the segment, of each list in itself.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from gtasr_video.errors import InputError, OutputError, UsageError
from gtasr_video.media.damage import Damage
from gtasr_video.media.durable import Space, sync_folder
from gtasr_video.runtime.job.records import UNDAMAGED, Done, PartJournal, take_lock
from gtasr_video.runtime.job.seal import sealed, unsealed
from gtasr_video.runtime.job.source import Part

log = logging.getLogger("gtasr_video")

_FORMAT: Final = 2
_WORKERS_END_S: Final = 20.0
_LOOK_AGAIN_S: Final = 0.1


class Journal:
    """The journal of the job that makes `output`; made by `open_journal`, which holds its lock."""

    def __init__(self, folder: Path, lock: int, space: Space, parts: Sequence[Part]) -> None:
        self.folder, self._lock, self.space = folder, lock, space
        self.parts = parts
        self.journals = [PartJournal(folder / f"part-{number}", space) for number in range(len(parts))]

    @property
    def is_empty(self) -> bool:
        """Whether not one segment is finished."""
        return not any(journal.records for journal in self.journals)

    @property
    def frames(self) -> int:
        """How many frames are done."""
        return sum(journal.frames for journal in self.journals)

    @property
    def ticks(self) -> int:
        """How long what is done plays, in ticks of the output."""
        return sum(journal.ticks for journal in self.journals)

    @property
    def end(self) -> int:
        """Tick of the output at which the last frame that is done ends."""
        return max((last.end for journal in self.journals if (last := journal.last) is not None), default=0)

    @property
    def records(self) -> list[Path]:
        """The files of all finished segments, in the order of the output."""
        return [record for journal in self.journals for record in journal.records]

    def shown(self) -> Iterator[int]:
        """Yield the pts of every frame in the output, rising."""
        for record in self.records:
            yield from Done.read(record).segment.shown

    def spoiled(self) -> list[int]:
        """Return the pts in the source of all frames that lost their picture."""
        return [pts for record in self.records for pts in Done.read(record).spoiled]

    def damage(self) -> Damage:
        """Return what was wrong with the source, whoever read it."""
        return sum((Done.read(record).damage for record in self.records), UNDAMAGED)

    def remove(self) -> None:
        """Delete it all."""
        self.journals = []
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Let another process have it; what holds no finished segment is not kept."""
        if self._lock >= 0:
            if self.is_empty:
                self.remove()
            os.close(self._lock)
            self._lock = -1


def help_with(output: Path, space: Space) -> tuple[Journal, dict[str, Any]]:
    """Return the journal of a job that another process leads, without its lock, and the fingerprint of its source."""
    folder = folder_for(output)
    known = _known(folder)
    if known is None:
        raise OutputError(f"{folder}: there is no job to help with")
    return Journal(folder, -1, space, [Part(**part) for part in known["parts"]]), known["source"]


def folder_for(output: Path) -> Path:
    """Return where the journal of `output` lies."""
    return output.with_name(f"{output.name}.job")


def is_journal(folder: Path) -> bool:
    """Return whether `folder` is the journal of a job, rather than a folder of somebody's that is called like one."""
    return folder.suffix == ".job" and os.path.lexists(folder / "lock")


def open_journal(
    output: Path,
    source: dict[str, Any],
    settings: dict[str, Any],
    parts: Sequence[Part],
    space: Space,
    *,
    restart: bool,
) -> Journal:
    """Begin the job that makes `output`, or go on with the one that is there; the parts are then those it began with.

    source    the fingerprint of the source, settings: all else that the output depends on; both plain JSON values
    restart   throw away what is there
    Raises UsageError if the job there has other settings, InputError if it has another source, OutputError if another
    process works on it or it cannot be written.
    """
    folder = folder_for(output)
    try:
        folder.mkdir(exist_ok=True)
        lock = take_lock(folder, output)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from error
    try:
        _wait_for_workers(folder, output)
        known = None if restart else _known(folder)
        if known is None:
            if (folder / "job.json").exists() and not restart:
                log.warning("%s is damaged, or of another version; it is begun anew", folder)
            _clear(folder)
            known = {"format": _FORMAT, "source": source, "settings": settings, "parts": [asdict(p) for p in parts]}
            space.write_whole(folder / "job.json", sealed(known))
        else:
            _refuse_another(folder, known, source, settings)
        journal = Journal(folder, lock, space, [Part(**part) for part in known["parts"]])
    except BaseException:
        os.close(lock)
        raise
    for part in journal.journals:
        part.check()
    return journal


def _wait_for_workers(folder: Path, output: Path) -> None:
    """Wait until none of the parts is worked on: the workers of a run that was killed end by themselves, but later.

    Raises OutputError if one does not.
    """
    deadline = time.monotonic() + _WORKERS_END_S
    for part in sorted(folder.glob("part-*/")):
        while True:
            try:
                os.close(take_lock(part, output))
                break
            except OutputError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_LOOK_AGAIN_S)


def _known(folder: Path) -> dict[str, Any] | None:
    """Return what ``job.json`` says, or None if there is none of ours that is whole."""
    try:
        known = unsealed(folder / "job.json")
    except (OSError, ValueError):
        return None
    return known if known.get("format") == _FORMAT else None


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and path.name.startswith("part-"):
            shutil.rmtree(path)
        elif path.name == "job.json":
            path.unlink()
    sync_folder(folder)


def _refuse_another(folder: Path, known: dict[str, Any], source: dict[str, Any], settings: dict[str, Any]) -> None:
    """Raise if the job in `folder` is not the one that is wanted."""
    if known["source"] != source:
        raise InputError(f"{folder} was begun with another source, or the source has changed; --restart begins anew")
    before, now = known["settings"], json.loads(json.dumps(settings))
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if names:
        name = names[0]
        raise UsageError(
            f"{folder} was begun with {name} {before.get(name)}, not {now.get(name)}; "
            "go on as it was begun, or use --restart to begin anew"
        )


def tidy(output: Path) -> None:
    """Delete the journal of a job that was ended after its output had got its name, if there is one."""
    folder = folder_for(output)
    with contextlib.suppress(OSError, OutputError, ValueError):
        lock = take_lock(folder, output) if folder.is_dir() and output.exists() else None
        if lock is not None:
            if _is_left_over(folder, output):
                shutil.rmtree(folder)
            os.close(lock)


def _is_left_over(folder: Path, output: Path) -> bool:
    """Return whether all is done and `output` is younger than it; an older one waits to be replaced."""
    known = _known(folder)
    if known is None:
        return False
    lasts = [sorted((folder / f"part-{number}").glob("*.json"))[-1:] for number in range(len(known["parts"]))]
    if not all(lasts) or any(Done.read(last).next is not None for (last,) in lasts):
        return False
    return output.stat().st_mtime_ns >= max(last.stat().st_mtime_ns for (last,) in lasts)
