"""One time line out of what several connections, and clocks that jump, bring."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

# Where a clock that wraps around begins: what else is due then may lie a little before the first packet.
_WRAPPED_S: Final = Fraction(1)
# A track that goes back by more than this has been set anew; less is reordering, or a mistake.
_BACK_S: Final = Fraction(1)


class StreamClock:
    """Says by how much the times of packets are to be moved so that time goes on, alike for picture and sound.

    anew    times begin at 0 with the first packet; else the first connection's stay as they are
    ahead   a track that leaps ahead by more than so many seconds has been set anew too; None believes any leap
    wraps   whether a time before 0 is one of before a wrap-around, as in MPEG-TS: time then begins at 1 s, since not
            all outputs know earlier ones. Elsewhere it is the run-up of a coder

    Where a connection begins anew, its first packet comes right after all that came before. Where one track jumps,
    the others follow by the same amount when their turn comes, so that sound stays with its picture.
    """

    def __init__(self, *, anew: bool, ahead: Fraction | None) -> None:
        self._anew, self._ahead = anew, ahead
        self.wraps = False
        self.jumps = 0
        self.end: Fraction | None = None
        self._joining = True
        self._latest = Fraction(0)
        self._shifts: dict[int, Fraction] = {}
        self._last: dict[int, Fraction] = {}

    def join(self) -> None:
        """Begin a new connection."""
        self._joining = True
        self._shifts.clear()
        self._last.clear()

    def forget(self) -> None:
        """Begin as if nothing had come yet."""
        self.join()
        self.jumps, self.end, self._latest = 0, None, Fraction(0)

    def shift(self, track: int, time: Fraction, length: Fraction) -> Fraction:
        """Return the seconds to add to a packet of `track` that was stamped `time` and lasts `length`."""
        if self._joining:
            self._begin(time)
        shift = self._shifts.get(track, self._latest)
        last = self._last.get(track)
        if last is not None and self._jumps(time + shift - last):
            if self._jumps(time + self._latest - last):
                self.jumps += 1
                self._latest = last + max(length, Fraction(1, 1000)) - time
            shift = self._latest
        self._shifts[track], self._last[track] = shift, time + shift
        self.end = max(self.end or Fraction(0), time + shift + length)
        return shift

    def _begin(self, time: Fraction) -> None:
        self._joining = False
        if self.end is not None:
            self._latest = self.end - time
        elif self._anew:
            self._latest = -time
        elif self.wraps and time < 0:
            self._latest = _WRAPPED_S - time

    def _jumps(self, step: Fraction) -> bool:
        return step < -_BACK_S or (self._ahead is not None and step > self._ahead)
