"""Sound packets on their way from the thread that reads a stream to the one that writes."""

from __future__ import annotations

import threading
from collections import deque
from fractions import Fraction
from typing import Final, NamedTuple

from av.audio.stream import AudioStream

from gtasr_video.media.source import Packet, codec_name

# A live source sends its sound beside the picture, so that far less than this is on its way. The bound is for sources
# that do not: to wait would stop the picture that the other end waits for.
_MOST_BYTES: Final = 64 << 20


class SoundPacket(NamedTuple):
    """A packet of the sound track `track` (its position among `SoundQueue.tracks`), due at `time` in seconds.

    Its own ``packet.stream`` tells what it is: after a reconnect that may be something else than the track was.
    """

    track: int
    time: Fraction
    packet: Packet


class SoundForm(NamedTuple):
    """What an output that copies sound has promised its readers for good.

    adts   whether each packet of AAC says how it is to be decoded, as in MPEG-TS; elsewhere its container says so
    """

    codec: str
    rate: int
    channels: int
    adts: bool

    @classmethod
    def of(cls, stream: AudioStream) -> SoundForm:
        """Return the form of `stream`."""
        context = stream.codec_context
        codec = codec_name(stream)
        adts = codec == "aac" and not context.extradata
        return cls(codec, context.sample_rate, context.channels, adts)

    def __str__(self) -> str:
        return f"{self.codec}{' in ADTS' if self.adts else ''} at {self.rate} Hz, {self.channels} channels"


class SoundQueue:
    """Packets in the order in which they came, from one thread to another; it never makes anyone wait.

    tracks    the streams they belong to, as they were when the first picture came
    dropped   packets that were lost because more than 64 MB were on their way
    """

    def __init__(self, tracks: tuple[AudioStream, ...] = ()) -> None:
        self.tracks = tracks
        self.dropped = 0
        self._bytes = 0
        self._packets: deque[SoundPacket] = deque()
        self._lock = threading.Condition()

    def put(self, item: SoundPacket) -> None:
        """Add a packet at the end."""
        with self._lock:
            self._packets.append(item)
            self._bytes += item.packet.size
            while self._bytes > _MOST_BYTES:
                self._bytes -= self._packets.popleft().packet.size
                self.dropped += 1
            self._lock.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Wait until there is a packet; returns whether there is."""
        with self._lock:
            return self._lock.wait_for(lambda: bool(self._packets), timeout_s)

    def take(self, before: Fraction | None) -> list[SoundPacket]:
        """Return, and forget, the packets that are due before `before`; None returns all."""
        taken = []
        with self._lock:
            while self._packets and (before is None or self._packets[0].time < before):
                item = self._packets.popleft()
                self._bytes -= item.packet.size
                taken.append(item)
        return taken
