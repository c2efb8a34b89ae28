"""Writing a pack: a training set made small enough to carry, in shards that need no other file.

Pictures become WebP and excerpts of videos become H.264 in 4:4:4, both near transparent. What does not fit is made to:
first pictures are shrunk (training shrinks some of them anyway), then, evenly spread, some are left out.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gtasr_video.errors import InputError, OutputError, TrainingError, UsageError
from gtasr_video.training.files import find_files, kind_of
from gtasr_video.training.library import Skipped, reason_of
from gtasr_video.training.licences import MANIFEST, Origins
from gtasr_video.training.pictures import read_picture, shrink_to
from gtasr_video.training.shards import Entry, Shard, write_shards

if TYPE_CHECKING:
    from gtasr_video.media.access import VideoFile

_SHORT_SIDE = 1620
_CLIP_SHORT_SIDE = 1080
_SMALLEST = 512
_LEAST_SHRINK = 0.5
_WEBP_QUALITY = 85
_CRF, _SAVING_CRF = 17.0, 20.0
_CLIP_FRAMES = 40
_SAMPLES = 16
# What a tar file and the index add to each member.
_OVERHEAD = 2048

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Packed:
    """What went into a pack: its entries, its size in bytes, how many pictures and excerpts did not fit, and how much
    the pictures were shrunk."""

    entries: tuple[Entry, ...]
    bytes: int
    left_out: int
    shrink: float
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A picture, or `frames` frames of a video from `start` on."""

    path: Path
    start: int = 0
    frames: int = 1


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A piece as it goes into a shard."""

    piece: _Piece
    data: bytes
    width: int
    height: int


def pack(
    paths: Sequence[Path], out: Path, max_bytes: int, *, overwrite: bool = False, on_progress: Progress | None = None
) -> Packed:
    """Write the pictures and videos under `paths` as a pack of at most `max_bytes` into the new folder `out`.

    Half of the bytes go to pictures and half to videos, unless one of them needs less. Raises TrainingError if
    nothing can be packed or nothing fits, OutputError if `out` exists or cannot be written.
    """
    _check_room(out, overwrite=overwrite)
    files = find_files(paths)
    stills = [_Piece(p) for p in files if kind_of(p) == "picture"]
    skipped: list[Skipped] = []
    clips = [piece for p in files if kind_of(p) != "picture" for piece in _excerpts(p, skipped)]
    job = _Job(skipped, on_progress or (lambda done, total: None), len(stills) + len(clips))
    still_bytes, clip_bytes, shrink, crf = _share(job, stills, clips, max_bytes)
    kept = job.fill(stills, lambda piece: _encode_still(piece, shrink), still_bytes)
    spare = max(0, still_bytes - sum(len(e.data) + _OVERHEAD for e in kept))
    kept += job.fill(clips, lambda piece: _encode_clip(piece, crf), clip_bytes + spare)
    if not kept:
        reason = f"; the first: {skipped[0].name}: {skipped[0].reason}" if skipped else f" into {max_bytes} bytes"
        raise TrainingError(f"none of {len(files)} files can be packed{reason}")
    left_out = len(stills) + len(clips) - len(kept) - job.failed
    origins = Origins(paths)
    members = [(_entry(e, number, origins), e.data) for number, e in enumerate(kept)]
    size = _write(members, out)
    return Packed(tuple(entry for entry, _ in members), size, left_out, shrink, tuple(skipped))


def _write(members: Sequence[tuple[Entry, bytes]], out: Path) -> int:
    """Write a pack beside `out`, put it in its place when it is whole, and return its size."""
    out = out.absolute()
    partial = out.with_name(f"{out.name}.part-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror})") from error
    try:
        write_shards(members, partial)
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
        return sum(f.stat().st_size for f in out.iterdir())
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_room(out: Path, *, overwrite: bool) -> None:
    if not out.exists():
        return
    if not overwrite:
        raise OutputError(f"{out} exists; name a new folder, or replace it with -y")
    if not out.is_dir() or not all(f.name == MANIFEST or _is_shard(f) for f in out.iterdir()):
        raise OutputError(f"{out} is not a pack, and is not replaced")


def _is_shard(path: Path) -> bool:
    try:
        return kind_of(path) == "pack" and bool(Shard(path))
    except InputError:
        return False


def _excerpts(path: Path, skipped: list[Skipped]) -> Iterator[_Piece]:
    """Cut a video into excerpts; one whose container has no timestamps gives only its beginning."""
    try:
        if kind_of(path) == "pack":
            raise InputError(f"{path}: is a pack already")
        count = len(_index(path).pts) or _CLIP_FRAMES
    except InputError as error:
        skipped.append(Skipped(str(path), reason_of(error, str(path))))
        return
    for start in range(0, max(1, count - _CLIP_FRAMES // 4), _CLIP_FRAMES):
        yield _Piece(path, start, min(_CLIP_FRAMES, count - start))


@lru_cache(maxsize=64)
def _index(path: Path) -> VideoFile:
    from gtasr_video.media.access import index

    return index(path)


class _Job:
    """Encoding with what is needed around it: progress, and files that turn out to be damaged."""

    def __init__(self, skipped: list[Skipped], on_progress: Progress, total: int) -> None:
        self.skipped, self.total = skipped, total
        self.done = self.failed = 0
        self._on_progress = on_progress

    def try_all(self, pieces: Sequence[_Piece], encode: Callable[[_Piece], _Encoded]) -> Iterator[_Encoded]:
        """Yield what could be encoded, in order, two at a time."""
        with ThreadPoolExecutor(2) as pool:
            for n in range(0, len(pieces), 8):
                for piece, result in zip(pieces[n : n + 8], pool.map(_caught(encode), pieces[n : n + 8]), strict=True):
                    if isinstance(result, InputError):
                        self.failed += 1
                        name = str(piece.path)
                        self.skipped.append(Skipped(name, reason_of(result, name)))
                    else:
                        yield result

    def fill(self, pieces: Sequence[_Piece], encode: Callable[[_Piece], _Encoded], budget: int) -> list[_Encoded]:
        """Encode pieces, spread over the whole set, until the next would not fit; return them in the set's order."""
        kept: list[_Encoded] = []
        begun = self.done
        for encoded in self.try_all(_spread(pieces), encode):
            budget -= len(encoded.data) + _OVERHEAD
            if budget < 0:
                break
            kept.append(encoded)
            self.done += 1
            self._on_progress(self.done, self.total)
        self.done = begun + len(pieces)
        self._on_progress(self.done, self.total)
        return sorted(kept, key=lambda e: (e.piece.path, e.piece.start))


