"""Finding and decoding training material: any mix of folders, pictures and videos, each decoded once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gtasr_video.errors import GTASRVideoError, InputError, TrainingError
from gtasr_video.ops.resize import bicubic
from gtasr_video.training.pictures import PICTURE_SUFFIXES, read_picture

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".m2ts", ".flv", ".y4m", ".wmv"}
)
_log = logging.getLogger("gtasr_video")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that cannot be trained on, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Library:
    """Decoded training material in RAM: stills (3, H, W) and clips (T, 3, H, W), uint8 RGB, in path order."""

    stills: tuple[Tensor, ...]
    clips: tuple[Tensor, ...]
    skipped: tuple[Skipped, ...]

    def summary(self) -> str:
        """Return one line for a log: how many of each, how large in memory, how many skipped."""
        size = sum(t.numel() for t in (*self.stills, *self.clips)) / 2**30
        text = f"{len(self.stills)} pictures and {len(self.clips)} videos, {size:.2f} GiB decoded"
        return f"{text}, {len(self.skipped)} files skipped" if self.skipped else text


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Return every picture and video under `paths` (folders are searched whole), sorted, each once.

    Raises TrainingError for a path that does not exist and where nothing usable is found.
    """
    found: set[Path] = set()
    for path in paths:
        if path.is_dir():
            found |= {p for p in path.rglob("*") if p.is_file() and _kind(p) and not p.name.startswith(".")}
        elif path.is_file():
            found.add(path)
        else:
            raise TrainingError(f"no training data at {path}: no such file or folder")
    if not found:
        raise TrainingError(f"no pictures or videos under {', '.join(map(str, paths)) or 'no path at all'}")
    return sorted(found)


def load_library(paths: Sequence[Path], *, minimum: int, short_side: int, threads: int = 2) -> Library:
    """Decode everything under `paths`; what is corrupt or smaller than `minimum` pixels is named and skipped.

    short_side   larger pictures are shrunk to this many pixels along their short side
    Raises TrainingError if nothing usable is left.
    """
    files = find_files(paths)
    with ThreadPoolExecutor(threads) as pool:
        decoded = list(pool.map(lambda p: _decode(p, minimum, short_side), files))
    skipped = tuple(d for d in decoded if isinstance(d, Skipped))
    for item in skipped:
        _log.warning("skipping %s: %s", item.path, item.reason)
    usable = [d for d in decoded if isinstance(d, Tensor)]
    if not usable:
        raise TrainingError(f"none of {len(files)} files can be trained on; the first: {_first(skipped)}")
    return Library(
        stills=tuple(t for t in usable if t.ndim == 3),
        clips=tuple(t for t in usable if t.ndim == 4),
        skipped=skipped,
    )


def _first(skipped: Iterable[Skipped]) -> str:
    return next((f"{s.path}: {s.reason}" for s in skipped), "")


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    return "picture" if suffix in PICTURE_SUFFIXES else "video" if suffix in VIDEO_SUFFIXES else ""


def _decode(path: Path, minimum: int, short_side: int) -> Tensor | Skipped:
    try:
        tensor = _read_video(path) if _kind(path) == "video" else shrink_to(read_picture(path), short_side)
    except InputError as error:
        return Skipped(path, str(error).removeprefix(f"{path}: "))
    except GTASRVideoError:
        raise
    height, width = tensor.shape[-2:]
    if min(height, width) < minimum:
        return Skipped(path, f"{width}x{height} is smaller than a crop of {minimum}x{minimum}")
    return tensor


def _read_video(path: Path) -> Tensor:
    try:
        from gtasr_video.media.access import read_clip
    except ImportError as error:
        raise TrainingError(f"{path}: reading videos needs PyAV; train from a pack instead") from error
    return read_clip(path)


def shrink_to(picture: Tensor, short_side: int) -> Tensor:
    """Return `picture` (3, H, W) uint8 with its short side at most `short_side`, antialiased."""
    height, width = picture.shape[-2:]
    factor = short_side / min(height, width)
    if factor >= 1:
        return picture
    size = (round(height * factor), round(width * factor))
    smaller = bicubic(picture[None].float(), size)[0]
    return smaller.round_().clamp_(0, 255).to(torch.uint8)
