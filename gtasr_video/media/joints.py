"""A file whose clock starts again, as recordings do that were joined: picture and side streams go on together.

Both readings of a file (the picture's, and that of the streams beside it) find the joints by the same packets, those of
the picture, and so move by the same amount without knowing of each other.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av

from gtasr_video.media.source import Packet
from gtasr_video.media.timeline import FARTHEST, RESTART_SECONDS

# No codec here shows a picture more than this many places after it is decoded.
_REORDERING: Final = 64
# Sound comes in a file no farther than this from the picture of its time, as players have small buffers.
_NEAR_S: Final = 2
# Packets of side streams that wait for the picture to start again, as they did: seconds of the densest sound.
_MOST_WAITING: Final = 10_000


class Joints:
    """Moves packets of a picture, as they lie in the file, so that time goes on where it goes back by over a second.

    What is shown first after a joint is shown one usual step after what was shown last before it: just as `Timeline`
    has it for frames, but known from packets alone, whether or not they can be decoded.

    count     joints so far
    shift     ticks that are added to times now
    looking   whether times go back and more packets have to come to tell whether the clock starts again
    """

    def __init__(self) -> None:
        self.count = 0
        self.shift = 0
        self._starts: deque[int] = deque(maxlen=8)
        self._last: int | None = None
        self._shown: list[int] = []  # the two that are shown last so far, moved
        self._held: list[Packet] = []

    @property
    def looking(self) -> bool:
        """Whether packets are held back."""
        return bool(self._held)

    def push(self, packet: Packet) -> list[Packet]:
        """Take the next packet in decoding order; return those that are ready, with their times moved."""
        stamp = self._decoded(packet)
        goes_back = stamp is not None and self._last is not None and stamp < self._last
        self._last = stamp
        ready = self.drain() if goes_back else []
        if not goes_back and not self._held:
            return [self._moved(packet)]
        self._held.append(packet)
        first = _first_shown(self._held)
        if len(self._held) > _REORDERING or (first is not None and stamp is not None and stamp >= first):
            ready += self.drain()
        return ready

    def _decoded(self, packet: Packet) -> int | None:
        """Return when `packet` is decoded, not moved, as far as is known.

        Matroska does not say it of the first ones. They are shown later than they are decoded, up to many seconds
        where pictures last long: that a packet is shown before the last was decoded tells that time goes back, no more.
        """
        if packet.dts is not None:
            return packet.dts
        if packet.pts is None or self._last is None:
            return self._last
        return min(packet.pts, self._last)

    def drain(self) -> list[Packet]:
        """Return what is held back, at the end or because enough is known."""
        held, self._held = self._held, []
        first = _first_shown(held)
        if first is not None and self._shown:
            last = self._shown[-1]
            shift = last + self._step - first
            if (last - first - self.shift) * held[0].time_base > RESTART_SECONDS and abs(shift) < FARTHEST:
                self.count += 1
                self.shift = shift
                self._starts.append(first + self.shift)
        return [self._moved(packet) for packet in held]

    @property
    def _step(self) -> int:
        return self._shown[-1] - self._shown[0] or 1

    def _moved(self, packet: Packet) -> Packet:
        _move(packet, self.shift)
        if packet.pts is not None:
            self._shown = sorted({*self._shown, packet.pts})[-2:]
        return packet

    def starts_between(self, last: int, now: int) -> bool:
        """Return whether what comes after one of the last joints begins after the tick `last` and not after `now`."""
        return any(last < start <= now for start in self._starts)


def _move(packet: Packet, ticks: int) -> None:
    """Add `ticks` to the times of `packet`; what damaged files say, and no packet can hold, stays as it is."""
    if packet.pts is not None and abs(packet.pts + ticks) < FARTHEST:
        packet.pts += ticks
    if packet.dts is not None and abs(packet.dts + ticks) < FARTHEST:
        packet.dts += ticks


def _first_shown(packets: Iterable[Packet]) -> int | None:
    return min((packet.pts for packet in packets if packet.pts is not None), default=None)


@dataclass(slots=True)
class _Track:
    """A side stream: what was added to its last time, where that then was, and where it ended, all in seconds.

    astray   whether it has started again where the picture did not
    """

    shift: Fraction
    last: Fraction | None = None
    end: Fraction = Fraction(0)
    astray: bool = False


class Followers:
    """Moves the packets of side streams along with those of the `picture` (its index), between which they lie.

    Around a joint a stream keeps its clock as long as that leads on. Its packets may come before the first picture
    behind the joint: one that goes back waits until the picture does.

    strays    how often a stream started again where the picture did not, by its index: it then goes on by itself
    now       at which second the last of the picture is decoded, moved, None before the first
    """

    def __init__(self, picture: int) -> None:
        self.strays: Counter[int] = Counter()
        self._picture = picture
        self._joints = Joints()
        self._unit = Fraction(0)
        self.now: Fraction | None = None
        self._joint, self._count = Fraction(0), 0
        self._tracks: dict[int, _Track] = {}
        self._waiting: deque[Packet] = deque()
        self._ended = False

    def moved(self, packets: Iterable[Packet]) -> Iterator[Packet]:
        """Yield those of `packets` that are not the picture's, in their order; the end is where reading fails."""
        for ready in self.steps(packets):
            yield from ready

    def steps(self, packets: Iterable[Packet]) -> Iterator[list[Packet]]:
        """Yield what `moved` does, as a list after each of `packets`, which may be empty."""
        with contextlib.suppress(av.FFmpegError):  # the picture's reader reports where the file is damaged
            for packet in packets:
                self._take(packet)
                yield list(self._ready())
        self._ended = True
        self._follow(self._joints.drain())
        yield list(self._ready())

    def _take(self, packet: Packet) -> None:
        if packet.stream_index == self._picture:
            self._unit = packet.time_base
            self._follow(self._joints.push(packet))
        else:
            self._waiting.append(packet)

    def _follow(self, pictures: list[Packet]) -> None:
        for packet in pictures:
            if packet.dts is not None:
                self.now = packet.dts * self._unit
        if self._joints.count > self._count and self.now is not None:
            self._count, self._joint = self._joints.count, self.now

    def _ready(self) -> Iterator[Packet]:
        while self._waiting and not self._joints.looking:
            packet = self._waiting[0]
            shift = self._shift(packet)
            if shift is None:
                return
            self._waiting.popleft()
            _move(packet, round(shift / packet.time_base))
            yield packet

    def _shift(self, packet: Packet) -> Fraction | None:
        """Return the seconds to add to the times of `packet`, None as long as that cannot be known."""
        stamp = packet.dts if packet.dts is not None else packet.pts
        track = self._tracks.setdefault(packet.stream_index, _Track(self._joints.shift * self._unit))
        if stamp is None:
            return track.shift
        time = stamp * packet.time_base
        shift = self._likely(time, track)
        if track.last is not None and track.last - (time + shift) > RESTART_SECONDS:
            if not self._ended and len(self._waiting) < _MOST_WAITING:
                return None
            if self.now is None or abs(self.now - (time + shift)) > _NEAR_S:
                self.strays[packet.stream_index] += 1
                shift, track.astray = track.end - time, True
        track.shift, track.last = shift, time + shift
        track.end = track.last + (packet.duration or 0) * packet.time_base
        return shift

    def _likely(self, time: Fraction, track: _Track) -> Fraction:
        """Return the shift of `track`, or that of the picture if `time` is likely to belong there.

        Streams leave a clock behind the picture by less than `_NEAR_S`, and no later than when it does not lead on.
        """
        own, new, now = track.shift, self._joints.shift * self._unit, self.now
        is_over = now is None or now - self._joint > _NEAR_S
        leads_on = track.last is not None and time + own >= track.last
        if not track.astray and (is_over or not leads_on):
            return new
        around = track.end if now is None or abs(now - track.end) < _NEAR_S else now
        return min(own, new, key=lambda shift: abs(time + shift - around))
