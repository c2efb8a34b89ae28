"""Everything of the source that is not the picture: sound, subtitles, attachments, chapters, tags.

The writer owns a second container on the source file and copies packets from there as the picture advances; see
docs/decisions/0003-sound-and-side-streams.md for why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Discard, Stream

from gtasr_video.media.audio import Reencoder
from gtasr_video.media.codecs import Container
from gtasr_video.media.source import Packet, codec_name, is_cover, open_input, packets_of

# What MPEG-TS players know; FFmpeg would mux the rest as private data that nothing can play.
_TS_CODECS: Final = {"aac", "mp2", "mp3", "ac3", "eac3", "dts", "opus", "truehd", "dvb_subtitle"}
# Tags that describe the source file rather than the work, and would be wrong in the output.
_STALE: Final = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "rotate"}
_STATISTICS: Final = ("BPS", "NUMBER_OF_BYTES", "NUMBER_OF_FRAMES", "_STATISTICS_", "DURATION")
_RUN_UP_SECONDS: Final = 10


@dataclass(slots=True)
class _Carried:
    """A source stream on its way into the output; `shift` ticks are taken off its times."""

    source: Stream
    target: Stream
    shift: int
    reencoder: Reencoder | None = None
    last_dts: int | None = None
    next_dts: int = 0
    repaired: int = 0


class SideStreams:
    """The streams of `path` other than the picture's, copied into an output.

    picture   index of the stream that is not copied because it is what the frames come from
    origin    file time in seconds that becomes 0 in the output, and before which nothing is copied; None copies
              from the beginning with unchanged times
    length    seconds after `origin` that chapters are cut to, None for all
    """

    def __init__(self, path: Path, picture: int, origin: Fraction | None, length: Fraction | None) -> None:
        self._container = open_input(path)
        self._picture, self._origin, self._length = picture, origin, length
        self._carried: dict[int, _Carried] = {}
        self._report: list[dict[str, Any]] = []
        self._packets: Iterator[Packet] = iter(())
        self._held: Packet | None = None

    def sample_rates(self) -> tuple[int, ...]:
        """Samples a second of each sound track."""
        return tuple(s.codec_context.sample_rate for s in self._container.streams.audio if s.codec_context is not None)

    def add_to(self, output: OutputContainer, form: Container, add_picture: Callable[[], Stream]) -> None:
        """Add a stream to `output` for each of the source's it can hold, in the source's order, and all tags."""
        self._output = output
        for stream in self._container.streams:
            if stream.index == self._picture:
                _copy_tags(stream, add_picture())
            else:
                self._add(stream, form)
        output.metadata.update(_lasting(self._container.metadata))
        output.set_chapters(self._chapters())
        self._start_reading()

    def _add(self, stream: Stream, form: Container) -> None:
        reason = _refusal(stream, form, bool(self._container.chapters()))
        target: Stream | None = None
        reencoder: Reencoder | None = None
        if reason is None:
            try:
                target = self._output.add_stream_from_template(stream, opaque=True)
            except (ValueError, av.FFmpegError):
                reason = f"{form.muxer} cannot hold {codec_name(stream)}"
        if target is None and isinstance(stream, AudioStream) and stream.codec_context is not None:
            try:
                reencoder = Reencoder(stream, self._output, form.sound)
                target = reencoder.stream
            except (ValueError, av.FFmpegError) as error:
                reason = f"{reason}, and encoding it again failed: {error}"
        self._note(stream, "left out" if target is None else "converted" if reencoder else "copied", reason)
        if target is not None:
            _copy_tags(stream, target)
            shift = round(self._origin / stream.time_base) if self._origin and stream.time_base else 0
            self._carried[stream.index] = _Carried(stream, target, shift, reencoder)

    def _note(self, stream: Stream, action: str, reason: str | None) -> None:
        entry = {
            "index": stream.index,
            "type": stream.type,
            "codec": codec_name(stream),
            "language": stream.language,
            "action": action,
        }
        self._report.append(entry if reason is None else {**entry, "reason": reason})

    def _chapters(self) -> list[Any]:
        """Chapters of the part that is kept, in the output's time."""
        kept = []
        for chapter in self._container.chapters():
            unit = chapter["time_base"] or Fraction(1, av.time_base)
            shift = round((self._origin or 0) / unit)
            last = None if self._length is None else round(self._length / unit)
            start, end = max(0, chapter["start"] - shift), chapter["end"] - shift
            end = end if last is None else min(end, last)
            if end > start or self._origin is self._length is None:
                kept.append({**chapter, "start": start, "end": end, "time_base": unit})
        return kept

    def _start_reading(self) -> None:
        for stream in self._container.streams:
            wanted = stream.index in self._carried
            stream.discard = Discard.default if wanted else Discard.all
        if self._origin is not None and self._origin > _RUN_UP_SECONDS:
            position = (self._origin - _RUN_UP_SECONDS) * av.time_base
            with contextlib.suppress(av.FFmpegError):  # a file that cannot be searched is read from the start
                self._container.seek(int(position))
        if self._carried:
            self._packets = packets_of(self._container, [c.source for c in self._carried.values()])

    def copy_until(self, time: Fraction | None) -> None:
        """Copy every packet whose output time in seconds is before `time`; None copies all that are left."""
        while (packet := self._held or self._next()) is not None:
            self._held = packet
            if time is not None and (packet.dts or 0) * packet.time_base >= time:
                return
            self._held = None
            self._copy(packet)

    def _next(self) -> Packet | None:
        """Return the next packet of a carried stream, with its times in the output's clock."""
        try:
            for packet in self._packets:
                if self._place(packet, self._carried[packet.stream_index]):
                    return packet
        except av.FFmpegError:  # the picture's reader has reported where the file is damaged
            pass
        return None

    def _place(self, packet: Packet, carried: _Carried) -> bool:
        """Set the output times of `packet`; return whether it belongs to the part that is kept.

        Muxers need decoding times that increase: a missing one is the pts or follows the last, one that goes back
        is set one tick after the last.
        """
        if packet.dts is None:
            packet.dts = packet.pts if packet.pts is not None else carried.next_dts
        if packet.pts is None:
            packet.pts = packet.dts
        packet.pts, packet.dts = packet.pts - carried.shift, packet.dts - carried.shift
        if self._origin is not None and packet.pts < 0:
            return False
        if carried.last_dts is not None and packet.dts <= carried.last_dts:
            carried.repaired += 1
            packet.dts = carried.last_dts + 1
            packet.pts = max(packet.pts, packet.dts)
        carried.last_dts = packet.dts
        carried.next_dts = packet.dts + max(1, packet.duration or 0) + carried.shift
        return True

    def _copy(self, packet: Packet) -> None:
        carried = self._carried[packet.stream_index]
        if carried.reencoder is not None:
            self._output.mux(list(carried.reencoder.convert(packet)))
            return
        packet.stream = carried.target
        self._output.mux(packet)

    def finish(self, end: Fraction | None) -> None:
        """Copy what is left before `end` (output seconds; None: all) and drain what is encoded."""
        self.copy_until(end)
        for carried in self._carried.values():
            if carried.reencoder is not None:
                self._output.mux(list(carried.reencoder.convert(None)))

    def facts(self) -> list[dict[str, Any]]:
        """Return one entry a stream: index, type, codec, language, action (copied, converted, left out), reason."""
        return [dict(entry) for entry in self._report]

    def warnings(self) -> Iterator[str]:
        """Yield one line for each thing that could not be carried over as it was."""
        for entry in self._report:
            if entry["action"] == "left out" and entry["type"] != "chapters":
                yield f"{entry['type']} stream {entry['index']} was left out: {entry['reason']}"
        for index, carried in self._carried.items():
            if carried.repaired:
                yield f"sound or other stream {index}: {carried.repaired} timestamps were out of order"

    def close(self) -> None:
        """Close the source."""
        self._container.close()


