"""Going on in the middle of a source, at exactly the frame where reading stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from gtasr_video.errors import InputError
from gtasr_video.frames import Frame
from gtasr_video.media.reader import Reader

# How long before the frame to begin, so that what looks at neighbouring frames (deinterlacing) has them.
_RUN_UP: Final = Fraction(1)


@dataclass(frozen=True, slots=True)
class Place:
    """A frame of a source, so that it can be found again.

    frames  how many come before it; pts, cut: its own
    plain   whether all times up to there were the file's own (`Reader.is_plain`), so that it may be sought
    digest  of its picture
    """

    frames: int
    pts: int
    cut: bool
    plain: bool
    digest: str


def place_of(frame: Frame, frames: int, *, plain: bool) -> Place:
    """Return the place of `frame`, before which `frames` came."""
    return Place(frames, frame.pts, frame.cut, plain, digest_of(frame))


def digest_of(frame: Frame) -> str:
    """Return the SHA-256 of the planes of a frame."""
    digest = hashlib.sha256()
    for plane in frame.planes:
        digest.update(plane.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def frames_from(reader: Reader, place: Place) -> Iterator[Frame]:
    """Yield the frames of `reader` from `place` on, just as if it had been read up to there.

    Sought where that gives the same frame, bit for bit; else the file is decoded from its beginning.
    Raises InputError if the frame is not there: the file is not the one that was being read.
    """
    if place.plain:
        reader.restart(place.pts * reader.spec.time_base - _RUN_UP)
        found = _advance(reader, place)
        if found is not None:
            yield from found
            return
    reader.restart()
    found = _advance(reader, place)
    if found is None:
        at = float(place.pts * reader.spec.time_base)
        message = f"{reader.path}: its frame at {at:.3f} s is not the one it was; use --restart to begin anew"
        raise InputError(message, restart=True)
    yield from found


def _advance(reader: Reader, place: Place) -> Iterator[Frame] | None:
    """Return the frames from `place` on, or None if the frame there is another."""
    frames = iter(reader)
    frame = next((frame for frame in frames if frame.pts >= place.pts), None)
    if frame is None or frame.pts != place.pts or digest_of(frame) != place.digest:
        return None
    reader.renumber(place.frames + 1)
    return _chained(replace(frame, cut=place.cut), frames)


def _chained(first: Frame, rest: Iterator[Frame]) -> Iterator[Frame]:
    yield first
    del first
    yield from rest
