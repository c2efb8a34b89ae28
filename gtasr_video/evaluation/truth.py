"""The truth: videos and pictures at full size, cropped to what a scale needs, and the damage done to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from gtasr_video.config import nearest
from gtasr_video.errors import EvaluationError, UsageError
from gtasr_video.evaluation.cache import Cache, file_hash, key
from gtasr_video.evaluation.streams import read_frames, write_frames, x264
from gtasr_video.media.folders import below, is_shown_by_us
from gtasr_video.ops.degrade import Blur, Noise, add_noise, blur
from gtasr_video.ops.resize import bicubic

VIDEOS = frozenset({".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".ts", ".mpg", ".mpeg", ".y4m"})
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff"})
SMALLEST = 64


class DamagedTruthError(EvaluationError):
    """A file of the truth cannot be decoded to its end, or to its `limit`."""


@dataclass(frozen=True, slots=True)
class Degradation:
    """Blur (sigma in HR pixels), bicubic shrinking, noise (sigma in 1/255 at LR size), x264 at `crf`."""

    crf: int
    blur: float = 0.0
    noise: float = 0.0


DEGRADATIONS: dict[str, Degradation] = {
    "clean": Degradation(crf=18),
    "web": Degradation(crf=28),
    "hard": Degradation(crf=28, blur=1.2, noise=6.0),
    "x264-23": Degradation(crf=23),
}


@dataclass(frozen=True, slots=True)
class Clip:
    """A truth ready to be measured against: a lossless file of `frames` pictures, `height` x `width`."""

    name: str
    path: Path
    digest: str
    frames: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Degraded:
    """The LR video a method is given, what it was made from, and what became of it."""

    clip: Clip
    name: str
    path: Path
    digest: str
    scale: int


def find(places: Iterable[Path]) -> list[tuple[str, Path]]:
    """Return (name, file) of every video and picture in `places`, files or folders searched to the bottom.

    Hidden files and folders are left out, and the sheets of earlier measurements; linked folders are gone into. Names
    are unique. Raises EvaluationError if a place is missing or cannot be looked into, or nothing is found.
    """
    found: list[tuple[str, Path]] = []
    for place in places:
        if place.is_dir():
            files = sorted(_within(place))
            if not files:
                raise EvaluationError(f"{place}: holds no video or picture; give a folder of full-size truth")
            found += [(p.relative_to(place).with_suffix("").as_posix(), p) for p in files]
        elif place.is_file():
            found.append((place.stem, place))
        else:
            raise EvaluationError(f"{place}: no such file or folder of truth")
    names = [name for name, _ in found]
    return [(name if names.count(name) == 1 else str(path), path) for name, path in found]


def _within(folder: Path) -> Iterator[Path]:
    for path, fault in below(folder, VIDEOS | PICTURES):
        if fault:
            raise EvaluationError(fault)
        if not is_shown_by_us(path):
            yield path


def check(path: Path, scale: int) -> None:
    """Raise EvaluationError if the first picture of `path` cannot be decoded, or is too small."""
    for frame in read_frames(path, 1):
        _crop(frame, 2 * scale, path)


def prepare(name: str, path: Path, scale: int, limit: int | None, cache: Cache) -> Clip:
    """Crop the truth so that its LR size is even (4:2:0 needs that), from the top left corner.

    Raises DamagedTruthError if it cannot be decoded, EvaluationError if it is too small.
    """
    digest = key("truth", file_hash(path), scale, limit)
    multiple = 2 * scale

    def make(target: Path) -> None:
        write_frames(target, (_crop(frame, multiple, path) for frame in _decoded(path, limit)))

    file = cache.file(f"truth-{digest}.mkv", make, keep=False)
    shapes = [frame.shape for frame in read_frames(file)]
    return Clip(name, file, digest, len(shapes), shapes[0][1], shapes[0][2])


def _decoded(path: Path, limit: int | None) -> Iterator[Tensor]:
    try:
        yield from read_frames(path, limit)
    except EvaluationError as error:
        raise DamagedTruthError(str(error)) from error


def degradation(name: str) -> Degradation:
    """Return the degradation called `name`; raises UsageError naming the nearest if there is none."""
    if name not in DEGRADATIONS:
        known = ", ".join(DEGRADATIONS)
        raise UsageError(f"no degradation '{name}'{nearest(name, DEGRADATIONS)}; known: {known}")
    return DEGRADATIONS[name]


def degrade(clip: Clip, name: str, scale: int, seed: int, cache: Cache) -> Degraded:
    """Return the LR video of `clip` under the degradation `name`; equal seeds give equal files."""
    settings = degradation(name)
    digest = key("degraded", clip.digest, asdict(settings), scale, seed)

    def make(target: Path) -> None:
        write_frames(target, _shrink(read_frames(clip.path), settings, scale, seed), x264(settings.crf))

    return Degraded(clip, name, cache.file(f"degraded-{digest}.mp4", make), digest, scale)


def to_unit(frame: Tensor) -> Tensor:
    """Return uint8 (3, H, W) as (1, 3, H, W) in [0, 1]."""
    return frame[None].float() / 255


def to_bytes(x: Tensor) -> Tensor:
    """Return (1, 3, H, W) in [0, 1], rounded, as uint8 (3, H, W); values outside are cut off."""
    return (x[0].float().clamp(0, 1) * 255).round().to(torch.uint8)


def _crop(frame: Tensor, multiple: int, path: Path) -> Tensor:
    height, width = (side - side % multiple for side in frame.shape[-2:])
    if min(height, width) < SMALLEST:
        size = f"{frame.shape[-1]}x{frame.shape[-2]}"
        raise EvaluationError(f"{path}: {size} is too small to measure on; {SMALLEST} pixels a side are needed")
    return frame[:, :height, :width]


def _shrink(frames: Iterator[Tensor], settings: Degradation, scale: int, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for frame in frames:
        x = to_unit(frame)
        if settings.blur:
            x = blur(x, Blur((settings.blur, settings.blur)))
        x = bicubic(x, (x.shape[-2] // scale, x.shape[-1] // scale))
        if settings.noise:
            x = add_noise(x, Noise(settings.noise / 255), generator)
        yield to_bytes(x)
