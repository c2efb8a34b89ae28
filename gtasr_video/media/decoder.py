"""Raw decoded pictures of one file: packets in, frames out, damage counted, positions exact."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import av
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from gtasr_video.errors import InputError
from gtasr_video.frames import ChromaSiting
from gtasr_video.media import ffv1, tags
from gtasr_video.media.endings import Ending, stated_ending
from gtasr_video.media.hardware import Door, Watch, fits, try_door
from gtasr_video.media.joints import Joints
from gtasr_video.media.source import (
    MAX_PIXELS,
    TO_THE_PIXEL,
    Packet,
    choose_video,
    codec_name,
    may_be_joined,
    open_input,
    packets_of,
    seconds,
    start_of,
)

log = logging.getLogger("gtasr_video")

_MOST_THREADS = 4
_BACK_OFF_SECONDS = (0, 1, 5, 25)


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What the container says of the picture's stream; plain values, so that they outlive the container.

    begin     file time in seconds of what a player shows as 0
    start     first timestamp of the stream in ticks, None if unknown
    ticks     its length in ticks, None if unknown
    length    its length in seconds, or the whole file's where it does not say, None if unknown
    ending    when it ends, as far as is said
    frames    how many there are, 0 if unknown
    description   what FFmpeg prints of it (`tags.describe`)
    colors    what is said of its colours
    """

    index: int
    container: str
    codec: str
    time_base: Fraction
    frame_rate: Fraction | None
    sample_aspect: Fraction
    field_order: int
    siting: ChromaSiting
    begin: Fraction
    start: int | None
    ticks: int | None
    length: Fraction | None
    ending: Ending | None
    frames: int
    description: str = ""
    colors: tags.Stated = tags.NOTHING_STATED


