"""Sound that is encoded anew: at its time to a few milliseconds, at a rate receivers take, as loud as asked."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final

import av
import numpy as np
import torch
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.filter import Graph
from torch import Tensor

from gtasr_video.media.source import Packet
from gtasr_video.media.streams.resampling import Resampler
from gtasr_video.media.streams.sound_queue import SoundPacket

# Sound further from its time than this is moved back to it; less is the rounding of stamps and the jitter of senders.
TOLERANCE_S: Final = 0.02
# A hole longer than this is not filled: time itself went on.
_LONGEST_HOLE_S: Final = 10.0
_BITS_PER_CHANNEL: Final = 96_000
_USUAL_RATES: Final = (44_100, 48_000)


class AacTrack:
    """A stereo or mono AAC stream of `output` that takes samples at `rate`, from a given time on."""

    def __init__(self, output: OutputContainer, rate: int, channels: int) -> None:
        stream: Any = output.add_stream("aac", rate=rate)
        context = stream.codec_context
        context.layout = "mono" if channels == 1 else "stereo"
        context.time_base = Fraction(1, rate)
        context.bit_rate = _BITS_PER_CHANNEL * channels
        context.open()
        self.stream: AudioStream = stream
        self.rate, self.channels = rate, channels
        self._size: int = context.frame_size or 1024
        self._waiting: list[Tensor] = []
        self._have = 0
        self._next: int | None = None

    def begin(self, time: Fraction) -> None:
        """Let the first sample be due at `time`."""
        if self._next is None:
            self._next = round(time * self.rate)

    @property
    def begun(self) -> bool:
        """Whether it is known when the first sample is due."""
        return self._next is not None

    @property
    def end(self) -> Fraction:
        """When the next sample that is given will be due, in seconds."""
        return Fraction((self._next or 0) + self._have, self.rate)

    def push(self, samples: Tensor) -> Iterator[Packet]:
        """Encode `samples` (channels, n) float, frame by frame."""
        self._waiting.append(samples)
        self._have += samples.shape[1]
        if self._have < self._size:
            return
        whole = torch.cat(self._waiting, 1)
        count = whole.shape[1] // self._size * self._size
        self._waiting, self._have = [whole[:, count:]], whole.shape[1] - count
        for begin in range(0, count, self._size):
            yield from self._encode(whole[:, begin : begin + self._size])

    def _encode(self, samples: Tensor) -> list[Packet]:
        data = np.ascontiguousarray(samples.clamp(-1, 1).numpy())
        frame = av.AudioFrame.from_ndarray(data, format="fltp", layout=self.stream.codec_context.layout.name)
        frame.rate, frame.time_base, frame.pts = self.rate, Fraction(1, self.rate), self._next
        self._next = (self._next or 0) + samples.shape[1]
        return list(self.stream.encode(frame))

    def flush(self) -> Iterator[Packet]:
        """Encode what is left."""
        if self._have:
            yield from self._encode(torch.cat(self._waiting, 1))
            self._waiting, self._have = [], 0
        yield from self.stream.encode(None)


class SoundEncoder:
    """Decodes packets of `source` and encodes them as AAC into `output`.

    loudness    what it is brought to, in LUFS (FFmpeg's loudnorm, which looks 3 s ahead: the sound comes that much
                later into the output, at its right time); None leaves it
    offset_s    by how much the last sound was off its time before it was moved back
    worst_s     by how much, at most, sound has been off its time in the output
    moved       how often sound was moved back: by silence before it, or by leaving out a little
    damaged     packets that could not be decoded
    """

    def __init__(self, source: AudioStream, output: OutputContainer, loudness: float | None = None) -> None:
        context = source.codec_context
        rate = context.sample_rate if context.sample_rate in _USUAL_RATES else 48_000
        self.track = AacTrack(output, rate, 1 if context.channels == 1 else 2)
        self.offset_s = self.worst_s = 0.0
        self.moved = self.damaged = 0
        self._loudness = loudness
        self._format: tuple[int, str] | None = None
        self._placed = 0
        self._moving = False
        self._begin = Fraction(0)

    def convert(self, item: SoundPacket) -> Iterator[Packet]:
        """Yield what is ready after one packet."""
        # By its own stream: one that was had again may come in another codec.
        stream: Any = item.packet.stream
        try:
            frames = stream.codec_context.decode(item.packet)
        except av.FFmpegError:
            self.damaged += 1
            return
        for frame in frames:
            time = item.time if frame.pts is None else frame.pts * frame.time_base
            self._prepare(frame, time)
            for plain in self._plain.resample(frame):
                yield from self._push(self._at_its_time(_samples(plain), time))

    def _prepare(self, frame: av.AudioFrame, time: Fraction) -> None:
        """Begin anew where the sound begins, or changes its rate or layout."""
        found = (frame.sample_rate, frame.layout.name)
        if found == self._format:
            return
        self._format = found
        layout = self.track.stream.codec_context.layout.name
        self._plain = AudioResampler(format="fltp", layout=layout, rate=frame.sample_rate)
        self.track.begin(time)
        self._begin, self._placed = self.track.end, 0
        rate = self.track.rate
        self._resampler = Resampler(frame.sample_rate, rate) if frame.sample_rate != rate else None
        self._normaliser = None if self._loudness is None else _Loudness(rate, layout, self._loudness)

    def _at_its_time(self, samples: Tensor, time: Fraction) -> Tensor:
        """Return `samples`, with silence before them or without their beginning where they are off their time."""
        assert self._format is not None
        rate = self._format[0]
        off = round((time - self._begin) * rate) - self._placed
        self.offset_s = off / rate
        if abs(self.offset_s) > TOLERANCE_S:
            self.moved += not self._moving
            self._moving = True
            if off > 0:
                silence = samples.new_zeros(samples.shape[0], min(off, round(_LONGEST_HOLE_S * rate)))
                samples = torch.cat((silence, samples), 1)
            else:
                samples = samples[:, -off:]
        else:
            self._moving = False
            self.worst_s = max(self.worst_s, abs(self.offset_s))
        self._placed += samples.shape[1]
        return samples

    def _push(self, samples: Tensor) -> Iterator[Packet]:
        if self._resampler is not None:
            samples = self._resampler.push(samples)
        if self._normaliser is not None:
            samples = self._normaliser.push(samples)
        if samples.shape[1]:
            yield from self.track.push(samples)

    def flush(self) -> Iterator[Packet]:
        """Yield the rest."""
        if self._format is not None:
            if self._resampler is not None:
                rest, self._resampler = self._resampler.flush(), None
                yield from self._push(rest)
            if self._normaliser is not None:
                yield from self.track.push(self._normaliser.flush())
        yield from self.track.flush()


class _Loudness:
    """FFmpeg's loudnorm, for samples at `rate`."""

    def __init__(self, rate: int, layout: str, target: float) -> None:
        self._rate, self._layout, self._given = rate, layout, 0
        graph = self._graph = Graph()
        source = graph.add_abuffer(sample_rate=rate, format="fltp", layout=layout, time_base=Fraction(1, rate))
        loud = graph.add("loudnorm", f"I={target}:TP=-1.5:LRA=11")
        back = graph.add("aresample", str(rate))
        form = graph.add("aformat", f"sample_fmts=fltp:channel_layouts={layout}")
        sink = graph.add("abuffersink")
        for one, next_one in ((source, loud), (loud, back), (back, form), (form, sink)):
            one.link_to(next_one)
        graph.configure()

    def push(self, samples: Tensor) -> Tensor:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.numpy()), format="fltp", layout=self._layout)
        frame.rate, frame.time_base, frame.pts = self._rate, Fraction(1, self._rate), self._given
        self._given += samples.shape[1]
        self._graph.push(frame)
        return self._pull(samples.shape[0])

    def flush(self) -> Tensor:
        self._graph.push(None)
        return self._pull(1 if self._layout == "mono" else 2)

    def _pull(self, channels: int) -> Tensor:
        ready = [torch.zeros(channels, 0)]
        while True:
            try:
                ready.append(_samples(self._graph.pull()))
            except (av.BlockingIOError, av.EOFError):
                return torch.cat(ready, 1)


def _samples(frame: Any) -> Tensor:
    """Return a planar frame as (channels, n) float."""
    return torch.from_numpy(frame.to_ndarray())
