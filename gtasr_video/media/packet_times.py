"""Times of packets as muxers need them: durations that encoders do not hand on, decoding times that go wrong."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

from av.container import OutputContainer
from av.stream import Stream

from gtasr_video.media.source import Packet

# Damaged files hold times that are farther apart than a packet can say.
_LONGEST: Final = 2**62
_TAKES_EQUAL: Final = 0x20000  # AVFMT_TS_NONSTRICT


class PacketTimes:
    """Knows the frames that went into an encoder, and corrects the packets that come out, all in ticks.

    by_decoding   whether the container stores the distances between decoding times (MP4). Tools cut the length of
                  the track down to their sum, which falls short of the presentation where pictures are reordered and
                  unevenly spaced: the last packet then lasts longer
    end           end of the last frame presented so far
    """

    def __init__(self, *, by_decoding: bool) -> None:
        self.end = 0
        self._by_decoding = by_decoding
        self._durations: dict[int, int] = {}
        self._first_pts: int | None = None
        self._first_dts: int | None = None

    def expect(self, pts: int, duration: int) -> None:
        """Take note of a frame that goes into the encoder."""
        if self._first_pts is None:
            self._first_pts = self.end = pts
        self._durations[pts] = min(duration, _LONGEST)
        self.end = max(self.end, pts + duration)

    def settle(self, packets: list[Packet]) -> list[Packet]:
        """Return `packets`, as the encoder gave them, with right times."""
        for packet in packets:
            pts, dts = packet.pts or 0, packet.dts or 0
            if self._first_dts is None:
                self._first_dts = dts
            packet.duration = self._durations.pop(pts, 0)
            if self._by_decoding and not self._durations:
                missing = self.end - (self._first_pts or 0) - (dts - self._first_dts)
                packet.duration = max(packet.duration, min(missing, self.end - pts))
        return packets

    def settle_last(self, packets: list[Packet]) -> list[Packet]:
        """Return the `packets` that a drained encoder gave, with right times.

        libx265 leaves decoding times uninitialised in streams shorter than its delay, all of which then comes at
        the end: those become the presentation times in rising order, early enough for each picture.
        """
        shown = sorted(packet.pts or 0 for packet in packets)
        first = self._first_pts or 0
        earliest = first - 16 * (shown[-1] - first + 1) if shown else first
        if any(packet.dts is None or not earliest <= packet.dts <= (packet.pts or 0) for packet in packets):
            late = max(due - (packet.pts or 0) for due, packet in zip(shown, packets, strict=True))
            for due, packet in zip(shown, packets, strict=True):
                packet.dts = due - late
        return self.settle(packets)


class Rising:
    """Lets the decoding times of packets that are copied into the stream `target` of `output` increase.

    One that goes back comes after the last by the smallest step that is one in the output, too: 1/90000 s later may be
    the same time in a track that counts 1/48000 s, which most muxers refuse. Subtitles may begin together.

    repaired   how many packets did not have the time they came with
    """

    def __init__(self, target: Stream, output: OutputContainer) -> None:
        self.repaired = 0
        self._target = target  # whose time base is final once the header is written
        self._takes_equal = bool(output.format.flags & _TAKES_EQUAL)
        self._last: int | None = None

    def settle(self, packet: Packet) -> Fraction:
        """Set the times of `packet`, which has both; return by how many seconds it then is later."""
        pts, dts = packet.pts or 0, packet.dts or 0
        late = Fraction(0)
        if self._last is not None:
            step = max(1, math.ceil((self._target.time_base or Fraction(0)) / packet.time_base))
            least = 0 if self._target.type == "subtitle" else 1 if self._takes_equal else step
            if dts < self._last + least:
                self.repaired += 1
                dts = self._last + step
                packet.dts, packet.pts = dts, max(pts, dts)
                late = (packet.pts - pts) * packet.time_base
        self._last = dts
        return late
