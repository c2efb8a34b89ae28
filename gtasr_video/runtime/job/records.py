"""The finished segments of a job: what each is, as a file of its own, and those of one part together."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, overload

from gtasr_video.errors import OutputError
from gtasr_video.media.damage import Damage
from gtasr_video.media.durable import Space
from gtasr_video.media.resume import Place
from gtasr_video.media.segments import PacketEntry, Segment
from gtasr_video.models.facts import State
from gtasr_video.runtime.job.memory import load_state, save_state
from gtasr_video.runtime.job.seal import file_checksum, sealed, unsealed

log = logging.getLogger("gtasr_video")

UNDAMAGED: Final = Damage()


@dataclass(frozen=True, slots=True)
class Done:
    """A finished segment and what was learned on the way.

    before   frames of its part that come before it
    end      ticks of the output at which its last frame ends
    next     the frame after it, None after the last of the part
    spoiled  pts of frames that lost their picture
    damage   what was wrong with the source where its frames were read
    state    SHA-256 of the file of the network's memory after it, None where the next segment begins anew
    """

    segment: Segment
    before: int
    end: int
    next: Place | None
    spoiled: tuple[int, ...] = ()
    damage: Damage = UNDAMAGED
    state: str | None = None

    @property
    def total(self) -> int:
        """How many frames of its part are done with it."""
        return self.before + len(self.segment.packets)

    def to_bytes(self) -> bytes:
        """Return what the file of this segment is to say."""
        segment = self.segment
        kept = {
            "name": _name(segment.path),
            "sha256": segment.sha256,
            "header": segment.header,
            "before": self.before,
            "end": self.end,
            "next": None if self.next is None else asdict(self.next),
            "spoiled": self.spoiled,
            "damage": asdict(self.damage),
            "state": self.state,
            "packets": segment.packets,
        }
        return sealed(kept)

    @staticmethod
    def read(path: Path) -> Done:
        """Return what the file `path` (``NNNNNN.json``) says. Raises ValueError if that is not what was written."""
        try:
            kept = unsealed(path)
            if kept["name"] != _name(path):
                raise ValueError(f"{path} is the record of another segment")
            packets = tuple(_entry(*entry) for entry in kept["packets"])
            segment = Segment(path.with_suffix(".packets"), packets, str(kept["sha256"]), str(kept["header"]))
            following = None if kept["next"] is None else Place(**kept["next"])
            end, spoiled, damage = int(kept["end"]), tuple(kept["spoiled"]), Damage(**kept["damage"])
            return Done(segment, int(kept["before"]), end, following, spoiled, damage, kept["state"])
        except (OSError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"{path} is not a record of a segment") from error


def _name(path: Path) -> str:
    """Return which segment of which part lies in the file `path`: files that were swapped are told by it."""
    return f"{path.parent.name}/{path.stem}"


def _entry(pts: Any, dts: Any, duration: Any, size: Any, key: Any, beside: Any = 0) -> PacketEntry:
    return PacketEntry(int(pts), int(dts), int(duration), int(size), bool(key), int(beside))


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
            return take_lock(self.folder, self.folder)
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
            if path not in wanted and path.name != "lock" and not path.is_dir():
                path.unlink()
        if spoiled := len(self._records) - len(kept):
            log.warning("%s: damaged; of %d segments %d are made again", self.folder, len(self._records), spoiled)
        self._records = kept

    @staticmethod
    def _is_whole(record: Path) -> bool:
        try:
            return Done.read(record).segment.is_whole()
        except ValueError:
            return False

    def _can_go_on(self, record: Path) -> bool:
        done = Done.read(record)
        begins_anew = done.next is None or done.next.cut
        return begins_anew or (done.state is not None and file_checksum(record.with_suffix(".state")) == done.state)

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
    def ticks(self) -> int:
        """How long what is done plays, in ticks of the output."""
        last = self.last
        return 0 if last is None else last.end - Done.read(self._records[0]).segment.shown[0]

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
            beside = record.with_suffix(".state")
            self._space.attempt(lambda: save_state(beside, state))
            done = replace(done, state=file_checksum(beside))
        self._space.write_whole(record, done.to_bytes())
        for old in self._states(self._records[-1:]):
            old.unlink(missing_ok=True)
        self._records.append(record)


def take_lock(folder: Path, output: Path) -> int:
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
