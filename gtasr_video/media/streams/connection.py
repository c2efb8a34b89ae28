"""A stream, opened once and demuxed once: pictures decoded without delay, sound packets passed on as they come."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import Any, Final

import av
from av.audio.stream import AudioStream
from av.codec.context import ThreadType
from av.container import InputContainer
from av.stream import Discard
from av.video.stream import VideoStream

from gtasr_video.errors import InputError
from gtasr_video.media.decoder import StreamFacts, facts_of
from gtasr_video.media.holding import entry_of
from gtasr_video.media.source import MAX_PIXELS, TO_THE_PIXEL, Packet, choose_video, packets_of
from gtasr_video.media.streams.byteflow import FileFlow, Inflow
from gtasr_video.media.streams.clock import StreamClock
from gtasr_video.media.streams.repeats import Repeats
from gtasr_video.media.streams.sound_queue import SoundPacket, SoundQueue

# Formats that can be read from beginning to end, and that lead to nothing else.
_FORMATS: Final = (
    "nut,matroska,webm,mpegts,yuv4mpegpipe,flv,mov,mp4,m4a,3gp,3g2,mj2,avi,mpeg,ogg,ivf,obu,h264,hevc,mjpeg"
)
_BUFFER: Final = 1 << 16
# Formats of bare pictures, in which FFmpeg says nothing of bytes left over.
_UNPACKED: Final = ("rawvideo", "yuv4mpegpipe")
# Pictures before the first key picture cannot be decoded; streams that never send one are shown after so many packets.
_LONGEST_WAIT: Final = 300


class Connection:
    """What `inflow` brings, opened with FFmpeg.

    name      for messages
    form      FFmpeg's name of the format, None to recognise it
    options   for that format
    seconds   how much may be read to find out what streams there are, before the first picture
    video_stream   index of the picture's stream; None takes the first that is no still
    repeats   knows what has come in earlier connections, which is left out; None: nothing comes twice
    way_out   what to say to someone whose format was not recognised, as the end of a sentence

    Raises InputError if it is no stream that can be read, or holds no picture, UsageError if it has no `video_stream`.

    corrupt   how many packets and pictures were damaged so far
    cut_off   how it ended, where that was within a picture: the end of a sentence about the stream
    """

    def __init__(
        self,
        inflow: Inflow | FileFlow,
        name: str,
        form: str | None = None,
        options: dict[str, str] | None = None,
        *,
        seconds: float = 5,
        max_pixels: int = MAX_PIXELS,
        video_stream: int | None = None,
        repeats: Repeats | None = None,
        way_out: str = "",
    ) -> None:
        self.inflow, self.name = inflow, name
        self._repeats, self._way_out = repeats, way_out
        self.corrupt = 0
        self.cut_off = ""
        self.closed = False
        self._container = self._open(form, self._options(form, options, seconds, max_pixels))
        self._form = self._container.format.name
        try:
            self.video: VideoStream = choose_video(self._container, name, video_stream)  # type: ignore[arg-type]
        except BaseException:
            self.close()
            raise
        context = self.video.codec_context
        if context.width * context.height > max_pixels:
            self.close()
            raise InputError(f"{name}: pictures of {context.width}x{context.height} are larger than allowed")
        self.facts: StreamFacts = facts_of(self._container, self.video)
        self.sounds: tuple[AudioStream, ...] = tuple(
            s for s in self._container.streams.audio if s.codec_context is not None
        )
        kept = {self.video.index, *(s.index for s in self.sounds)}
        self.others = tuple(entry_of(s) for s in self._container.streams if s.index not in kept)
        self._usual = {s.index: _usual_ticks(s) for s in self.sounds}
        self._next: dict[int, int] = {}
        self._set_up(max_pixels)
        self._arriving = self._packets()

    @staticmethod
    def _options(form: str | None, options: dict[str, str] | None, seconds: float, max_pixels: int) -> dict[str, str]:
        return {
            "format_whitelist": form or _FORMATS,
            "protocol_whitelist": "none",
            "max_pixels": str(max_pixels),
            "analyzeduration": str(round(seconds * av.time_base)),
            "fpsprobesize": "0",
            **(options or {}),
        }

    def _open(self, form: str | None, options: dict[str, str]) -> InputContainer:
        try:
            return av.open(
                self.inflow,
                mode="r",
                format=form,
                options=options,
                buffer_size=_BUFFER,
                metadata_errors="surrogateescape",
            )
        except (av.FFmpegError, ValueError) as error:
            self.inflow.close()
            if self.inflow.total == 0:
                raise InputError(f"{self.name}: nothing came") from error
            wanted = f"as {form}" if form else f"as a format that is known here{self._way_out}"
            raise InputError(f"{self.name}: cannot be read {wanted} ({getattr(error, 'strerror', error)})") from error

    def _set_up(self, max_pixels: int) -> None:
        kept = {self.video.index, *(s.index for s in self.sounds)}
        for stream in self._container.streams:
            stream.discard = Discard.default if stream.index in kept else Discard.all
        context: Any = self.video.codec_context
        context.options = {"max_pixels": str(max_pixels)}
        context.flags |= TO_THE_PIXEL
        # Several threads that share out frames would hold back as many frames.
        context.thread_type = ThreadType.SLICE

    def pictures(self, clock: StreamClock, sound: SoundQueue) -> Iterator[av.VideoFrame]:
        """Yield every picture in order of presentation, its times set by `clock`; sound goes into `sound`.

        Ends where the stream ends, is interrupted or falls silent: ``inflow.ended`` says which.
        """
        # One that was had again may have more sound than the output began with.
        wanted = self.sounds[: len(sound.tracks)]
        tracks = {stream.index: number for number, stream in enumerate(wanted)}
        clock.wraps = self._form == "mpegts"
        waiting: int | None = 0
        end = 0
        for packet in self._arriving:
            if packet.stream_index != self.video.index and packet.stream_index not in tracks:
                continue
            if packet.is_corrupt and self._form == "rawvideo":
                break  # it has too few bytes: those that are left over
            end = (packet.pos or 0) + packet.size
            self.corrupt += packet.is_corrupt
            time = self._move(packet, clock)
            if packet.stream_index in tracks:
                sound.put(SoundPacket(tracks[packet.stream_index], time, packet))
            elif packet.is_keyframe or waiting is None or waiting > _LONGEST_WAIT:
                waiting = None
                yield from self._decode(packet)
            else:
                waiting += 1
        yield from self._decode(None)
        if self._form in _UNPACKED and self.inflow.total > end and self.inflow.ended != "stopped":
            self.cut_off = self._within_a_picture()

    def has_news(self) -> bool:
        """Wait for the first packet that has not come before, and return whether one came."""
        first = next(self._arriving, None)
        if first is not None:
            self._arriving = chain([first], self._arriving)
        return first is not None

    def _packets(self) -> Iterator[Packet]:
        """Yield packets of picture and sound that have not come before; what breaks off has ended."""
        try:
            for packet in packets_of(self._container, [self.video, *self.sounds]):
                is_key = packet.stream_index == self.video.index and packet.is_keyframe
                if self._repeats is None or self._repeats.is_new(bytes(packet) if is_key else b"", key=is_key):
                    yield packet
        except av.FFmpegError as error:
            if self.inflow.ended != "stopped":
                self.cut_off = f"breaks off ({error.strerror}); what came before that is kept"

    def _within_a_picture(self) -> str:
        context = self.video.codec_context
        end = f"ends within a picture of {context.width}x{context.height}, which is left out"
        if self._form == "rawvideo":
            end += "; if the output is torn or discoloured, give the right --size and --input-pix-fmt"
        return end

    def _move(self, packet: Packet, clock: StreamClock) -> Fraction:
        """Move the times of `packet` onto `clock`; returns the decoding time in seconds.

        The first packets of an MPEG-TS may come without any: they follow the last of their track.
        """
        unit, track = packet.time_base, packet.stream_index
        if packet.dts is None and packet.pts is None:
            packet.pts = packet.dts = self._next.get(track)
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is None:
            return clock.end or Fraction(0)
        length = packet.duration or self._usual.get(track, 0)
        self._next[track] = stamp + length
        ticks = round(clock.shift(track, stamp * unit, length * unit) / unit)
        if packet.pts is not None:
            packet.pts += ticks
        if packet.dts is not None:
            packet.dts += ticks
        return (stamp + ticks) * unit

    def _decode(self, packet: Packet | None) -> list[av.VideoFrame]:
        try:
            frames = self.video.decode(packet)
        except av.FFmpegError:
            self.corrupt += 1
            return []
        self.corrupt += sum(frame.is_corrupt for frame in frames)
        return frames

    def why_empty(self) -> str:
        """Return why `pictures` yielded none."""
        if "mp4" in self._form and isinstance(self.inflow, Inflow):
            return (
                "no picture of this MP4 came; an index at its end, as cameras write it, is of no use in a pipe: "
                "give the file itself, or its copy by ffmpeg -movflags +faststart"
            )
        return "it ended before its first picture"

    def leave(self) -> None:
        """Let go of the way here; `sounds`, from which the form of an output is taken, stay valid until `close`."""
        self.closed = True
        self.inflow.close()

    def close(self) -> None:
        """Close the stream; frames and packets already given out stay valid, `sounds` do not."""
        self._container.close()
        self.leave()


def _usual_ticks(sound: AudioStream) -> int:
    """Return the ticks that a packet of `sound` lasts, 0 where packets differ."""
    context = sound.codec_context
    if not context.frame_size or not context.sample_rate or not sound.time_base:
        return 0
    return round(Fraction(context.frame_size, context.sample_rate) / sound.time_base)
