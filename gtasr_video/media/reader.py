"""Every frame of a video file, once, in order, with its exact time."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av

from gtasr_video.errors import InputError
from gtasr_video.frames import Frame, VideoSpec
from gtasr_video.media.blocks import ReaderBlock
from gtasr_video.media.conform import Conformer
from gtasr_video.media.damage import Damage
from gtasr_video.media.decoder import Decoder
from gtasr_video.media.deinterlace import Deinterlace, Deinterlacer, Fields, Timed, look
from gtasr_video.media.endings import end_of_others
from gtasr_video.media.hardware import Door
from gtasr_video.media.nothing import why_nothing
from gtasr_video.media.source import path_from
from gtasr_video.media.stills import orientation_of
from gtasr_video.media.timeline import Timeline
from gtasr_video.media.window import Window


class Reader(ReaderBlock):
    """Read the video of a local file, frame by frame.

    Iterate once: every frame comes out in presentation order, with its pts in ticks of ``spec.time_base`` exactly
    as the file has it (`Timeline` says what happens where the file is wrong, `Joints` where its clock starts again).
    Planes share the decoder's memory: read them, never write them. Opened by one thread, iterated and closed by one
    thread.

    start     seconds after the beginning of the file (what a player shows as 0); the first frame is the first
              whose pts is not before it, or the one that is on then, from then on, where it lasts over a second. Exact
              to the frame: decoding begins at an earlier key frame, or at the beginning where frames have no times of
              their own (AVI).
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
        self.path = path_from(path)
        self.window = Window(start, duration, frames)
        self._fields = Deinterlacer(deinterlace, self._look)
        self._decoder = Decoder(self.path, video_stream, door=door)
        self._stream = self._decoder.facts
        self._first: Timed | None = None
        self._last_end: Fraction | None = None
        self._known: Damage | None = None
        self._played: Fraction | None = None  # seconds that all frames play, once that is known
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        """Decode the first frame: only that tells what the frames of this stream really look like."""
        facts = self._stream
        first = self._position(self.window.seek_to(facts))
        self._first_pts = first.pts
        turned = orientation_of(self.path) if facts.container.endswith("_pipe") else None
        self._conformer = Conformer(first.picture, facts, self._fields, turned)

    def _position(self, target: Fraction | None) -> Timed:
        """Make iterating begin at the first frame that decodes whole before `target` (file time), or at the first."""
        self._drained = False
        self._timeline = Timeline(self._stream.time_base, self._stream.frame_rate)
        if target is not None:
            self._decoder.seek(target)
        self._pending = self.window.trim(self._fields.pictures(self._placed(), self._stream), self._stream)
        self._first = next(self._pending, None)
        if self._first is None:
            raise InputError(why_nothing(self.path, self._decoder, self.window))
        return self._first

    def restart(self, target: Fraction | None = None) -> None:
        """Iterate again, from the beginning or, with `target`, from a frame that lies no later than that file time.

        Times may differ from those of reading it through where the file's own were repaired (`is_plain` says).
        Counts of damage go on; frames are counted anew. Raises InputError.
        """
        self._decoder.reopen()
        self._conformer.count = 0
        self._position(target if target is not None else self.window.seek_to(self._stream))

    def renumber(self, count: int) -> None:
        """Say that `count` frames were given out so far: what ``frames`` limits goes by that."""
        self._conformer.count = count

    @property
    def spec(self) -> VideoSpec:
        """What all frames share."""
        return self._conformer.spec

    @property
    def is_plain(self) -> bool:
        """Whether all times so far are such that reading can begin anywhere and find the same."""
        timeline, decoder = self._timeline, self._decoder
        joined = decoder.joints.count and not decoder.finds_any_time
        return not (joined or timeline.repaired or timeline.restarts or timeline.guessed)

    def _placed(self) -> Iterator[Timed]:
        """Yield decoded pictures with their final times."""
        last: int | None = None
        for picture in self._decoder.frames():
            self._timeline.first_dts = self._decoder.first_dts
            pts, cut = self._timeline.place(picture.pts, picture.dts)
            cut = cut or (last is not None and self._decoder.joints.starts_between(last, pts))
            yield Timed(picture, pts, cut, picture.duration)
            last = pts
        self._drained = True

    @property
    def _restarts(self) -> int:
        return self._decoder.joints.count + self._timeline.restarts

    def _look(self) -> Fields:
        """Decode the first frames apart, to see whether they consist of fields."""
        decoder = Decoder(self.path, self._stream.index, facts=self._stream)
        try:
            if (target := self.window.seek_to(self._stream)) is not None:
                decoder.seek(target)
            return look(decoder.frames())
        finally:
            decoder.close()

    def __iter__(self) -> Iterator[Frame]:
        if self._first is None:
            raise RuntimeError("a Reader is iterated once; open the file again")
        first, self._first = self._first, None
        try:
            yield from self._with_durations(first)
        except InputError:
            raise
        except av.FFmpegError as error:
            count = self._conformer.count
            raise InputError(f"{self.path}: decoding failed after frame {count} ({error.strerror})") from error

    def _with_durations(self, held: Timed) -> Iterator[Frame]:
        """Yield frames, each with the ticks to the next: so every frame waits for the one after it."""
        most = self.window.frames
        if most is not None and most <= 0:
            return
        gap = 0
        for timed in self._pending:
            gap = timed.pts - held.pts
            yield self._finish(held, gap)
            if self._conformer.count == most:
                self._note_end()
                return
            held = timed
        yield self._finish(held, self._last_duration(held, gap))
        self._note_end()

    def _note_end(self) -> None:
        if self._last_end is not None:
            self._played = self._last_end - self.first_time

    def _finish(self, timed: Timed, duration: int) -> Frame:
        self._last_end = (timed.pts + duration) * self.spec.time_base
        return self._conformer.frame(timed, duration)

    def _last_duration(self, timed: Timed, gap: int) -> int:
        """Ticks the last frame lasts: to the end the file states if that is believable, else as it says itself."""
        usual = timed.duration or gap
        if self._stream.ticks is not None and self._stream.start is not None:
            rest = self._stream.start + self._stream.ticks - timed.pts
            end = self.window.end(self._stream)
            if end is not None:
                rest = min(rest, max(usual, math.floor(end / self.spec.time_base) - timed.pts))
            if 0 < rest <= 2 * max(usual, gap):
                return rest
        return usual

    @property
    def corrupt_packets(self) -> int:
        """Packets the decoder refused and frames it marked as damaged, so far."""
        return self._decoder.corrupt if self._known is None else self._known.corrupt_packets

    @property
    def damage(self) -> Damage:
        """What was wrong with the file, so far."""
        if self._known is not None:
            return self._known
        decoder = self._decoder
        return Damage(decoder.corrupt, self._conformer.size_changes, decoder.given_up, self._truncated_at())

    def tell(self, damage: Damage, end: Fraction) -> None:
        """Say from now on what others have learned who have read the file, or parts of it.

        end   second of the output at which the last frame ends
        """
        self._known, self._played = damage, end - self.first_time + (self.origin or 0)
        self._conformer.size_changes = damage.size_changes

    @property
    def needs_layer(self) -> bool:
        """Whether the picture's colours are wrong without a Dolby Vision layer, which is not read."""
        return self._conformer.needs_layer

    @property
    def display_matrix(self) -> tuple[int, ...] | None:
        """The nine numbers by which players turn the picture, if the stream has them."""
        return self._conformer.display_matrix

    @property
    def stereo_mode(self) -> str | None:
        """Matroska's name of how the picture holds two eyes, None if it holds one."""
        return self._conformer.stereo_mode

    @property
    def origin(self) -> Fraction | None:
        """File time in seconds that becomes 0 in an output: the first frame's of a cut, None if times stay.

        A file whose picture begins before 0, as where the clock of MPEG-TS wraps around, begins at 0 then.
        """
        if self.window.start:
            return self.first_time
        return self.origin_ticks * self.spec.time_base if self.origin_ticks else None

    @property
    def first_time(self) -> Fraction:
        """File time in seconds of the first frame."""
        return self._first_pts * self.spec.time_base

    @property
    def origin_ticks(self) -> int:
        """Ticks that are taken off every pts so that an output begins at `origin`; 0 where times stay."""
        if self.window.start:
            return self._first_pts
        earliest = math.floor(self._stream.begin / self.spec.time_base)
        return min(earliest, self._first_pts) if self._first_pts < 0 else 0

    @property
    def stream_index(self) -> int:
        """Index of the picture's stream in the file."""
        return self._stream.index

    @property
    def cut_length(self) -> Fraction | None:
        """Seconds asked for if the end was asked for, else None; of counted frames about, until all were read."""
        if self.window.frames is not None and self._played is not None:
            return self._played
        has_end = self.window.duration is not None or self.window.frames is not None
        return self.duration if has_end else None

    @property
    def duration(self) -> Fraction | None:
        """Seconds this reader will yield as far as the container knows."""
        return self.window.length(self._stream, self.spec.frame_rate)

    @property
    def frame_count_estimate(self) -> int | None:
        """Frames this reader will yield as far as the container knows."""
        return self.window.count(self._stream, self.spec.frame_rate)

    def facts(self) -> dict[str, Any]:
        """Return what the source is and what was met in it so far, as plain JSON-able values."""
        return {
            "path": str(self.path),
            **self._conformer.facts(),
            "duration_s": None if self.duration is None else float(self.duration),
            "hardware": self._decoder.on_hardware,
            "hardware_given_up": self.damage.given_up,
            "corrupt_packets": self.corrupt_packets,
            "repaired_timestamps": self._timeline.repaired,
            "clock_restarts": self._restarts,
            "truncated_at_s": self.damage.truncated_at_s,
            "warnings": list(self.warnings()),
        }

    def _truncated_at(self) -> float | None:
        """Seconds at which the picture ended too early, or None if it did not, or is still coming."""
        if not self._drained or self._last_end is None:
            return None
        reached = float(self._last_end - self._stream.begin)
        return reached if self._decoder.broken or self._is_short(self._last_end) else None

    def _is_short(self, end: Fraction) -> bool:
        """Return whether a picture that ends at `end` should go on."""
        ending = self._stream.ending
        step = 1 / self.spec.frame_rate if self.spec.frame_rate else Fraction(1, 25)
        least = max(3 * step, Fraction(1, 5))
        wanted = self.window.end(self._stream)
        if ending is None or (ending.time if wanted is None else min(ending.time, wanted)) - end <= least:
            return False
        # A length of the whole file is that of its sound where this goes on until then.
        return ending.own or self._sound_end is None or ending.time - self._sound_end > least

    @functools.cached_property
    def _sound_end(self) -> Fraction | None:
        """File time at which what lies beside the picture ends."""
        return end_of_others(self.path, self._stream.index)

    def warnings(self) -> Iterator[str]:
        """Yield one line for each thing in the source that was not as it should be."""
        yield from self._conformer.warnings(str(self.path), self.corrupt_packets)
        if self._decoder.became:
            yield f"{self.path}: its picture goes on in {self._decoder.became}, as where recordings were joined"
        cut_off, claimed = self.damage.truncated_at_s, self._stream.length
        if cut_off is not None:
            of = "" if claimed is None else f" of the {float(claimed):.3f} s it claims"
            yield f"{self.path} is cut off or damaged: its picture ends at {cut_off:.3f} s{of}"
        if self._restarts:
            yield f"{self.path}: its clock starts again {self._restarts} times; times were joined"
        if self._timeline.repaired:
            yield f"{self.path}: {self._timeline.repaired} timestamps were out of order"

    def close(self) -> None:
        """Close the file; frames already given out stay valid."""
        self._decoder.close()
