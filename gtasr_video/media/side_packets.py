"""The packets of the streams beside the picture: the second reading of a file."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Discard

from gtasr_video.media import tags
from gtasr_video.media.joints import Followers
from gtasr_video.media.source import Packet, counts_time, may_be_joined, open_input, packets_of

# A packet lies in a file no farther than this from the picture of its time.
NEAR_SECONDS = 10
# An MPEG-TS has one number for all layers of MPEG sound: which of them it is shows in the packets alone.
_MPEG_SOUND = {"mp1": "mp3", "mp2": "mp3"}


class SidePackets:
    """Reads the packets of the streams `wanted` of the file `path`, in its order, with times in one clock.

    container   the file, opened for this alone
    picture     index of the picture's stream, whose packets tell whether the clock starts again, but are not given out
    wanted      indices of the streams beside it
    words       those of them that are subtitles: what begins before `begin` and is on then comes first
    foreign     packets of sound that were left out, as they are of another codec than before, by the stream's index
    begin       file time in seconds before which nothing else is needed, None for everything
    """

    def __init__(
        self,
        path: Path,
        container: InputContainer,
        picture: int,
        wanted: Collection[int],
        words: Collection[int],
        begin: Fraction | None,
    ) -> None:
        self._path, self._container = path, container
        self._picture, self._words = picture, words
        self._begin = begin or Fraction(0)
        # Where times cannot go back, packets come in the order of their times, and the picture's tell nothing.
        self._wanted = {*wanted, *([] if counts_time(container) else [picture])}
        self._followers = Followers(picture)
        self._last: Fraction | None = None
        self.foreign = Counter[int]()
        self._steps = self._read() if wanted else iter(())
        self.ended = False

    def read(self) -> list[Packet] | None:
        """Return what is ready after one more packet was read, which may be nothing; None at the end of the file."""
        packets = next(self._steps, None)
        self.ended = packets is None
        return packets

    @property
    def place(self) -> Fraction | None:
        """How far in the file reading is, in seconds of the picture there, None before the first."""
        return self._followers.now if self._picture in self._wanted else self._last

    def strays(self, index: int) -> int:
        """Return how often the stream `index` started again where the picture did not."""
        return self._followers.strays[index]

    def _read(self) -> Iterator[list[Packet]]:
        searched = self._begin > NEAR_SECONDS and not may_be_joined(self._container)
        if searched:
            if self._words:
                yield list(self._on_at_begin())
            with contextlib.suppress(av.FFmpegError):  # a file that cannot be searched is read from the start
                self._container.seek(int((self._begin - NEAR_SECONDS) * av.time_base))
        for packets in self._followers.steps(self._of_one_codec(_packets(self._container, self._wanted))):
            for packet in packets:
                if packet.stream_index not in self._words:
                    self._last = _time(packet)
            yield [packet for packet in packets if not (searched and self._is_before(packet))]

    def _of_one_codec(self, packets: Iterator[Packet]) -> Iterator[Packet]:
        """Yield `packets` but for sound that is of another codec than it began with: no track can hold both."""
        first = now = self._codecs()
        last: dict[int, Fraction] = {}
        for packet in packets:
            index, time = packet.stream_index, _time(packet)
            # To look costs more than to copy a packet: where another recording may begin.
            is_start = packet.is_keyframe if index == self._picture else time < last.get(index, time)
            last[index] = time
            if is_start and may_be_joined(self._container):
                now = self._codecs()
            if now.get(index) == first.get(index):
                yield packet
            else:
                self.foreign[index] += 1

    def _codecs(self) -> dict[int, str]:
        texts = tags.describe(self._container)
        named = {s.index: tags.codec_in(texts.get(s.index, "")) for s in self._container.streams.audio}
        return {index: _MPEG_SOUND.get(name, name) for index, name in named.items()}

    def _is_before(self, packet: Packet) -> bool:
        return packet.stream_index in self._words and _time(packet) < self._begin

    def _on_at_begin(self) -> Iterator[Packet]:
        """Yield subtitles that begin before `begin` and end after it, however long before."""
        telling = self._wanted & {self._picture} or self._words
        wanted = {*self._words, *telling}
        with contextlib.suppress(av.FFmpegError), open_input(self._path) as container:
            for packet in _packets(container, wanted):
                time = _time(packet)
                if packet.stream_index in telling and time > self._begin + NEAR_SECONDS:
                    return
                if self._is_before(packet) and time + (packet.duration or 0) * packet.time_base > self._begin:
                    yield packet


def _packets(container: InputContainer, wanted: Collection[int]) -> Iterator[Packet]:
    """Yield the packets of the streams `wanted`; the others are not even put together."""
    for stream in container.streams:
        stream.discard = Discard.default if stream.index in wanted else Discard.all
    return packets_of(container, [stream for stream in container.streams if stream.index in wanted])


def _time(packet: Packet) -> Fraction:
    stamp = packet.pts if packet.pts is not None else packet.dts
    return (stamp or 0) * packet.time_base
