"""A stream of the source other than the picture's on its way into the output: what is sent of it, and when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from av.stream import Stream

from gtasr_video.media.audio import Reencoder
from gtasr_video.media.packet_times import Rising
from gtasr_video.media.source import Packet
from gtasr_video.media.subtitles import OneAtATime, TextConverter


class Part(NamedTuple):
    """What of a source goes into the output.

    origin  file time in seconds that becomes 0 in the output, and before which nothing is copied; None copies
            from the beginning with unchanged times
    end     output time in seconds that chapters and subtitles are cut to, None for all
    """

    origin: Fraction | None
    end: Fraction | None


class Placed(NamedTuple):
    """A packet with its times in the output, in seconds.

    time  when it is decoded
    end   when what it holds should end
    gap   how much there is nothing between the packet before and it
    """

    packet: Packet
    time: Fraction
    end: Fraction
    gap: Fraction


@dataclass(slots=True)
class Carried:
    """One stream, and how far it has come.

    target     the output's stream
    kind       what it holds: audio, subtitle, video, data, attachment
    rising     keeps its decoding times in order
    converter  makes what the output can hold of its packets; None where they are copied
    shift      ticks that are taken off its times
    sent       packets that went into the output
    damaged    packets that the output did not take, as they are not what the stream is said to be
    end        output seconds at which what was sent should end, None before anything was
    """

    target: Stream
    kind: str
    rising: Rising
    converter: Reencoder | TextConverter | None = None
    shift: int = 0
    sent: int = 0
    damaged: int = 0
    end: Fraction | None = None
    _next_dts: int = 0

    def place(self, packet: Packet, part: Part, *, edit_lists: bool) -> Placed | None:
        """Give `packet` its output times; return it, or None where it does not belong to the part that is kept.

        A missing decoding time is the pts or follows the last. `edit_lists` tells whether the output has them.
        """
        if packet.dts is None:
            packet.dts = packet.pts if packet.pts is not None else self._next_dts
        if packet.pts is None:
            packet.pts = packet.dts
        gap = packet.dts - self._next_dts
        packet.pts, packet.dts = packet.pts - self.shift, packet.dts - self.shift
        if self.kind == "subtitle":
            _trim(packet, part)
        if packet.is_discard and not edit_lists and packet.pts + 2 * (packet.duration or 0) <= 0:
            # Lies before an edit list's beginning, and only an edit list can say so; one packet is a coder's run-up.
            return None
        if part.origin is not None and packet.pts < 0:
            return None
        late = self.rising.settle(packet)
        self._next_dts = packet.dts + max(1, packet.duration or 0) + self.shift
        unit = packet.time_base
        end = (packet.pts + (packet.duration or 0)) * unit - late
        return Placed(packet, packet.dts * unit, end, gap * unit)

    def passed(self, placed: Placed) -> list[Packet]:
        """Return what of a packet is ready for the output."""
        self.end = placed.end
        if self.converter is not None:
            return self._counted(self.converter.convert(placed.packet))
        placed.packet.stream = self.target
        return self._counted([placed.packet])

    def refused(self) -> None:
        """Take note that the output did not take the packet that was `passed` last."""
        self.sent -= 1
        self.damaged += 1

    def due(self, time: Fraction) -> list[Packet]:
        """Return what the converter can say only now that all that begins before `time` (output seconds) is known."""
        return self._counted(self.converter.until(time)) if isinstance(self.converter, OneAtATime) else []

    def drained(self) -> list[Packet]:
        """Return what the converter still holds at the end."""
        return self._counted(self.converter.convert(None)) if self.converter is not None else []

    def _counted(self, packets: Iterable[Packet]) -> list[Packet]:
        ready = list(packets)
        self.sent += len(ready)
        return ready


def _trim(packet: Packet, part: Part) -> None:
    """Let a subtitle that is on when the part begins begin with it, and end no later than the part."""
    pts, end = packet.pts or 0, (packet.pts or 0) + (packet.duration or 0)
    if part.origin is not None and pts < 0 < end:
        pts = packet.pts = packet.dts = 0
    if part.end is not None:
        end = min(end, max(pts, int(part.end / packet.time_base)))
    packet.duration = max(0, end - pts)
