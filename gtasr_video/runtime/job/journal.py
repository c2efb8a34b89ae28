"""What is done of a job, beside its output, so that nothing finished is ever done again.

::

    out.mp4.job/
      lock              held by the process that works on it
      job.json          which source, which settings, which parts
      part-0/
        lock
        000000.packets  a finished segment
        000000.json     what it is, written last: a segment without it does not count
        000003.state    the network's memory after the last segment, as safetensors

Everything is written under another name, synced and renamed, so each file is whole or absent at any moment.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, overload

from gtasr_video.errors import InputError, OutputError, UsageError
from gtasr_video.media.durable import Space, sync_folder
from gtasr_video.media.resume import Place
from gtasr_video.media.segments import PacketEntry, Segment
from gtasr_video.models.facts import State
from gtasr_video.runtime.job.memory import load_state, save_state
from gtasr_video.runtime.job.source import Part

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Done:
    """A finished segment and what was learned on the way.

    before   frames of its part that come before it
    end      ticks of the source at which its last frame ends
    next     the frame after it, None after the last of the part
    spoiled  pts of frames that lost their picture
    corrupt  damaged packets met up to here
    """

    segment: Segment
    before: int
    end: int
    next: Place | None
    spoiled: tuple[int, ...] = ()
    corrupt: int = 0

    @property
    def total(self) -> int:
        """How many frames of its part are done with it."""
        return self.before + len(self.segment.packets)

    def to_json(self) -> str:
        """Return everything but the path."""
        segment = self.segment
        kept = {
            "sha256": segment.sha256,
            "header": segment.header,
            "before": self.before,
            "end": self.end,
            "next": None if self.next is None else asdict(self.next),
            "spoiled": self.spoiled,
            "corrupt": self.corrupt,
            "packets": segment.packets,
        }
        return json.dumps(kept)

    @staticmethod
    def read(path: Path) -> Done:
        """Return what the file `path` (``NNNNNN.json``) says. Raises ValueError if it is none of ours."""
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            packets = tuple(_entry(*entry) for entry in kept["packets"])
            segment = Segment(path.with_suffix(".packets"), packets, str(kept["sha256"]), str(kept["header"]))
            following = None if kept["next"] is None else Place(**kept["next"])
            end, spoiled, corrupt = int(kept["end"]), tuple(kept["spoiled"]), int(kept["corrupt"])
            return Done(segment, int(kept["before"]), end, following, spoiled, corrupt)
        except (OSError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"{path} is not a record of a segment") from error


def _entry(pts: Any, dts: Any, duration: Any, size: Any, key: Any) -> PacketEntry:
    return PacketEntry(int(pts), int(dts), int(duration), int(size), bool(key))


class DoneSegments(Sequence[Segment]):
    """Finished segments of all parts in order, each read when it is asked for: a day of video has very many."""

    def __init__(self, records: Sequence[Path]) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Segment: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Segment]: ...
    def __getitem__(self, index: int | slice) -> Segment | Sequence[Segment]:
        """Return one segment, or a range of them."""
        if isinstance(index, slice):
            return DoneSegments(self._records[index])
        return Done.read(self._records[index]).segment


class PartJournal:
    """The finished segments of one part, in a folder of its own. `space` says what to do when the disk is full."""

    def __init__(self, folder: Path, space: Space) -> None:
        self.folder, self._space = folder, space
        folder.mkdir(exist_ok=True)
        self.reload()

    def reload(self) -> None:
        """Look again at what is there, where another process may have added to it."""
        self._records = sorted(self.folder.glob("*.json"))

    def claim(self) -> int | None:
        """Return the lock of this part, held until it is closed or the process ends; None if another holds it."""
        try:
            return _lock(self.folder, self.folder)
        except OutputError:
            return None

    def check(self) -> None:
        """Forget segments that are not whole, those after them, and what a dead process left half done."""
        kept: list[Path] = []
        for number, record in enumerate(self._records):
            if record.stem != f"{number:06}" or not self._is_whole(record):
                break
            kept.append(record)
        while kept and not self._can_go_on(kept[-1]):
            kept.pop()
        wanted = {*kept, *(record.with_suffix(".packets") for record in kept), *self._states(kept[-1:])}
        for path in self.folder.iterdir():
            if path not in wanted and path.name != "lock":
                path.unlink()
        self._records = kept

    @staticmethod
    def _is_whole(record: Path) -> bool:
        try:
            return Done.read(record).segment.is_whole()
        except ValueError:
            return False

    def _can_go_on(self, record: Path) -> bool:
        done = Done.read(record)
        return done.next is None or done.next.cut or load_state(record.with_suffix(".state")) is not None

    @staticmethod
    def _states(records: Sequence[Path]) -> list[Path]:
        return [record.with_suffix(".state") for record in records]

    @property
    def records(self) -> Sequence[Path]:
        """The files of the finished segments, in order."""
        return self._records

    @property
    def last(self) -> Done | None:
        """The last finished segment."""
        return Done.read(self._records[-1]) if self._records else None

    @property
    def frames(self) -> int:
        """How many frames are done."""
        last = self.last
        return 0 if last is None else last.total

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do."""
        last = self.last
        return last is not None and last.next is None

    @property
    def state(self) -> State | None:
        """The network's memory after the last segment; None where it begins anew."""
        return load_state(self._records[-1].with_suffix(".state")) if self._records else None

    def add(self, done: Done, state: State | None) -> None:
        """Make a segment count, whose packets are on the disk; `state` is the memory with which the next begins."""
        record = done.segment.path.with_suffix(".json")
        if state is not None:
            self._space.attempt(lambda: save_state(record.with_suffix(".state"), state))
        self._space.write_whole(record, done.to_json().encode())
        for old in self._states(self._records[-1:]):
            old.unlink(missing_ok=True)
        self._records.append(record)


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
        lock = _lock(folder, output)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from error
    try:
        known = None if restart else _known(folder)
        if known is None:
            _clear(folder)
            known = {"format": _FORMAT, "source": source, "settings": settings, "parts": [asdict(p) for p in parts]}
            space.write_whole(folder / "job.json", json.dumps(known, indent=1).encode())
        else:
            _refuse_another(folder, known, source, settings)
        journal = Journal(folder, lock, space, [Part(**part) for part in known["parts"]])
    except BaseException:
        os.close(lock)
        raise
    for part in journal.journals:
        part.check()
    return journal


def _lock(folder: Path, output: Path) -> int:
    """Take the lock of a folder, which ends with the process whatever becomes of it."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise OutputError(f"{output} is being made by another process") from error
    except OSError:
        pass  # some network file systems cannot lock
    return lock


def _known(folder: Path) -> dict[str, Any] | None:
    """Return what ``job.json`` says, or None if there is none of ours that is whole."""
    try:
        known = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        whole = known["format"] == _FORMAT and {"source", "settings", "parts"} <= set(known)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if whole else None


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
        lock = _lock(folder, output) if folder.is_dir() and output.exists() else None
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
