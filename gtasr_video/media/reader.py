"""Every frame of a video file, once, in order, with its exact time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from torch import Tensor

from gtasr_video.errors import InputError
from gtasr_video.frames import Frame, VideoSpec
from gtasr_video.media import tags
from gtasr_video.media.decoder import Decoder, StreamFacts
from gtasr_video.media.deinterlace import (
    TELECINE,
    Deinterlace,
    Deinterlacer,
    Fields,
    Timed,
    look,
)
from gtasr_video.media.hardware import Door, device_planes, format_name, is_on_device
from gtasr_video.media.hdr import has_no_base, hdr_of, layers_left_out
from gtasr_video.media.planes import Converter, is_transparent, nearest_layout, to_planes
from gtasr_video.media.source import MAX_PIXELS
from gtasr_video.media.stills import orientation_of
from gtasr_video.media.timeline import Timeline

# A time given in decimals may miss the tick it means by less than this.
_TOLERANCE = Fraction(1, 1_000_000)


class Reader:
    """Read the video of a local file, frame by frame.

    Iterate once: every frame comes out in presentation order, with its pts in ticks of ``spec.time_base`` exactly
    as the file has it (`Timeline` says what happens where the file is wrong). Planes share the decoder's memory:
    read them, never write them. Opened by one thread, iterated and closed by one thread.

    start     seconds after the beginning of the file (what a player shows as 0); the first frame is the first
              whose pts is not before it. Exact to the frame: decoding begins at an earlier key frame.
    duration  seconds after `start`; the last frame is the last that begins before their end.
    frames    yield at most this many.
    deinterlace   auto makes whole pictures of fields where the stream says that it has them, or its first frames show
                  it; always, never
    video_stream  index of the video stream to read, as `probe` gives it; None takes the first that is no still.
    door      opens a hardware decoder (`hardware.Nvdec`), whose frames stay on the device; where it does not open or
              loses a frame software decodes, without a gap.

    Frames whose size or format differs from the first one's are brought to the first one's by swscale, marked as
    cuts and counted. Damaged packets are counted in `corrupt_packets` and decoding goes on.
    Raises InputError if the file is missing, unreadable, not media, or holds no frame that can be decoded; UsageError
    if it has no such video stream.

    Example::

        >>> with Reader("in.mp4", frames=3) as reader:
        ...     [frame.pts * reader.spec.time_base for frame in reader]
        [Fraction(0, 1), Fraction(1, 25), Fraction(2, 25)]
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        start: Fraction | None = None,
        duration: Fraction | None = None,
        frames: int | None = None,
        video_stream: int | None = None,
        deinterlace: Deinterlace = "auto",
        door: Door | None = None,
    ) -> None:
        self.path = Path(path)
        self.start, self.length, self.frames = start, duration, frames
        self._whole = Deinterlacer(deinterlace, self._look)
        self._decoder = Decoder(self.path, video_stream, door=door)
        self._stream = self._decoder.facts
        self._first: Timed | None = None
        self._count = self._size_changes = 0
        self._last_end: Fraction | None = None
        self._drained = False
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        """Decode the first frame: only that tells what the frames of this stream really look like."""
        facts = self._stream
        self._begin = facts.begin + (self.start or 0)
        self._end = None if self.length is None else self._begin + self.length
        first = self._position(self._begin if self.start else None)
        self._first_pts = first.pts
        self._pix_fmt = format_name(first.picture)
        sides = tags.side_data(first.picture, facts.codec)
        self.display_matrix = tags.display_matrix(sides)
        spec = spec_of(first.picture, facts)
        if facts.container.endswith("_pipe"):
            rotation, mirrored = orientation_of(self.path)
            spec = replace(spec, rotation=rotation, mirrored=mirrored)
        self.spec = replace(spec, interlaced=spec.interlaced and not self._whole.active)
        self._oddities = (
            *tags.oddities(first.picture, self.spec.interlaced),
            *layers_left_out(sides, facts.description),
        )
        self._converter = Converter(
            self.spec.layout, self.spec.width, self.spec.height, full_range=self.spec.color.full_range
        )

    def _position(self, target: Fraction | None) -> Timed:
        """Make iterating begin at the first frame that decodes whole before `target` (file time), or at the first."""
        self._timeline = Timeline(self._stream.time_base, self._stream.frame_rate)
        if target is not None:
            self._decoder.seek(target)
        self._pending = self._in_window(self._whole.pictures(self._placed(), self._stream))
        self._first = next(self._pending, None)
        if self._first is None:
            raise InputError(self._why_nothing())
        return self._first

    def restart(self, target: Fraction | None = None) -> None:
        """Iterate again, from the beginning or, with `target`, from a frame that lies no later than that file time.

        Times may differ from those of reading it through where the file's own were repaired (`is_plain` says).
        Counts of damage go on; frames are counted anew. Raises InputError.
        """
        self._decoder.reopen()
        self._count, self._drained = 0, False
        self._position(target if target is not None else self._begin if self.start else None)

    def renumber(self, count: int) -> None:
        """Say that `count` frames were given out so far: what ``frames`` limits goes by that."""
        self._count = count

    @property
    def is_plain(self) -> bool:
        """Whether all times so far are the file's own, so that reading can begin anywhere and find the same."""
        timeline = self._timeline
        return not (timeline.repaired or timeline.restarts or timeline.guessed)

    def _why_nothing(self) -> str:
        total = self._stream.length
        if self.start and total is not None and self.start >= total:
            return f"{self.path}: start {float(self.start):g} s is past its end ({float(total):.3f} s)"
        if self.start or self.length is not None:
            return f"{self.path}: no frame lies between the start and the end asked for"
        if self._stream.codec == "webp" and b"ANIM" in self._head():
            return (
                f"{self.path} is an animated WebP, which FFmpeg cannot read yet; make a GIF or numbered pictures of it"
            )
        if not self._decoder.has_size:
            most = MAX_PIXELS // 10**6
            return (
                f"{self.path}: its pictures have no size, or one beyond {most} million pixels, the most that is decoded"
            )
        broken = self._decoder.corrupt or self._decoder.broken
        return f"{self.path}: not one frame of its video can be decoded" + (
            " (it is damaged)" if broken else " (it holds no pictures)"
        )

    def _head(self) -> bytes:
        with self.path.open("rb") as file:
            return file.read(64)

    def _placed(self) -> Iterator[Timed]:
        """Yield decoded pictures with their final times."""
        for picture in self._decoder.frames():
            self._timeline.first_dts = self._decoder.first_dts
            yield Timed(picture, *self._timeline.place(picture.pts, picture.dts))

    def _look(self) -> Fields:
        """Decode the first frames apart, to see whether they consist of fields."""
        decoder = Decoder(self.path, self._stream.index, facts=self._stream)
        try:
            if self.start:
                decoder.seek(self._begin)
            return look(decoder.frames())
        finally:
            decoder.close()

    def _in_window(self, frames: Iterator[Timed]) -> Iterator[Timed]:
        """Yield those of `frames` from `start` on and before the end."""
        time_base = self._stream.time_base
        for timed in frames:
            if self.start and timed.pts * time_base < self._begin - _TOLERANCE:
                continue
            if self._end is not None and timed.pts * time_base >= self._end - _TOLERANCE:
                return
            yield timed
        self._drained = True

    def __iter__(self) -> Iterator[Frame]:
        if self._first is None:
            raise RuntimeError("a Reader is iterated once; open the file again")
        first, self._first = self._first, None
        try:
            yield from self._with_durations(first)
        except InputError:
            raise
        except av.FFmpegError as error:
            raise InputError(f"{self.path}: decoding failed after frame {self._count} ({error.strerror})") from error

    def _with_durations(self, held: Timed) -> Iterator[Frame]:
        """Yield frames, each with the ticks to the next: so every frame waits for the one after it."""
        if self.frames is not None and self.frames <= 0:
            return
        gap = 0
        for timed in self._pending:
            gap = timed.pts - held.pts
            yield self._finish(held, gap)
            if self._count == self.frames:
                return
            held = timed
        yield self._finish(held, self._last_duration(held, gap))

    def _finish(self, timed: Timed, duration: int) -> Frame:
        picture, pts, cut = timed
        self._last_end = (pts + duration) * self.spec.time_base
        changed = (picture.width, picture.height) != (self.spec.width, self.spec.height)
        self._size_changes += changed
        planes = self._planes(picture)
        self._count += 1
        return Frame(planes, pts, duration, cut or changed or self._count == 1, picture.key_frame)

    def _planes(self, picture: av.VideoFrame) -> tuple[Tensor, ...]:
        if is_on_device(picture):
            return device_planes(picture, self.spec.layout)
        return to_planes(self._converter.convert(picture), self.spec.layout)

    def _last_duration(self, timed: Timed, gap: int) -> int:
        """Ticks the last frame lasts: to the end the file states if that is believable, else as it says itself."""
        usual = timed.picture.duration or gap
        if self._stream.ticks is not None and self._stream.start is not None:
            rest = self._stream.start + self._stream.ticks - timed.pts
            if 0 < rest <= 2 * max(usual, gap):
                return rest
        return usual

    @property
    def corrupt_packets(self) -> int:
        """Packets the decoder refused and frames it marked as damaged, so far."""
        return self._decoder.corrupt

    @property
    def needs_layer(self) -> bool:
        """Whether the picture's colours are wrong without a Dolby Vision layer, which is not read."""
        return has_no_base(self._stream.description)

    @property
    def origin(self) -> Fraction | None:
        """File time in seconds that becomes 0 in an output: the first frame's of a cut, None if times stay.

        A file whose picture begins before 0, as where the clock of MPEG-TS wraps around, begins at 0 then.
        """
        if self.start:
            return self._first_pts * self.spec.time_base
        return self.origin_ticks * self.spec.time_base if self.origin_ticks else None

    @property
    def first_time(self) -> Fraction:
        """File time in seconds of the first frame."""
        return self._first_pts * self.spec.time_base

    @property
    def origin_ticks(self) -> int:
        """Ticks that are taken off every pts so that an output begins at `origin`; 0 where times stay."""
        if self.start:
            return self._first_pts
        earliest = math.floor(self._stream.begin / self.spec.time_base)
        return min(earliest, self._first_pts) if self._first_pts < 0 else 0

    @property
    def stream_index(self) -> int:
        """Index of the picture's stream in the file."""
        return self._stream.index

    @property
    def cut_length(self) -> Fraction | None:
        """Seconds asked for (about, where frames were counted) if the end was asked for, else None."""
        return self.duration if self.length is not None or self.frames is not None else None

    @property
    def duration(self) -> Fraction | None:
        """Seconds this reader will yield as far as the container knows."""
        total = self._stream.length
        if total is not None:
            total = max(Fraction(0), total - (self.start or 0))
        known = [t for t in (total, self.length) if t is not None]
        if self.frames is not None and self.spec.frame_rate:
            known.append(self.frames / self.spec.frame_rate)
        return min(known, default=None)

    @property
    def frame_count_estimate(self) -> int | None:
        """Frames this reader will yield as far as the container knows."""
        whole = self._stream.frames
        if whole and not self.start and self.length is None:
            return whole if self.frames is None else min(whole, self.frames)
        if self.duration is None or not self.spec.frame_rate:
            return self.frames
        return max(1, round(self.duration * self.spec.frame_rate))

    def facts(self) -> dict[str, Any]:
        """Return what the source is and what was met in it so far, as plain JSON-able values."""
        spec, stream = self.spec, self._stream
        return {
            "path": str(self.path),
            "container": stream.container,
            "codec": stream.codec,
            "pix_fmt": self._pix_fmt,
            "layout": spec.layout.name,
            "width": spec.width,
            "height": spec.height,
            "frame_rate": str(spec.frame_rate) if spec.frame_rate else None,
            "time_base": str(spec.time_base),
            "duration_s": None if self.duration is None else float(self.duration),
            "matrix": spec.color.matrix,
            "full_range": spec.color.full_range,
            "primaries": spec.color.primaries,
            "transfer": spec.color.transfer,
            "chroma_siting": spec.color.chroma_siting,
            "sample_aspect": str(spec.sample_aspect),
            "rotation": spec.rotation,
            "mirrored": spec.mirrored,
            "interlaced": spec.interlaced,
            "deinterlaced": self._whole.active,
            "fields": self._whole.fields.parity or None,
            "telecine": self._whole.fields.telecine,
            "transparent": spec.layout.alpha,
            "hardware": self._decoder.on_hardware,
            "hardware_given_up": self._decoder.given_up,
            "frames": self._count,
            "corrupt_packets": self.corrupt_packets,
            "repaired_timestamps": self._timeline.repaired,
            "clock_restarts": self._timeline.restarts,
            "size_changes": self._size_changes,
            "truncated_at_s": self._truncated_at(),
            "warnings": list(self.warnings()),
        }

    def _truncated_at(self) -> float | None:
        """Seconds at which the picture ended too early, or None if it did not, or is still coming."""
        if not self._drained or self._last_end is None:
            return None
        reached = self._last_end - self._stream.begin
        claimed = self._stream.length
        missing = 0 if claimed is None else claimed - reached
        step = 1 / self.spec.frame_rate if self.spec.frame_rate else Fraction(1, 25)
        return float(reached) if self._decoder.broken or missing > max(3 * step, Fraction(1, 5)) else None

    def warnings(self) -> Iterator[str]:
        """Yield one line for each thing in the source that was not as it should be."""
        for oddity in self._oddities:
            yield f"{self.path} {oddity}"
        if self._whole.fields.telecine:
            yield f"{self.path} {TELECINE}"
        cut_off, claimed = self._truncated_at(), self._stream.length
        if cut_off is not None:
            of = "" if claimed is None else f" of the {float(claimed):.3f} s it claims"
            yield f"{self.path} is cut off or damaged: its picture ends at {cut_off:.3f} s{of}"
        if self.corrupt_packets:
            yield f"{self.path}: {self.corrupt_packets} damaged packets; what could be decoded was kept"
        if self._size_changes:
            size = f"{self.spec.width}x{self.spec.height}"
            yield f"{self.path}: the picture size changes; {self._size_changes} frames were resized to {size}"
        if self._timeline.restarts:
            yield f"{self.path}: its clock starts again {self._timeline.restarts} times; times were joined"
        if self._timeline.repaired:
            yield f"{self.path}: {self._timeline.repaired} timestamps were out of order"

    def close(self) -> None:
        """Close the file; frames already given out stay valid."""
        self._decoder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def spec_of(picture: av.VideoFrame, facts: StreamFacts) -> VideoSpec:
    """Return what frames like `picture` share, where their stream is like `facts`."""
    sides = tags.side_data(picture, facts.codec)
    rotation, mirrored = tags.orientation(tags.display_matrix(sides))
    return VideoSpec(
        width=picture.width,
        height=picture.height,
        time_base=facts.time_base,
        layout=nearest_layout(format_name(picture), alpha=is_transparent(picture)),
        color=tags.color_of(picture, facts.siting),
        frame_rate=facts.frame_rate,
        sample_aspect=facts.sample_aspect,
        rotation=rotation,
        mirrored=mirrored,
        interlaced=picture.interlaced_frame or facts.field_order > 1,
        hdr=hdr_of(sides),
    )