def _caught(encode: Callable[[_Piece], _Encoded]) -> Callable[[_Piece], _Encoded | InputError]:
    def encode_or_say_why(piece: _Piece) -> _Encoded | InputError:
        try:
            return encode(piece)
        except InputError as error:
            return error

    return encode_or_say_why


def _spread(pieces: Sequence[_Piece]) -> list[_Piece]:
    """Order pieces so that any number of the first ones is spread over all; the same order each time."""
    order = np.random.default_rng(0).permutation(len(pieces))
    shuffled = [pieces[int(n)] for n in order]
    turn = {p: k for some in _by_path(shuffled).values() for k, p in enumerate(some)}
    return sorted(shuffled, key=lambda p: turn[p])


def _by_path(pieces: Sequence[_Piece]) -> dict[Path, list[_Piece]]:
    groups: dict[Path, list[_Piece]] = {}
    for piece in pieces:
        groups.setdefault(piece.path, []).append(piece)
    return groups


def _share(
    job: _Job, stills: Sequence[_Piece], clips: Sequence[_Piece], max_bytes: int
) -> tuple[int, int, float, float]:
    """Return bytes for pictures, bytes for videos, how much to shrink pictures, and the rate factor of videos.

    Sizes are judged by a few samples of each.
    """
    quiet = _Job([], lambda done, total: None, 0)
    room = max_bytes - 4 * _OVERHEAD
    full = _estimate(quiet, stills, lambda p: _encode_still(p, 1.0))
    clip_full = _estimate(quiet, clips, lambda p: _encode_clip(p, _CRF))
    crf = _CRF
    if full + clip_full > room and clip_full > room / 2:
        crf, clip_full = _SAVING_CRF, _estimate(quiet, clips, lambda p: _encode_clip(p, _SAVING_CRF))
    if full + clip_full <= room:
        return room - int(clip_full), int(clip_full), 1.0, crf
    still_bytes = int(max(room / 2, room - clip_full)) if stills else 0
    half = _estimate(quiet, stills, lambda p: _encode_still(p, _LEAST_SHRINK))
    return still_bytes, room - still_bytes, _fitting(full, half, still_bytes), crf


