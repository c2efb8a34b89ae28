"""Frames of a stream as they come: one demuxer, no frame held back, one time line whatever happens on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from typing import Any, Protocol

import av

from gtasr_video.errors import InputError
from gtasr_video.frames import Frame, VideoSpec, Vitals
from gtasr_video.media.blocks import ReaderBlock
from gtasr_video.media.conform import Conformer
from gtasr_video.media.decoder import StreamFacts
from gtasr_video.media.deinterlace import Deinterlace, Deinterlacer, Fields, Timed
from gtasr_video.media.streams.clock import StreamClock
from gtasr_video.media.streams.connection import Connection
from gtasr_video.media.streams.sound_queue import SoundQueue
from gtasr_video.media.streams.stopwatch import Stopwatch
from gtasr_video.media.timeline import Timeline


class Source(Protocol):
    """Where a stream comes from, and how it is had again when it breaks off; `waits` runs while nothing comes."""

    name: str
    clock: StreamClock
    waits: Stopwatch

    @property
    def reconnects(self) -> int:
        """How often it was had again after it had broken off."""

    @property
    def lost(self) -> int:
        """Packets that the network lost on their way here, as far as can be told."""

    @property
    def lost_segments(self) -> int:
        """Segments of a list that could not be had, of a stream that comes by one."""

    @property
    def can_wait(self) -> bool:
        """Whether it can be made to wait for us, and nothing is lost by it; known once it has been opened."""

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


class StreamReader(ReaderBlock):
    """Read the picture of a stream that can be read only once; its sound is put into `sound` on the way.

    Frames are given out as soon as they are decoded. Their pts are ticks of ``spec.time_base`` and go on across
    connections; frames of another size or format than the first are brought to the first one's, as by `Reader`.
    `stop` ends the stream from any thread, as its own end would: nothing that came is lost.

    duration  yield the frames of so many seconds from the first on; frames: at most so many. The stream ends then.
    deinterlace   auto makes whole pictures of the frames that say that they are interlaced, and of all others never:
                  nothing is held back to look at it; always, never. bwdif holds back one frame

    Raises InputError if it cannot be opened, or holds no frame that can be decoded.
    """

    def __init__(
        self,
        source: Source,
        *,
        duration: Fraction | None = None,
        frames: int | None = None,
        deinterlace: Deinterlace = "auto",
    ) -> None:
        self.source = source
        self._length, self._frames = duration, frames
        self._earlier_damage = self._homeless = 0
        self._damage_until_stop: int | None = None
        self._fields = Deinterlacer(deinterlace, Fields)
        # The connection that brought the first picture: it says what the stream is, and its sound tracks stay valid.
        self._opening = self._connection = source.open()
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        pictures = self._begun()
        facts = self._opening.facts
        self._timeline = Timeline(facts.time_base, facts.frame_rate)
        self._usual = round(1 / (facts.frame_rate * facts.time_base)) if facts.frame_rate else 0
        placed = self._placed(pictures)
        head = next(placed)
        facts = _counting_pictures(facts, head)
        self._pictures = self._fields.pictures(chain([head], placed), facts)
        first = next(self._pictures)
        self._waited_before = self.source.waits.seconds
        self._first: Timed | None = first
        self._conformer = Conformer(first.picture, facts, self._fields)

    @property
    def spec(self) -> VideoSpec:
        """What all frames share."""
        return self._conformer.spec

    def _begun(self) -> Iterator[av.VideoFrame]:
        """Return the pictures of the first connection that brings any; what came of those before it is forgotten."""
        while True:
            connection = self._opening = self._connection
            self.sound = SoundQueue(connection.sounds)
            pictures = connection.pictures(self.source.clock, self.sound)
            first = next(pictures, None)
            if first is not None:
                return chain([first], pictures)
            connection.close()
            self.source.clock.forget()
            if not self._connected_again():
                raise InputError(f"{self.source.name}: {connection.why_empty()}")

    def _placed(self, pictures: Iterator[av.VideoFrame]) -> Iterator[Timed]:
        """Yield `pictures`, and those of one connection after the other, on one time line."""
        while True:
            fresh = True
            for picture in pictures:
                pts, cut = self._timeline.place(*self._ticks(picture))
                yield Timed(picture, pts, cut or fresh, self._duration(picture))
                fresh = False
            self._earlier_damage += self._connection.corrupt
            if self._connection is self._opening:
                self._connection.leave()
            else:
                self._connection.close()
            self.source.clock.join()
            if not self._connected_again():
                return
            self._homeless = max(self._homeless, len(self._connection.sounds) - len(self.sound.tracks))
            pictures = self._connection.pictures(self.source.clock, self.sound)

    def _connected_again(self) -> bool:
        """Connect once more, and return whether there is more."""
        connection = self.source.again()
        if connection is None:
            return False
        self._connection = connection
        return True

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
            yield self._conformer.frame(placed, placed.duration)

    def _is_past(self, ticks: int) -> bool:
        """Return whether a frame, `ticks` after the first, lies beyond what was asked for."""
        if self._frames is not None and self._conformer.count >= self._frames:
            return True
        return self._length is not None and ticks * self.spec.time_base >= self._length

    def _duration(self, picture: av.VideoFrame) -> int:
        """Ticks that `picture` says it lasts, or what its stream's rate says: the next one is not waited for."""
        if not picture.duration or picture.time_base is None:
            return self._usual
        return round(picture.duration * picture.time_base / self._timeline.time_base)

    @property
    def others(self) -> tuple[dict[str, Any], ...]:
        """What the stream holds besides picture and sound, and is not read: index, type, codec, language of each."""
        return self._opening.others

    @property
    def needs_layer(self) -> bool:
        """Whether the picture's colours are wrong without a Dolby Vision layer, which is not read."""
        return self._conformer.needs_layer

    @property
    def stereo_mode(self) -> str | None:
        """Matroska's name of how a picture holds two eyes, None if it holds one."""
        return self._conformer.stereo_mode

    @property
    def container(self) -> str:
        """FFmpeg's name of the format the stream comes in."""
        return self._opening.facts.container

    @property
    def corrupt_packets(self) -> int:
        """Packets the decoder refused and frames it marked as damaged, so far."""
        if self._damage_until_stop is not None:
            return self._damage_until_stop
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
        return {
            "path": self.source.name,
            **self._conformer.facts(),
            "corrupt_packets": self.corrupt_packets,
            "repaired_timestamps": self._timeline.repaired,
            "clock_jumps": self.source.clock.jumps,
            "sound_dropped": self.sound.dropped,
            **self.source.facts(),
            "warnings": list(self.warnings()),
        }

    def vitals(self) -> Vitals:
        """Return how often the stream had to be had again, how long it was waited for, and what was lost."""
        return Vitals(
            reconnects=self.source.reconnects,
            lost=self.source.lost,
            waited_s=self.source.waits.seconds - self._waited_before,
        )

    def warnings(self) -> Iterator[str]:
        """Yield one line for each thing in the source that was not as it should be."""
        name = self.source.name
        yield from self._conformer.warnings(name, self.corrupt_packets)
        # Of a stream that is had again its source says why.
        if self._connection.cut_off and self.source.can_wait:
            yield f"{name} {self._connection.cut_off}"
        if self.source.clock.jumps:
            yield f"{name}: its clock jumped {self.source.clock.jumps} times; times were joined"
        if self.source.lost:
            yield f"{name}: {self.source.lost} packets were lost on the way here"
        if self.source.lost_segments:
            count = self.source.lost_segments
            yield f"{name}: {count} segments of its list could not be had; what they held is missing"
        if self._homeless:
            tracks = len(self.sound.tracks)
            yield (
                f"{name}: it came back with {tracks + self._homeless} sound tracks instead of {tracks}; the output has "
                "no place for those that it did not begin with"
            )
        if self.sound.dropped:
            yield f"{name}: {self.sound.dropped} packets of sound were dropped, far ahead of the picture"

    def stop(self) -> None:
        """End the stream now, from any thread: `__iter__` yields what has come and ends."""
        # The packet in which we end is cut short by ourselves: that is no damage of the source's.
        self._damage_until_stop = self.corrupt_packets
        self.source.stop()

    def close(self) -> None:
        """Close the stream; frames already given out stay valid."""
        self.stop()
        self._connection.close()
        self._opening.close()
        self.source.close()


def _counting_pictures(facts: StreamFacts, first: Timed) -> StreamFacts:
    """Return `facts` with the rate of pictures where it is that of fields: no frames were counted to tell."""
    rate = facts.frame_rate
    if rate and first.picture.interlaced_frame and round(first.duration * facts.time_base * rate) == 2:
        return replace(facts, frame_rate=rate / 2)
    return facts
