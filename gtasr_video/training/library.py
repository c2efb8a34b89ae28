"""Training material at hand: decoded once into memory as far as it fits, read from its files where it does not."""

from __future__ import annotations

import itertools
import logging
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from gtasr_video.errors import InputError, TrainingError
from gtasr_video.training.cache import DecodedCache
from gtasr_video.training.files import find_files, kind_of
from gtasr_video.training.pictures import read_picture
from gtasr_video.training.shards import Shard

if TYPE_CHECKING:
    from gtasr_video.media.access import DecordReader, FrameReader, VideoFile

_log = logging.getLogger("gtasr_video")
_CELL = 32
_OPEN_FILES = 8
_CPU = torch.device("cpu")
_AT_ONCE = 32


class Item(Protocol):
    """One picture (a single frame) or video of the material."""

    @property
    def name(self) -> str:
        """What to call it in a message."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""

    @property
    def frames(self) -> int:
        """How many frames it has."""

    def read(self, start: int, count: int) -> Tensor:
        """Return frames as uint8 RGB (count, 3, H, W). Raises InputError."""


@dataclass(frozen=True, slots=True)
class InMemory:
    """An item decoded whole: `data` (T, 3, H, W) uint8. `detail` says how much there is to see in each cell of its
    middle frame, so that a crop need not fall on bare sky."""

    name: str
    data: Tensor
    detail: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.data.shape[2]), int(self.data.shape[3])

    @property
    def frames(self) -> int:
        """How many frames it has."""
        return int(self.data.shape[0])

    def read(self, start: int, count: int) -> Tensor:
        """Return a view of the frames."""
        return self.data[start : start + count]


@dataclass(frozen=True, slots=True)
class PictureOnDisk:
    """A picture decoded anew each time it is drawn."""

    path: Path
    size: tuple[int, int]
    short_side: int
    frames: int = 1

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.path)

    def read(self, start: int, count: int) -> Tensor:
        """Return the picture as (1, 3, H, W). Raises InputError."""
        return read_picture(self.path, self.short_side)[None]


@dataclass(frozen=True, slots=True)
class VideoOnDisk:
    """A video too long for memory, read by random access."""

    file: VideoFile

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.file.path)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.file.height, self.file.width

    @property
    def frames(self) -> int:
        """How many frames it has."""
        return len(self.file.pts)

    def read(self, start: int, count: int) -> Tensor:
        """Return frames as (count, 3, H, W). Raises InputError."""
        return _readers.get(self.file).read(start, count)


class _Readers:
    """The few files that are open, of this process: a decoder must not be used on both sides of a fork."""

    def __init__(self) -> None:
        self._process = 0
        self._open: OrderedDict[Path, FrameReader | DecordReader] = OrderedDict()

    def get(self, file: VideoFile) -> FrameReader | DecordReader:
        from gtasr_video.media.access import open_frames

        if self._process != os.getpid():
            self._process, self._open = os.getpid(), OrderedDict()
        if file.path not in self._open:
            self._open[file.path] = open_frames(file)
        self._open.move_to_end(file.path)
        if len(self._open) > _OPEN_FILES:
            self._open.popitem(last=False)
        return self._open[file.path]


_readers = _Readers()


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


def load_library(
    paths: Sequence[Path],
    *,
    minimum: int,
    short_side: int,
    memory: int,
    device: torch.device = _CPU,
    cache: Path | None = None,
    threads: int = 2,
) -> Library:
    """Read everything under `paths`; what is corrupt, or smaller than `minimum` pixels, is named once and skipped.

    short_side   larger pictures are shrunk to this many pixels along their short side
    memory       bytes of decoded material to hold on `device`; what is beyond is read from its file when drawn
    cache        folder in which decoded material is kept for other runs
    Raises TrainingError if nothing usable is left.
    """
    reading = _Reading(minimum, short_side, memory, device, DecodedCache(cache))
    found: list[Item] = []
    skipped: list[Skipped] = []
    files = find_files(paths)
    with ThreadPoolExecutor(threads) as pool:
        for some in _portions(files):
            for item in itertools.chain.from_iterable(pool.map(lambda p, r=reading: _read(p, r), some)):
                if isinstance(item, Skipped):
                    _log.warning("skipping %s: %s", item.name, item.reason)
                    skipped.append(item)
                    continue
                found.append(item)
                if isinstance(item, InMemory):
                    reading = replace(reading, memory=reading.memory - item.data.numel())
    if not found:
        first = f"; the first: {skipped[0].name}: {skipped[0].reason}" if skipped else ""
        raise TrainingError(f"none of {len(files)} files can be trained on{first}")
    stills = tuple(i for i in found if i.frames == 1)
    return Library(stills, tuple(i for i in found if i.frames > 1), tuple(skipped))


def _portions(files: Sequence[Path]) -> Iterator[Sequence[Path]]:
    """Pictures a few at a time, anything larger alone, so that little is decoded beyond what memory is to hold."""
    for is_picture, group in itertools.groupby(files, lambda p: kind_of(p) == "picture"):
        while some := list(itertools.islice(group, _AT_ONCE if is_picture else 1)):
            yield some


def _read(path: Path, reading: _Reading) -> list[Item | Skipped]:
    kind = kind_of(path)
    try:
        if kind == "pack":
            return list(_read_shard(path, reading))
        item = _read_picture(path, reading) if kind == "picture" else _read_video(path, reading)
    except InputError as error:
        return [Skipped(str(path), str(error).removeprefix(f"{path}").lstrip(": "))]
    return [_checked(item, reading)]


def _checked(item: Item, reading: _Reading) -> Item | Skipped:
    height, width = item.size
    if min(height, width) < reading.minimum:
        return Skipped(item.name, f"{width}x{height} is smaller than a crop of {reading.minimum}x{reading.minimum}")
    return item


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


def _read_shard(path: Path, reading: _Reading) -> Iterator[Item | Skipped]:
    shard = Shard(path)
    for entry in shard.entries:
        name = f"{path}:{entry.member}"
        try:
            data = reading.cache.fetch(path, entry.sha256, partial(shard.read, entry))
            yield _checked(_in_memory(name, data, reading), reading)
        except InputError as error:
            yield Skipped(name, str(error).removeprefix(f"{name}: "))


def _in_memory(name: str, data: Tensor, reading: _Reading) -> InMemory:
    return InMemory(name, data.to(reading.device), _detail(data[data.shape[0] // 2]))


def _detail(picture: Tensor) -> np.ndarray:
    """Mean step between neighbouring pixels in each cell of 32 x 32 of (3, H, W) uint8."""
    green = picture[1].to(torch.int16)
    steps = (green[1:, 1:] - green[:-1, 1:]).abs() + (green[1:, 1:] - green[1:, :-1]).abs()
    height, width = (max(1, side // _CELL) for side in steps.shape)
    cells = torch.nn.functional.adaptive_avg_pool2d(steps[None].float(), (height, width))[0]
    return cells.numpy()


def detail_within(item: Item, window: tuple[int, int, int, int]) -> float:
    """Return how much there is to see in (top, left, height, width) of an item; 0 where that is not known."""
    if not isinstance(item, InMemory):
        return 0.0
    top, left, height, width = (side // _CELL for side in window)
    return float(item.detail[top : top + max(1, height), left : left + max(1, width)].mean())
