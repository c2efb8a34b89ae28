"""Frames of a stream as they come: one demuxer, no frame held back, one time line whatever happens on the way."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import av

from gtasr_video.errors import InputError
from gtasr_video.frames import Frame, VideoSpec, Vitals
from gtasr_video.media import tags
from gtasr_video.media.planes import Converter, to_planes
from gtasr_video.media.reader import spec_of
from gtasr_video.media.streams.clock import StreamClock
from gtasr_video.media.streams.connection import Connection
from gtasr_video.media.streams.sound_queue import SoundQueue
from gtasr_video.media.timeline import Timeline


class Source(Protocol):
    """Where a stream comes from, and how it is had again when it breaks off."""

    name: str
    clock: StreamClock
    reconnects: int

    def open(self) -> Connection:
        """Open the stream for the first time. Raises InputError."""

    def again(self) -> Connection | None:
        """Open it once more after it ended, or return None if that was the end."""

    def stop(self) -> None:
        """End the stream now, from any thread: what waits returns."""

    def close(self) -> None:
        """Let go of what is behind the connections."""

    def facts(self) -> dict[str, Any]:
        """Return what is known of the way here, as plain JSON-able values."""


class _Placed(NamedTuple):
    picture: av.VideoFrame
    pts: int
    cut: bool


class StreamReader:
    """Read the picture of a stream that can be read only once; its sound is put into `sound` on the way.

    Frames are given out as soon as they are decoded. Their pts are ticks of ``spec.time_base`` and go on across
    connections; frames of another size or format than the first are brought to the first one's, as by `Reader`.
    `stop` ends the stream from any thread, as its own end would: nothing that came is lost.

    duration  yield the frames of so many seconds from the first on; frames: at most so many. The stream ends then.

    Raises InputError if it cannot be opened, or holds no frame that can be decoded.
    """

    def __init__(self, source: Source, *, duration: Fraction | None = None, frames: int | None = None) -> None:
        self.source = source
        self._length, self._frames = duration, frames
        self._count = self._size_changes = self._earlier_damage = 0
        self._connection = source.open()
        self.sound = SoundQueue(self._connection.sounds)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        facts = self._connection.facts
        self._timeline = Timeline(facts.time_base, facts.frame_rate)
        self._pictures = self._placed()
        first = next(self._pictures, None)
        if first is None:
            raise InputError(f"{self.source.name}: it ended before its first picture")
        self._first: _Placed | None = first
        self._pix_fmt = first.picture.format.name
        self.display_matrix = tags.display_matrix(tags.side_data(first.picture, facts.codec))
        self.spec: VideoSpec = spec_of(first.picture, facts)
        self._oddities = tuple(tags.oddities(first.picture, self.spec.interlaced))
        self._usual = self._usual_ticks(facts.frame_rate)
        self._converter = Converter(
            self.spec.layout, self.spec.width, self.spec.height, full_range=self.spec.color.full_range
        )

    def _usual_ticks(self, rate: Fraction | None) -> int:
        return round(1 / (rate * self.spec.time_base)) if rate else 0

    def _placed(self) -> Iterator[_Placed]:
        """Yield pictures on one time line, from one connection after the other."""
        connection: Connection | None = self._connection
        while connection is not None:
            self._connection = connection
            fresh = True
            for picture in connection.pictures(self.source.clock, self.sound):
                pts, cut = self._timeline.place(*self._ticks(picture))
                yield _Placed(picture, pts, cut or fresh)
                fresh = False
            self._earlier_damage += connection.corrupt
            connection.close()
            self.source.clock.join()
            connection = self.source.again()

    def _ticks(self, picture: av.VideoFrame) -> tuple[int | None, int | None]:
        """Return pts and dts of `picture` in ticks of the first connection."""
        unit, wanted = self._connection.facts.time_base, self._timeline.time_base
        if unit == wanted:
            return picture.pts, picture.dts
        pts, dts = (None if t is None else round(t * unit / wanted) for t in (picture.pts, picture.dts))
        return pts, dts

    def __iter__(self) -> Iterator[Frame]:
        first, self._first = self._first, None
        if first is None:
            raise RuntimeError("a StreamReader is iterated once")
        for placed in chain([first], self._pictures):
            if self._is_past(placed.pts - first.pts):
                self.stop()
                return
            yield self._finish(placed)

    def _is_past(self, ticks: int) -> bool:
        """Return whether a frame, `ticks` after the first, lies beyond what was asked for."""
        if self._frames is not None and self._count >= self._frames:
            return True
        return self._length is not None and ticks * self.spec.time_base >= self._length

    def _finish(self, placed: _Placed) -> Frame:
        picture, pts, cut = placed
        changed = (picture.width, picture.height) != (self.spec.width, self.spec.height)
        self._size_changes += changed
        self._count += 1
        duration = self._duration(picture)
        return Frame(to_planes(self._converter.convert(picture), self.spec.layout), pts, duration, cut or changed)

    def _duration(self, picture: av.VideoFrame) -> int:
        """Ticks that `picture` says it lasts, or what its stream's rate says: the next one is not waited for."""
        if not picture.duration or picture.time_base is None:
            return self._usual
        return round(picture.duration * picture.time_base / self.spec.time_base)

    @property
    def container(self) -> str:
        """FFmpeg's name of the format the stream comes in."""
        return self._connection.facts.container

    @property
    def corrupt_packets(self) -> int:
        """Packets the decoder refused and frames it marked as damaged, so far."""
        return self._earlier_damage + (0 if self._connection.closed else self._connection.corrupt)

    @property
    def frame_count_estimate(self) -> int | None:
        """Frames asked for: a stream does not say how many it will bring."""
        return self._frames

    @property
    def duration(self) -> Fraction | None:
        """Seconds asked for: a stream does not say how long it will be."""
        return self._length

    def facts(self) -> dict[str, Any]:
        """Return what the stream is and what was met in it so far, as plain JSON-able values."""
        spec, stream = self.spec, self._connection.facts
        return {
            "path": self.source.name,
            "container": stream.container,
            "codec": stream.codec,
            "pix_fmt": self._pix_fmt,
            "layout": spec.layout.name,
            "width": spec.width,
            "height": spec.height,
            "frame_rate": str(spec.frame_rate) if spec.frame_rate else None,
            "time_base": str(spec.time_base),
            "matrix": spec.color.matrix,
            "full_range": spec.color.full_range,
            "frames": self._count,
            "corrupt_packets": self.corrupt_packets,
            "repaired_timestamps": self._timeline.repaired,
            "clock_jumps": self.source.clock.jumps,
            "size_changes": self._size_changes,
            "sound_dropped": self.sound.dropped,
            **self.source.facts(),
            "warnings": list(self.warnings()),
        }

    def vitals(self) -> Vitals:
        """Return how often the stream had to be had again."""
        return Vitals(reconnects=self.source.reconnects)

    def warnings(self) -> Iterator[str]:
        """Yield one line for each thing in the source that was not as it should be."""
        name = self.source.name
        for oddity in self._oddities:
            yield f"{name} {oddity}"
        if self.corrupt_packets:
            yield f"{name}: {self.corrupt_packets} damaged packets; what could be decoded was kept"
        if self._size_changes:
            size = f"{self.spec.width}x{self.spec.height}"
            yield f"{name}: the picture size changes; {self._size_changes} frames were resized to {size}"
        if self.source.clock.jumps:
            yield f"{name}: its clock jumped {self.source.clock.jumps} times; times were joined"
        if self.sound.dropped:
            yield f"{name}: {self.sound.dropped} packets of sound were dropped, far ahead of the picture"

    def stop(self) -> None:
        """End the stream now, from any thread: `__iter__` yields what has come and ends."""
        self.source.stop()

    def close(self) -> None:
        """Close the stream; frames already given out stay valid."""
        self.stop()
        self._connection.close()
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
