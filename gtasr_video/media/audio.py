"""Sound that a container cannot hold as it is, decoded and encoded again."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer

_BITS_PER_CHANNEL = {"aac": 96_000, "libopus": 64_000}
# Channel counts whose usual layout stands in where an encoder lacks the source's own (5.1 with side speakers).
_USUAL = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_BITEXACT = 1 << 23  # AV_CODEC_FLAG_BITEXACT


def copied_track(source: AudioStream, output: OutputContainer) -> AudioStream:
    """Add a track to `output` into which packets of `source` can be copied, and return it.

    MP4 has to say the layout of PCM; where the source does not, as Matroska never does, it is the usual one of as many
    channels. Raises ValueError or av.FFmpegError where `output` cannot hold such sound.
    """
    target: AudioStream = output.add_stream_from_template(source, opaque=True)
    context = target.codec_context
    if output.format.name == "mp4" and context.name.startswith("pcm_") and not _says_layout(source):
        # FFmpeg would fail at the end, when it writes the index; here it does where there is no usual layout.
        context.layout = _any_layout(context.channels)
    return target


def can_be_mixed(source: AudioStream) -> bool:
    """Return whether it is known what the channels of `source` are: of 9 that have no name FFmpeg can make nothing."""
    try:
        return _says_layout(source) or bool(av.AudioLayout(_any_layout(source.codec_context.channels)))
    except ValueError:
        return False


def _says_layout(source: AudioStream) -> bool:
    return not source.codec_context.layout.name.endswith("channels")  # as in "2 channels"


def _any_layout(channels: int) -> str:
    """Return FFmpeg's name for the layout it takes for usual where only the number of channels is known."""
    return f"{channels}c"


class Reencoder:
    """Decodes packets of `source` and encodes them with `encoder` into a new stream of `output`.

    Rate and channels are kept where the encoder has them: Opus always runs at 48 kHz, an unknown layout becomes
    the usual one of as many channels, or stereo. Gaps over 0.1 s in the source's timestamps become silence, so that
    sound stays in step with the picture.

    mixed   what became of channels that the encoder has no place for, as the end of a sentence; "" where it has
    """

    def __init__(self, source: AudioStream, output: OutputContainer, encoder: str) -> None:
        context = source.codec_context
        rate = _rate_for(encoder, context.sample_rate)
        layout, channels = _layout_for(encoder, rate, context.layout.name, context.channels)
        stream: Any = output.add_stream(encoder, rate=rate)
        stream.codec_context.layout = layout
        stream.codec_context.time_base = Fraction(1, rate)
        stream.codec_context.bit_rate = _BITS_PER_CHANNEL[encoder] * channels
        stream.codec_context.flags |= _BITEXACT
        stream.codec_context.open()
        self.stream: AudioStream = stream
        self.damaged = 0
        self.mixed = f"{context.channels} channels were mixed into {channels}" if channels < context.channels else ""
        self._source = source
        self._resampler = self._new_resampler()

    def _new_resampler(self) -> AudioResampler:
        target = self.stream.codec_context
        return AudioResampler(
            format=target.format, layout=target.layout, rate=target.sample_rate, options={"async": "1"}
        )

    def convert(self, packet: av.Packet[Any] | None) -> Iterator[av.Packet[Any]]:
        """Yield encoded packets for one source packet, or for the end (None)."""
        for frame in self._decode(packet):
            yield from self._encode(frame)
        if packet is None:
            yield from self._flush_resampler()
            yield from self.stream.encode(None)

    def _decode(self, packet: av.Packet[Any] | None) -> list[av.AudioFrame]:
        if packet is not None:  # a stream that was had again may come in another codec
            self._source = packet.stream
        try:
            return self._source.decode(packet)
        except av.FFmpegError:
            self.damaged += 1
            return []

    def _encode(self, frame: av.AudioFrame) -> Iterator[av.Packet[Any]]:
        try:
            frames = self._resampler.resample(frame)
        except ValueError:  # the source changes its rate or layout: finish with the old, go on with the new
            yield from self._flush_resampler()
            self._resampler = self._new_resampler()
            frames = self._resampler.resample(frame)
        for ready in frames:
            yield from self.stream.encode(ready)

    def _flush_resampler(self) -> Iterator[av.Packet[Any]]:
        for ready in self._resampler.resample(None):
            if ready is not None:
                yield from self.stream.encode(ready)


def _rate_for(encoder: str, rate: int) -> int:
    offered = av.Codec(encoder, "w").audio_rates or [rate]
    return rate if rate in offered and encoder != "libopus" else 48_000


def _layout_for(encoder: str, rate: int, layout: str, channels: int) -> tuple[str, int]:
    """Return the first of the source's layout, the usual one and stereo that `encoder` opens with."""
    formats: Any = av.Codec(encoder, "w").audio_formats or ["fltp"]
    for name in (layout, _USUAL.get(channels, "stereo")):
        context: Any = av.CodecContext.create(encoder, "w")
        context.sample_rate = rate
        context.format = formats[0]
        context.time_base = Fraction(1, rate)
        try:
            context.layout = name
            context.open()
        except (av.FFmpegError, ValueError):
            continue
        return name, context.channels
    return "stereo", 2
