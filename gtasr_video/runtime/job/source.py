"""The reading side of a job: where segments begin, and whether the source is still the file it was."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from gtasr_video.errors import InputError
from gtasr_video.frames import Frame, VideoSpec
from gtasr_video.media import Reader
from gtasr_video.media.damage import Damage
from gtasr_video.media.resume import Place, frames_from, place_of
from gtasr_video.ops.brightness import brightness

_HASHED_WHOLE: Final = 64 * 2**20
_SAMPLES: Final = 64
_SAMPLE_BYTES: Final = 2**16


@dataclass(frozen=True, slots=True)
class Cutting:
    """Where a new segment begins: at a key picture or a cut after `least` seconds, at any frame after `most`.

    fewest, frames   no segment is shorter than `fewest` frames (but the last), none is longer than `frames`
    """

    least: Fraction = Fraction(2)
    most: Fraction = Fraction(6)
    fewest: int = 12
    frames: int = 250

    def begins(self, frame: Frame, count: int, elapsed: Fraction) -> bool:
        """Return whether `frame` begins a new segment, `count` frames and `elapsed` seconds after the last began."""
        if count >= self.frames:
            return True
        if count < self.fewest:
            return False
        return elapsed >= self.most or ((frame.key or frame.cut) and elapsed >= self.least)


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the source that one worker does: frames with first <= pts < end (None: from the start, to the end).

    warm_up   frames before `first` that are enlarged and thrown away, so that the network has something to remember
    """

    first: int | None = None
    end: int | None = None
    warm_up: int = 0


class PartReader:
    """A `FrameReader` of one part of `reader`, from `resume` on if it is given.

    Before it yields a frame that begins a segment it puts its `Place` into `boundaries`, under its pts; the
    brightness of every frame goes into `brightness`, and into `damage` what was wrong with the part before it, as far
    as this run has read it. Who uses an entry takes it out. `count` is how many frames of the part were read, by this
    run and those before it.
    """

    def __init__(self, reader: Reader, part: Part, resume: Place | None, cutting: Cutting) -> None:
        self._reader, self._part, self._resume, self._cutting = reader, part, resume, cutting
        self.count = resume.frames if resume is not None else 0
        self._begun: tuple[int, int] | None = None
        self.boundaries: dict[int, Place] = {}
        self.brightness: dict[int, float] = {}
        self.damage: dict[int, Damage] = {}
        self._before: Damage | None = Damage() if part.first is None and resume is None else None

    def __iter__(self) -> Iterator[Frame]:
        part = self._part
        for frame in self._frames():
            if part.end is not None and frame.pts >= part.end:
                return
            if part.first is None or frame.pts >= part.first:
                self._note(frame)
            yield frame
            del frame

    def _frames(self) -> Iterator[Frame]:
        if self._resume is not None:
            return frames_from(self._reader, self._resume)
        return iter(self._reader) if self._part.first is None else self._warmed_up(self._part.first)

    def _warmed_up(self, first: int) -> Iterator[Frame]:
        """Yield the frames of the part, after the last few before it, the first of which begins anew."""
        spec = self.spec
        usual = 1 / spec.frame_rate if spec.frame_rate else Fraction(1, 25)
        self._reader.restart(first * spec.time_base - 2 * self._part.warm_up * usual)
        before: deque[Frame] = deque(maxlen=self._part.warm_up)
        frames = iter(self._reader)
        for frame in frames:
            if frame.pts >= first:
                break
            before.append(frame)
        else:
            return
        anew = True
        for held in (*before, frame):
            yield replace(held, cut=held.cut or anew)
            anew = False
        before.clear()
        del frame, held
        yield from frames

    def _note(self, frame: Frame) -> None:
        if self._before is None:
            # What was met on the way here is told by who has read the frames before.
            self._before = self._reader.damage
        if self._begins(frame):
            # Whether the picture ends too early shows only at its end.
            self.damage[frame.pts] = replace(self.damage_so_far, truncated_at_s=None)
            self._begun = (self.count, frame.pts)
            self.boundaries[frame.pts] = place_of(frame, self.count, plain=self._reader.is_plain)
        self.brightness[frame.pts] = brightness(frame, self.spec)
        self.count += 1

    @property
    def damage_so_far(self) -> Damage:
        """What was wrong with the part, so far as this run has read it."""
        return self._reader.damage.since(self._before or Damage())

    def _begins(self, frame: Frame) -> bool:
        if self._begun is None:
            return True
        count, pts = self._begun
        return self._cutting.begins(frame, self.count - count, (frame.pts - pts) * self.spec.time_base)

    @property
    def spec(self) -> VideoSpec:
        """What all frames share."""
        return self._reader.spec

    @property
    def first_pts(self) -> int | None:
        """Frames before this pts only warm the network up."""
        return self._part.first

    @property
    def frame_count_estimate(self) -> int | None:
        """Frames left to do, as far as known."""
        whole = self._reader.frame_count_estimate
        if whole is None or self._part != Part():
            return None
        return max(1, whole - (self._resume.frames if self._resume is not None else 0))

    @property
    def duration(self) -> Fraction | None:
        """Seconds left to do, as far as known."""
        whole = self._reader.duration
        if whole is None or self._resume is None:
            return whole
        return max(Fraction(0), whole - (self._resume.pts * self.spec.time_base - self._reader.first_time))

    @property
    def corrupt_packets(self) -> int:
        """Damaged packets met by this process."""
        return self._reader.corrupt_packets

    def facts(self) -> dict[str, Any]:
        """Return the facts of the whole source."""
        return self._reader.facts()

    def close(self) -> None:
        """Leave the source open: it belongs to whoever opened it."""


def fingerprint(path: Path) -> dict[str, Any]:
    """Return what tells whether `path` is still the same file: its size, and a SHA-256 of its content.

    Beyond 64 MiB 64 samples spread over the file stand for the content, and the time of its last change is added.
    Raises InputError if the file cannot be read (any more).
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if facts.st_size <= _HASHED_WHOLE:
                digest = hashlib.file_digest(file, "sha256")
            else:
                for sample in range(_SAMPLES):
                    file.seek(sample * (facts.st_size - _SAMPLE_BYTES) // (_SAMPLES - 1))
                    digest.update(file.read(_SAMPLE_BYTES))
    except OSError as error:
        raise InputError(f"{path}: cannot be read any more ({error.strerror or error})") from error
    found = {"bytes": facts.st_size, "sha256": digest.hexdigest()}
    return found if facts.st_size <= _HASHED_WHOLE else {**found, "changed_ns": facts.st_mtime_ns}