def _refusal(stream: Stream, form: Container, has_chapters: bool) -> str | None:
    """Return why `stream` is not copied into `form`, or None if it may be tried."""
    kind = stream.type
    if kind == "video":
        if not is_cover(stream):
            return "another picture stream; only one is enlarged"
        return None if form.muxer in ("mp4", "mov") else f"{form.muxer} cannot hold a cover picture here"
    if kind == "data":
        chapter_track = has_chapters and codec_name(stream) == "bin_data"
        return "it lists the chapters, which are copied" if chapter_track else "data streams are not carried"
    if kind == "attachment":
        return None if form.muxer == "matroska" else f"{form.muxer} cannot hold attachments"
    context: Any = stream.codec_context
    if context is None:
        return "FFmpeg knows no decoder for it, without which it cannot be described to the output"
    if form.muxer == "mpegts" and codec_name(stream) not in _TS_CODECS:
        return f"{form.muxer} cannot hold {codec_name(stream)}"
    return None


def _copy_tags(source: Stream, target: Stream) -> None:
    target.metadata.update(_lasting(source.metadata))
    target.disposition = source.disposition


def _lasting(metadata: dict[str, str]) -> dict[str, str]:
    """Return the tags that stay true of the output."""
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _STALE and not key.upper().startswith(_STATISTICS)
    }
