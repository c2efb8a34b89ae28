"""Training material at hand: decoded once into memory as far as it fits, read from its files where it does not."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from gtasr_video.errors import InputError, TrainingError
from gtasr_video.training.cache import DecodedCache
from gtasr_video.training.files import find_files, kind_of
from gtasr_video.training.items import InMemory, Item, PictureOnDisk, VideoOnDisk, detail_of
from gtasr_video.training.pictures import read_picture
from gtasr_video.training.shards import Entry, Shard

_log = logging.getLogger("gtasr_video")
_AT_ONCE = 32
_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that cannot be trained on, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Library:
    """Training material in the order of its paths, and what was left out."""

    stills: tuple[Item, ...]
    videos: tuple[Item, ...]
    skipped: tuple[Skipped, ...] = ()

    def summary(self) -> str:
        """Return one line for a log: how many of each, how much is in memory, how many files were skipped."""
        held = [i.data.numel() for i in (*self.stills, *self.videos) if isinstance(i, InMemory)]
        on_disk = len(self.stills) + len(self.videos) - len(held)
        text = f"{len(self.stills)} pictures and {len(self.videos)} videos, {sum(held) / 2**30:.2f} GiB in memory"
        text += f", {on_disk} read from disk as needed" if on_disk else ""
        return f"{text}, {len(self.skipped)} files skipped" if self.skipped else text


@dataclass(frozen=True, slots=True)
class _Reading:
    """How files are read: the smallest usable side, the largest short side of a picture, bytes of memory left."""

    minimum: int
    short_side: int
    memory: int
    device: torch.device
    cache: DecodedCache


@dataclass(frozen=True, slots=True)
class _Job:
    """Something to read: a picture or video file, or an entry of a shard."""

    path: Path
    shard: Shard | None = None
    entry: Entry | None = None

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return f"{self.path}:{self.entry.member}" if self.entry else str(self.path)

    @property
    def is_small(self) -> bool:
        """Whether many can be decoded at once without much memory."""
        return self.entry is not None or kind_of(self.path) == "picture"


def load_library(
    paths: Sequence[Path],
    *,
    minimum: int,
    short_side: int,
    memory: int,
    device: torch.device = _CPU,
    cache: Path | None = None,
) -> Library:
    """Read everything under `paths`; what is corrupt, or smaller than `minimum` pixels, is named once and skipped.

    short_side   larger pictures are shrunk to this many pixels along their short side
    memory       bytes of decoded material to hold on `device`; what is beyond is read from its file when drawn (a
                 pack is small, and always held)
    cache        folder in which decoded material is kept for other runs
    Raises TrainingError if nothing usable is left.
    """
    reading = _Reading(minimum, short_side, memory, device, DecodedCache(cache))
    found: list[Item] = []
    skipped: list[Skipped] = []
    jobs = [job for path in find_files(paths) for job in _jobs(path, skipped)]
    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as pool:
        for some in _portions(jobs):
            for item in pool.map(lambda job, r=reading: _read(job, r), some):
                if isinstance(item, Skipped):
                    skipped.append(item)
                    continue
                found.append(item)
                if isinstance(item, InMemory):
                    reading = replace(reading, memory=reading.memory - item.data.numel())
    for left_out in skipped:
        _log.warning("skipping %s: %s", left_out.name, left_out.reason)
    if not found:
        first = f"; the first: {skipped[0].name}: {skipped[0].reason}" if skipped else ""
        raise TrainingError(f"none of {len(skipped)} files can be trained on{first}")
    stills = tuple(i for i in found if i.frames == 1)
    return Library(stills, tuple(i for i in found if i.frames > 1), tuple(skipped))


def _jobs(path: Path, skipped: list[Skipped]) -> list[_Job]:
    if kind_of(path) != "pack":
        return [_Job(path)]
    try:
        shard = Shard(path)
    except InputError as error:
        skipped.append(Skipped(str(path), reason_of(error, str(path))))
        return []
    return [_Job(path, shard, entry) for entry in shard.entries]


def _portions(jobs: Sequence[_Job]) -> Iterator[Sequence[_Job]]:
    """Small things a few at a time, videos alone, so that little is decoded beyond what memory is to hold."""
    for is_small, group in itertools.groupby(jobs, lambda job: job.is_small):
        while some := list(itertools.islice(group, _AT_ONCE if is_small else 1)):
            yield some


def _read(job: _Job, reading: _Reading) -> Item | Skipped:
    try:
        if job.shard is not None and job.entry is not None:
            item: Item = _read_entry(job.name, job.shard, job.entry, reading)
        else:
            item = (_read_picture if job.is_small else _read_video)(job.path, reading)
    except InputError as error:
        return Skipped(job.name, reason_of(error, job.name))
    height, width = item.size
    if min(height, width) < reading.minimum:
        return Skipped(job.name, f"{width}x{height} is smaller than a crop of {reading.minimum}x{reading.minimum}")
    return item


def reason_of(error: InputError, name: str) -> str:
    """Return what is wrong with the file `name`, without its name."""
    return str(error).removeprefix(name).lstrip(": ")


def _read_picture(path: Path, reading: _Reading) -> Item:
    side = reading.short_side
    picture = reading.cache.fetch(path, f"picture {side}", lambda: read_picture(path, side))
    if picture.numel() > reading.memory:
        return PictureOnDisk(path, (int(picture.shape[1]), int(picture.shape[2])), reading.short_side)
    return _in_memory(str(path), picture[None], reading)


def _read_video(path: Path, reading: _Reading) -> Item:
    try:
        from gtasr_video.media.access import decord_agrees, index, read_clip
    except ImportError as error:
        raise TrainingError(f"{path}: reading videos needs PyAV; train from a pack instead") from error
    file = index(path)
    frame = 3 * file.width * file.height
    if not file.pts or len(file.pts) * frame <= reading.memory:
        # Without timestamps there is no random access: as many frames as fit, from the first on.
        limit = 0 if file.pts else max(1, reading.memory // max(frame, 1))
        return _in_memory(str(path), reading.cache.fetch(path, f"{limit}", lambda: read_clip(path, limit)), reading)
    return VideoOnDisk(replace(file, decord=decord_agrees(file)))


def _read_entry(name: str, shard: Shard, entry: Entry, reading: _Reading) -> Item:
    data = reading.cache.fetch(shard.path, entry.sha256, lambda: shard.read(entry))
    return _in_memory(name, data, reading)


def _in_memory(name: str, data: Tensor, reading: _Reading) -> InMemory:
    return InMemory(name, data.to(reading.device), detail_of(data[data.shape[0] // 2]))