def _estimate(job: _Job, pieces: Sequence[_Piece], encode: Callable[[_Piece], _Encoded]) -> float:
    if not pieces:
        return 0.0
    samples = _spread(pieces)[:_SAMPLES]
    sizes = [len(e.data) + _OVERHEAD for e in job.try_all(samples, encode)]
    return len(pieces) * sum(sizes) / max(len(sizes), 1) * 1.05


def _fitting(full: float, half: float, wanted: float) -> float:
    """Return the shrinking factor for `wanted` bytes, between 1 (`full` bytes) and 1/2 (`half` bytes)."""
    if wanted >= full or full <= half:
        return 1.0
    return max(_LEAST_SHRINK, 2 ** -(math.log(full / max(wanted, 1)) / math.log(full / half)))


def _encode_still(piece: _Piece, shrink: float) -> _Encoded:
    picture = read_picture(piece.path, _SHORT_SIDE)
    side = min(picture.shape[-2:])
    picture = shrink_to(picture, max(round(side * shrink), min(side, _SMALLEST)))
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError("packing pictures needs Pillow: pip install 'gtasr-video[train]'") from error
    file = io.BytesIO()
    Image.fromarray(_pixels(picture)).save(file, "WEBP", quality=_WEBP_QUALITY, method=4, use_sharp_yuv=True)
    return _Encoded(piece, file.getvalue(), int(picture.shape[2]), int(picture.shape[1]))


def _pixels(picture: Tensor) -> np.ndarray:
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy())


def _encode_clip(piece: _Piece, crf: float) -> _Encoded:
    from gtasr_video.media.access import open_frames, read_clip
    from gtasr_video.media.codec_loop import encode_mp4

    file = _index(piece.path)
    whole = not file.pts or len(file.pts) <= piece.frames
    clip = read_clip(piece.path, piece.frames) if whole else open_frames(file).read(piece.start, piece.frames)
    if min(clip.shape[-2:]) > _CLIP_SHORT_SIDE:
        clip = torch.stack([shrink_to(f, _CLIP_SHORT_SIDE) for f in clip])
    return _Encoded(piece, encode_mp4(clip, crf), int(clip.shape[3]), int(clip.shape[2]))


def _entry(encoded: _Encoded, number: int, origins: Origins) -> Entry:
    piece, origin = encoded.piece, origins.of(encoded.piece.path)
    kind, suffix = ("still", "webp") if kind_of(piece.path) == "picture" else ("clip", "mp4")
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", piece.path.stem)[:60]
    at = f" from frame {piece.start}" if piece.start else ""
    return Entry(
        member=f"{number:05d}-{name}.{suffix}",
        kind=kind,
        width=encoded.width,
        height=encoded.height,
        frames=piece.frames,
        source=f"{origin.source or piece.path.name}{at}",
        licence=origin.licence,
        sha256=hashlib.sha256(encoded.data).hexdigest(),
    )
