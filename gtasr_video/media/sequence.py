"""Numbered pictures as a video: ``frames/%05d.png`` in and out, and a single picture as the shortest of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from gtasr_video.errors import InputError, OutputError
from gtasr_video.frames import Frame, VideoSpec
from gtasr_video.media.blocks import ReaderBlock, WriterBlock
from gtasr_video.media.left_out import NOTHING, LeftOut
from gtasr_video.media.reader import Reader
from gtasr_video.media.stills import NO_LABELS, Labels, encoded, form_of, spec_for
from gtasr_video.media.target import Target
from gtasr_video.media.window import WHOLE, Window

_PLACE: Final = re.compile(r"%(0?)(\d*)d")
USUAL_RATE: Final = Fraction(25)
_NAMED: Final = 10  # gaps between numbers that are named; more make no readable line


def is_pattern(path: Path) -> bool:
    """Return whether `path` stands for numbered files: its name holds ``%d`` or ``%05d``, and no file is called so."""
    return len(_PLACE.findall(path.name)) == 1 and not path.exists()


def numbered(pattern: Path, number: int) -> Path:
    """Return the file of `pattern` with this number."""
    found = _PLACE.search(pattern.name)
    assert found is not None
    fill, width = found.group(1) or " ", int(found.group(2) or 0)
    text = str(number).rjust(width, fill).strip()
    return pattern.with_name(f"{pattern.name[: found.start()]}{text}{pattern.name[found.end() :]}")


def _there(pattern: Path) -> dict[int, Path]:
    """Return the files that `pattern` stands for, by number, in order."""
    found = _PLACE.search(pattern.name)
    assert found is not None
    before, after = re.escape(pattern.name[: found.start()]), re.escape(pattern.name[found.end() :])
    form = re.compile(f"{before}(\\d+){after}")
    folder = pattern.parent
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder} with pictures")
    names = ((form.fullmatch(path.name), path) for path in folder.iterdir())
    numbers = {int(match.group(1)): path for match, path in names if match}
    return {number: path for number, path in sorted(numbers.items()) if numbered(pattern, number) == path}


class SequenceReader(ReaderBlock):
    """Read the pictures that `pattern` stands for, in the order of their numbers, at `rate` a second.

    A picture's pts is its number less the first one's: where numbers are missing the picture before lasts longer, and
    `warnings` says so. `window` counts pictures, not numbers. Raises InputError if there are none, if one cannot be
    read, or looks unlike the first.
    """

    def __init__(self, pattern: Path, rate: Fraction = USUAL_RATE, window: Window = WHOLE) -> None:
        files = list(_there(pattern).items())[round((window.start or 0) * rate) :]
        most = window.frames if window.duration is None else max(1, round(window.duration * rate))
        self._files = files if most is None else files[:most]
        if not self._files:
            raise InputError(f"{pattern}: no picture has such a name")
        self.path, self.corrupt_packets, self._count = pattern, 0, 0
        self.first = self._files[0][0]
        with Reader(self._files[0][1]) as reader:
            self.spec: VideoSpec = replace(reader.spec, time_base=1 / rate, frame_rate=rate)

    @property
    def frame_count_estimate(self) -> int:
        """How many pictures there are."""
        return len(self._files)

    @property
    def duration(self) -> Fraction:
        """Seconds from the first picture to the end of the last."""
        return (self._files[-1][0] - self.first + 1) * self.spec.time_base

    def facts(self) -> dict[str, Any]:
        """Return plain facts, as a `Reader` does."""
        spec = self.spec
        return {
            "path": str(self.path),
            "container": "pictures",
            "layout": spec.layout.name,
            "width": spec.width,
            "height": spec.height,
            "frame_rate": str(spec.frame_rate),
            "frames": self._count,
            "corrupt_packets": 0,
            "warnings": list(self.warnings()),
        }

    def warnings(self) -> Iterator[str]:
        """Yield a line about numbers that are missing."""
        gaps = [(a + 1, b - 1) for (a, _), (b, _) in pairwise(self._files) if b > a + 1]
        if gaps:
            named = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in gaps[:_NAMED])
            more = f" and {len(gaps) - _NAMED} more gaps" if len(gaps) > _NAMED else ""
            yield (
                f"{self.path}: no picture has the number {named}{more}; in a video the one before lasts longer, "
                "numbered pictures close up"
            )

    def __iter__(self) -> Iterator[Frame]:
        ends = [number for number, _ in self._files[1:]] + [self._files[-1][0] + 1]
        for (number, path), end in zip(self._files, ends, strict=True):
            with Reader(path, frames=1) as reader:
                if replace(reader.spec, time_base=self.spec.time_base, frame_rate=self.spec.frame_rate) != self.spec:
                    size = f"{reader.spec.width}x{reader.spec.height} {reader.spec.layout.name}"
                    first = self._files[0][1].name
                    raise InputError(f"{path} ({size}) looks unlike {first}; a sequence has pictures of one kind")
                frame = next(iter(reader))
            self._count += 1
            yield Frame(frame.planes, number - self.first, end - number, self._count == 1, True)

    def close(self) -> None:
        """Do nothing: each file is closed when it has been read."""


class PictureWriter(WriterBlock):
    """Write frames as pictures: one into `path`, or each into a file of the pattern `path`, numbered from `first`.

    Every file appears under its name when it is whole; of a sequence those that are finished stay if a later one
    fails. `labels` go into each; `left_out` is what of the source does not. The picture is written as it is coded where
    `spec` is turned and the format can say so (EXIF), so give ``spec.upright()`` where it cannot. Raises UsageError
    for an extension, or transparency that the format cannot hold; OutputError if a file exists, a second frame comes
    for a single picture, or writing fails.
    """

    def __init__(
        self,
        path: Path,
        spec: VideoSpec,
        *,
        labels: Labels = NO_LABELS,
        first: int = 1,
        inputs: tuple[Path, ...] = (),
        overwrite: bool = False,
        left_out: LeftOut = NOTHING,
        drop_unsupported: bool = False,
    ) -> None:
        self.path, self._overwrite, self._inputs, self._left_out = path, overwrite, inputs, left_out
        self._form = form_of(path)
        self.spec = spec_for(self._form, spec, drop_alpha=drop_unsupported)
        self._wanted, self._first, self._count = spec, first, 0
        self._labels = labels.sized(spec.width, spec.height, upright=not spec.is_turned)
        self._many = is_pattern(path)
        self._target: Target | None = None
        self._step = 0
        self._open()

    def _open(self) -> None:
        """Refuse now what would be learned only after the work."""
        if not self._many:
            self._target = Target(self.path, overwrite=self._overwrite, inputs=self._inputs)
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.path.parent}: the folder cannot be made ({error.strerror})") from error
        there = _there(self.path)
        if there and not self._overwrite:
            raise OutputError(f"{next(iter(there.values()))} exists; use -y to replace pictures of the same numbers")

    def write(self, frame: Frame) -> None:
        """Encode and write the next picture."""
        if not self._many and self._count:
            raise OutputError(
                f"{self.path} holds one picture and there are more; use --frames 1, or a name such as %05d"
                f"{self.path.suffix} for all of them"
            )
        path = numbered(self.path, self._first + self._count) if self._many else self.path
        target = self._target or Target(path, overwrite=self._overwrite, inputs=self._inputs)
        self._target = target
        try:
            target.part.write_bytes(encoded(frame, self.spec.layout, self._form, self._labels))
        except OSError as error:
            raise target.error(error, "cannot be written") from error
        self._count += 1
        if self._many:
            target.commit()
            self._target = None

    def finish(self) -> None:
        """Give a single picture its name."""
        if not self._count:
            self.abort()
            raise OutputError(f"{self.path}: no frame was written")
        if self._target is not None:
            self._target.commit()
            self._target = None

    def abort(self) -> None:
        """Throw away the picture that is not finished."""
        if self._target is not None:
            self._target.discard()
            self._target = None

    def facts(self) -> dict[str, Any]:
        """Return plain facts, as a `Writer` does."""
        return {
            "path": str(self.path),
            "container": "pictures",
            "codec": self._form.name.lower(),
            "encoder": self._form.name.lower(),
            "crf": None,
            "preset": None,
            "pix_fmt": self.spec.layout.name,
            "width": self.spec.width,
            "height": self.spec.height,
            "frames": self._count,
            "streams": [dict(entry) for entry in self._left_out.streams],
            "warnings": list(self.warnings()),
        }

    def warnings(self) -> Iterator[str]:
        """Yield what of the source the format cannot hold."""
        if self._left_out.names:
            yield f"{self._form.name} cannot hold all of the source; left out: {', '.join(self._left_out.names)}"
        if self.spec.layout.bits < self._wanted.layout.bits:
            yield f"{self._form.name} is written with 8 of {self._wanted.layout.bits} bits; .png keeps more"
        if self._wanted.layout.alpha and not self.spec.layout.alpha:
            yield f"{self._form.name} cannot hold transparency; it was left out"
