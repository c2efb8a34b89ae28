"""One picture or video of the training material: in memory, or read from its file each time it is drawn."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from gtasr_video.training.pictures import read_picture

if TYPE_CHECKING:
    from gtasr_video.media.access import DecordReader, FrameReader, VideoFile

_CELL = 32
_OPEN_FILES = 8


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


class _Readers(threading.local):
    """The few files that are open, of this thread and process: a decoder serves one thread, on one side of a fork."""

    def __init__(self) -> None:
        # Those of other processes are kept: freeing them here would end, or wait for, what is not this process's.
        self._of_process: dict[int, OrderedDict[Path, FrameReader | DecordReader]] = {}

    def get(self, file: VideoFile) -> FrameReader | DecordReader:
        from gtasr_video.media.access import open_frames

        readers = self._of_process.setdefault(os.getpid(), OrderedDict())
        if file.path not in readers:
            readers[file.path] = open_frames(file)
        readers.move_to_end(file.path)
        if len(readers) > _OPEN_FILES:
            readers.popitem(last=False)
        return readers[file.path]


_readers = _Readers()


def detail_of(picture: Tensor) -> np.ndarray:
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
