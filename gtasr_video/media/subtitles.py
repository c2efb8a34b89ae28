"""Text subtitles that a container cannot hold as they are, decoded and encoded as what it can."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import av
from av.container import OutputContainer
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

_MILLISECONDS: Final = Fraction(1, 1000)
_MICROSECONDS: Final = Fraction(1, 1_000_000)
_NEVER: Final = 2**32 - 1  # milliseconds by which a decoder says that it knows no end
_MOST_TICKS: Final = 2**31 - 2  # between samples of MP4: FFmpeg moves what comes later
_FARTHEST_TICKS: Final = 2**46  # two years of microseconds: only damage says so
_ASS_FIELDS: Final = 8  # before the text of a line
_NOTHING: Final = b"\0\0"  # a mov_text sample without text


class TextConverter:
    """Decodes subtitle packets of `source` and encodes them with `encoder` into a new stream of `output`.

    Times are kept. Italics, bold and the like survive where both formats have them; positions and fonts of ASS do not.
    """

    def __init__(
        self, source: SubtitleStream, output: OutputContainer, encoder: str, tick: Fraction = _MILLISECONDS
    ) -> None:
        self._source = source.codec_context
        with contextlib.suppress(av.FFmpegError, ValueError):
            self._source.open()  # makes the decoder tell its styles, which encoders ask for when they open
        stream: Any = output.add_stream(encoder)
        stream.time_base = stream.codec_context.time_base = tick
        if self._source.subtitle_header:
            stream.codec_context.subtitle_header = self._source.subtitle_header
        stream.codec_context.open()
        self.stream: SubtitleStream = stream
        self.damaged = 0

    def convert(self, packet: av.Packet[Any] | None) -> Iterator[av.Packet[Any]]:
        """Yield the packet that stands for a source packet, if it says anything; nothing at the end (None)."""
        if packet is None:
            return
        texts = self._decoded(packet)
        made = None if texts is None else self._encoded(texts)
        if texts is None or made is None:
            return
        made.pts = made.dts = packet.pts
        made.duration = packet.duration or round(_shown_for(texts) / packet.time_base)
        made.time_base, made.stream = packet.time_base, self.stream
        yield made

    def _decoded(self, packet: av.Packet[Any]) -> SubtitleSet | None:
        """Return what `packet` says, None if that is nothing or damaged."""
        try:
            texts = self._source.decode2(packet)
        except av.FFmpegError:
            self.damaged += 1
            return None
        return texts if texts is not None and len(texts) else None

    def _encoded(self, texts: SubtitleSet) -> av.Packet[Any] | None:
        try:
            return self.stream.codec_context.encode_subtitle(texts)
        except av.FFmpegError:
            self.damaged += 1
            return None


def _shown_for(texts: SubtitleSet) -> Fraction:
    """Return the seconds that `texts` say they are shown, 0 if that is not known."""
    return texts.end_display_time % _NEVER * _MILLISECONDS


@dataclass(slots=True)
class _Cue:
    """Lines in the manner of ASS, and from when to when they are on in seconds; `end` None: until the next come."""

    begin: Fraction
    end: Fraction | None
    lines: list[bytes]


class OneAtATime(TextConverter):
    """A `TextConverter` for MP4 and MOV, which show one text at a time: each is all that is on then, in order.

    What is on changes with each beginning and end, so a text is written only when all that begins before it ends is
    known: `until` says how far that is.
    """

    def __init__(self, source: SubtitleStream, output: OutputContainer, encoder: str) -> None:
        # FFmpeg compares a text's end in its own ticks with the times of other streams in theirs. With the finest
        # ticks of all it finds no text over before its time, which would move all that comes after.
        ticks = [stream.time_base for stream in source.container.streams if stream.time_base]
        self._tick = Fraction(1, max(tick.denominator for tick in (_MICROSECONDS, *ticks)))
        super().__init__(source, output, encoder, self._tick)
        self._cues: list[_Cue] = []
        self._written: Fraction | None = None
        self._known = Fraction(0)

    def convert(self, packet: av.Packet[Any] | None) -> Iterator[av.Packet[Any]]:
        """Take note of what a source packet says; at the end (None), yield all that is left."""
        if packet is None:
            for cue in self._cues:
                if cue.end is None:
                    cue.end = max(cue.begin + self._tick, self._known)
            yield from self._changes(None)
        elif (texts := self._decoded(packet)) is not None:
            lines = [bytes(text.ass) for text in texts if isinstance(text, AssSubtitle)]
            length = (packet.duration or 0) * packet.time_base or _shown_for(texts)
            self._add((packet.pts or 0) * packet.time_base, length, lines)

    def _add(self, begin: Fraction, length: Fraction, lines: list[bytes]) -> None:
        farthest = _FARTHEST_TICKS * self._tick
        if abs(begin) > farthest:
            self.damaged += 1
            return
        if self._written is not None and begin <= self._written:  # it lies late in the file
            begin = self._known
        for cue in self._cues:
            if cue.end is None and cue.begin < begin:
                cue.end = begin
        self._cues.append(_Cue(begin, begin + length if 0 < length <= farthest else None, lines))

    def until(self, time: Fraction) -> Iterator[av.Packet[Any]]:
        """Yield the packets for all that changes before `time` in seconds, before which no more begins."""
        yield from self._changes(time)
        self._known = max(self._known, time)

    def _changes(self, time: Fraction | None) -> Iterator[av.Packet[Any]]:
        while (change := self._next_change()) is not None:
            at = min(change, (self._written or 0) + _MOST_TICKS * self._tick)
            waits = any(cue.end is None and cue.begin <= at for cue in self._cues)
            if time is not None and (at >= time or waits):
                return
            made = self._on_at(at)
            if made is None and at < change:
                made = av.Packet(_NOTHING)
            if made is not None:
                yield self._timed(made, at)

    def _on_at(self, at: Fraction) -> av.Packet[Any] | None:
        """Return a sample of all that is on from the time `at` on; of nothing none, for which FFmpeg cares itself."""
        self._written = at
        self._cues = [cue for cue in self._cues if cue.end is None or cue.end > at]
        lines = [line for cue in self._cues if cue.begin <= at for line in cue.lines]
        return self._encoded(SubtitleSet.create(_together(lines), 0, 0)) if lines else None

    def _next_change(self) -> Fraction | None:
        times = (time for cue in self._cues for time in (cue.begin, cue.end) if time is not None)
        return min((time for time in times if self._written is None or time > self._written), default=None)

    def _timed(self, made: av.Packet[Any], at: Fraction) -> av.Packet[Any]:
        then = self._next_change()
        made.pts = made.dts = round(at / self._tick)
        made.duration = 0 if then is None else min(_MOST_TICKS, round(then / self._tick) - made.pts)
        made.time_base, made.stream = self._tick, self.stream
        return made


def _together(lines: list[bytes]) -> bytes:
    """Return one line in the manner of ASS that says what all `lines` say, one below the other."""
    head = lines[0].split(b",", _ASS_FIELDS)[:_ASS_FIELDS]
    texts = [line.split(b",", _ASS_FIELDS)[-1] for line in lines]
    return b",".join([*head, b"{\\r}\\N".join(texts)])