class Decoder:
    """A video stream of a file, decoded in software by a bounded number of threads, or by hardware.

    Where the clock of the file starts again, times go on: `joints` knows where and by how much.

    video_stream  its index in the file; None takes the first that is no still
    door         opens a hardware decoder; where that fails, or loses a frame, software decodes: from there on, and
                 without a gap (`given_up` counts)
    facts        what the container says of the stream
    corrupt      packets the decoder refused or whose checksums fail, and frames it marked as damaged
    first_dts    decoding time of the first packet, as long as none has had a presentation time
    guesses_pts  True if the container has no presentation times, so that frames get theirs in reading
    finds_any_time   whether `seek` finds times behind a joint, too, by going through all that comes before
    became       the codec that the picture went on in, "" where it kept its own
    broken       True if reading stopped at an error before the end of the file
    """

    def __init__(
        self,
        path: Path,
        video_stream: int | None = None,
        *,
        threads: int | None = None,
        facts: StreamFacts | None = None,
        door: Door | None = None,
    ) -> None:
        self.path = path
        self._door = door
        self.given_up = 0
        self._last: int | None = None
        self._wanted = video_stream
        self.corrupt = 0
        self.broken = False
        self.became = ""
        self._threads = threads or min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        self._packets_in = self._frames_out = 0
        self.first_dts: int | None = None
        self._open()
        self.facts = facts or facts_of(self._container, self._stream)
        # AVI stores decoding times only; what comes as pts are guesses, later than the sound by the reordering.
        self.guesses_pts = self.facts.container == "avi"

    def _open(self) -> None:
        self._closed = False
        through = try_door(self._door, self.path)
        if through is None:
            self._door = None
        self._container: InputContainer = through or open_input(self.path)
        try:
            self._stream: VideoStream = choose_video(self._container, self.path, self._wanted)
        except BaseException:
            self._container.close()
            raise
        for other in self._container.streams:
            other.discard = av.stream.Discard.default if other is self._stream else av.stream.Discard.all
        self._context = context = self._set_up(_context_of(self._stream))
        self._codec = self._codec_now()
        if context is not self._stream.codec_context:
            self._door = None  # this stream needs a decoder of its own
        if self._door is not None:
            self._door.set_up(context)
        self._watch = Watch()
        self._size: tuple[int, int] | None = None
        self.joints, self.finds_any_time = Joints(), may_be_joined(self._container)
        self._skip = 0
        self._packets: Iterable[Packet] = packets_of(self._container, [self._stream])

    def _set_up(self, context: VideoCodecContext) -> VideoCodecContext:
        context.options = {"max_pixels": str(MAX_PIXELS)}
        context.flags |= TO_THE_PIXEL
        context.thread_type = av.codec.context.ThreadType.AUTO
        context.thread_count = self._threads
        return context

    def _codec_now(self) -> str:
        return tags.codec_in(tags.describe(self._container).get(self._stream.index, ""))

    def _follow_codec(self) -> list[av.VideoFrame]:
        """Decode from here on what the stream has become; return what the decoder before still holds, if it has."""
        codec = self._codec_now()
        if codec in ("", self._codec):
            return []
        try:
            context = av.CodecContext.create(codec, "r")
        except ValueError:  # no decoder for it: its packets count as damaged
            return []
        assert isinstance(context, VideoCodecContext)
        before, self._context, self._codec = self._context, self._set_up(context), codec
        self.became = codec
        with contextlib.suppress(av.FFmpegError):
            return before.decode(None)
        return []

    @property
    def on_hardware(self) -> bool:
        """Whether hardware decodes at present."""
        return self._door is not None

    @property
    def has_size(self) -> bool:
        """Whether the pictures have a size that can be decoded; FFmpeg forgets one that is beyond the limit."""
        return 0 < self._context.width * self._context.height <= MAX_PIXELS

    def close(self) -> None:
        """Close the file; frames already given out stay valid."""
        self._closed = True
        self._container.close()

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yield every frame from the present position on, in presentation order, drained at the end.

        Where a decoder with several threads lost frames at a damaged end, a second pass with one thread over the
        last group of pictures brings them.
        """
        last: int | None = None
        for frame in self._decode_all():
            last = frame.pts if frame.pts is not None else last
            yield frame
        if self._threads > 1 and self._frames_out < self._packets_in and last is not None:
            yield from self._tail(last)

    def _decode_all(self) -> Iterator[av.VideoFrame]:
        for packet in self._readable():
            if self._packets_in == 0:
                self.first_dts = packet.dts
            if packet.pts is not None and not self.guesses_pts:
                self.first_dts = None
            self._packets_in += packet.size > 0 and not packet.is_discard
            if self.facts.codec == "ffv1" and packet.size:
                self.corrupt += ffv1.has_damage(bytes(packet))
            if self._door is not None:
                decoded = self._decode_on_hardware(self._door, packet)
                if decoded is None:
                    yield from self._in_software()
                    return
            else:
                decoded = self._follow_codec() if self.finds_any_time and packet.is_keyframe else []
                try:
                    decoded += self._context.decode(packet)
                except av.FFmpegError:
                    self.corrupt += 1
            for frame in decoded:
                self._frames_out += 1
                self.corrupt += frame.is_corrupt
                if self.guesses_pts:
                    frame.pts = None
                self._last = frame.pts if frame.pts is not None else self._last
                yield frame

    def _decode_on_hardware(self, door: Door, packet: Packet) -> list[av.VideoFrame] | None:
        """Return the frames that came out, or None if the hardware failed, left one out or gives another kind."""
        if packet.size and not packet.is_discard:
            self._watch.fed(packet.pts)
        try:
            decoded = door.decode(self._stream, packet)
        except av.FFmpegError:
            return None
        if not all(map(self._is_expected, decoded)):
            return None
        held_back_at_the_end = not packet.size and self._watch.awaited
        return None if held_back_at_the_end else decoded

    def _is_expected(self, frame: av.VideoFrame) -> bool:
        """Return whether `frame` is the next one, and of the size and form of all."""
        self._size = self._size or (frame.width, frame.height)
        return not self._watch.lost(frame.pts) and fits(frame) and self._size == (frame.width, frame.height)

    def _in_software(self) -> Iterator[av.VideoFrame]:
        """Yield what comes after the last frame given out, decoded in software from a key frame before it."""
        last, self._door = self._last, None
        sought = self.finds_any_time or not self.joints.count
        self.given_up += 1
        log.warning("%s: the hardware's decoder lost a frame; decoding goes on in software", self.path)
        self.reopen()
        if last is not None and sought:
            self.seek(last * self.facts.time_base)
        for frame in self._decode_all():
            if last is None or frame.pts is None or frame.pts > last:
                yield frame

    def _readable(self) -> Iterator[Packet]:
        """Yield packets, and after the last one that can be read the empty one that drains the decoder."""
        yield from islice(self._joined(), self._skip, None)
        yield self._flush_packet()

    def _joined(self) -> Iterator[Packet]:
        """Yield the packets up to the last one that can be read, on one clock."""
        packets = iter(self._packets)
        while True:
            if self._closed:  # PyAV would read on in memory that is no longer its own
                raise InputError(f"{self.path}: it was closed before all its frames were read; read on before that")
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                self.broken = True
                packet = None
            if packet is None:
                break
            yield from self.joints.push(packet)
        yield from self.joints.drain()

    def _flush_packet(self) -> Packet:
        packet: Packet = av.Packet()
        packet.stream, packet.time_base = self._stream, self.facts.time_base
        return packet

    def _tail(self, last: int) -> Iterator[av.VideoFrame]:
        careful = Decoder(self.path, self.facts.index, threads=1, facts=self.facts)
        try:
            careful.seek(last * self.facts.time_base)
            for frame in careful.frames():
                if frame.pts is not None and frame.pts > last:
                    yield frame
        finally:
            careful.close()

    def seek(self, target: Fraction) -> None:
        """Make `frames` begin at a key frame from which every frame at or after `target` (file time) is whole.

        Steps back until the key frame found is presented no later than `target`: containers index decoding
        times, and a key frame decoded before `target` may be presented after it. Where no key frame says when that is,
        it is the beginning, from which times are counted. Files that may have been joined are searched by reading: in
        them one time may lie in two places.
        """
        if self.finds_any_time:
            self._read_up_to(target)
            return
        beginning = seconds(self.facts.start, self.facts.time_base) or Fraction(0)
        for margin in _BACK_OFF_SECONDS:
            wanted = target - margin
            if wanted <= beginning or not self._seek_once(wanted):
                break
            key, rest = self._next_key()
            if key is not None and self._shown(key) <= target / self.facts.time_base:
                self._packets = chain([key], rest)
                return
        self.reopen()

    def _read_up_to(self, target: Fraction) -> None:
        """Make `frames` begin at the last key frame that is presented no later than `target`."""
        wanted, key = target / self.facts.time_base, 0
        for number, packet in enumerate(self._joined()):
            if packet.is_keyframe and packet.pts is not None and packet.pts <= wanted:
                key = number
            if packet.dts is not None and packet.dts > wanted:
                break
        self.reopen()
        self._skip = key

    def reopen(self) -> None:
        """Begin again at the beginning."""
        self._container.close()
        self._packets_in = self._frames_out = 0
        self._last = None
        self.broken = False
        self._open()

    def _seek_once(self, wanted: Fraction) -> bool:
        try:
            self._container.seek(int(wanted / self.facts.time_base), stream=self._stream, backward=True)
        except av.FFmpegError:
            return False
        return True

    def _shown(self, key: Packet) -> float:
        """Return the ticks at which `key` is presented; decoding times are those only where nothing is reordered."""
        stamp = None if self.guesses_pts else key.pts
        if stamp is None and self._stream.codec_context.codec.intra_only:
            stamp = key.dts
        return math.inf if stamp is None else stamp

    def _next_key(self) -> tuple[Packet | None, Iterator[Packet]]:
        packets = packets_of(self._container, [self._stream])
        try:
            found = next((p for p in packets if p.is_keyframe), None)
        except av.FFmpegError:
            found = None
        return found, packets


def _context_of(stream: VideoStream) -> VideoCodecContext:
    """Return what decodes `stream`: FFmpeg's own decoders, but for VP8 and VP9 with alpha, which those leave out."""
    transparent = any(k.lower() == "alpha_mode" and v == "1" for k, v in stream.metadata.items())
    encoder = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(codec_name(stream))
    if not (transparent and encoder):
        return stream.codec_context
    context = av.CodecContext.create(encoder, "r")
    context.extradata = stream.codec_context.extradata
    assert isinstance(context, VideoCodecContext)
    return context


def facts_of(container: InputContainer, stream: VideoStream) -> StreamFacts:
    """Return what `container` says of `stream`."""
    begin = start_of(container, [s for s in container.streams if s.type in ("video", "audio")])
    ending = stated_ending(container, stream, begin)
    start = seconds(stream.start_time, stream.time_base)
    first = begin if start is None else start
    description = tags.describe(container).get(stream.index, "")
    return StreamFacts(
        index=stream.index,
        container=container.format.name,
        codec=codec_name(stream),
        time_base=stream.time_base or Fraction(1, av.time_base),
        frame_rate=stream.average_rate or stream.guessed_rate or None,
        sample_aspect=stream.sample_aspect_ratio or Fraction(1),
        field_order=stream.codec_context.field_order,
        siting=tags.chroma_siting(description),
        begin=begin,
        start=stream.start_time,
        ticks=stream.duration,
        length=None if ending is None or ending.time <= first else ending.time - first,
        ending=ending,
        frames=stream.frames,
        description=description,
        colors=tags.stated_colors(stream),
    )
