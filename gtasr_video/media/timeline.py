"""Presentation times that increase strictly, whatever the file says."""

from __future__ import annotations

from fractions import Fraction

# A step back by more than this is a new beginning (a joined recording), less is a mistake in the file.
RESTART_SECONDS = 1
FARTHEST = 2**60


class Timeline:
    """Turns what a decoder says about each frame into integer ticks that increase strictly.

    In presentation order, for every frame:

    * The frame's pts is kept exactly wherever it increases.
    * Where pts are missing, or go wrong more often than decoding times do (AVI has only those), the decoding time
      of the packet that completed the frame is taken instead, as FFmpeg's own tools do.
    * Where a stream has decoding times only, the first frame gets that of the first packet: the frames a decoder
      holds back to reorder them are no delay of the picture against the sound.
    * A time that no packet can hold counts as missing.
    * Where both are missing (in raw streams, and of frames that come when the decoder is drained), the frame comes
      one usual step after the one before.
    * A time equal to or a little before the last becomes one tick after it (`repaired` counts these).
    * A time more than a second before the last is a discontinuity: this and all later times are moved so that the
      frame comes one usual step after the last (`restarts` counts these, and the frame is marked as a cut).
    """

    def __init__(self, time_base: Fraction, frame_rate: Fraction | None) -> None:
        self.first_dts: int | None = None  # of the first packet, to be set before the first frame is placed
        self.repaired = 0
        self.restarts = 0
        self.guessed = 0  # frames whose time is not their own pts
        self.time_base = time_base
        self._step = max(1, round(1 / (frame_rate * time_base))) if frame_rate else 1
        self._last: int | None = None
        self._offset = 0
        self._last_raw: tuple[int | None, int | None] = (None, None)
        self._faults = [0, 0]

    def place(self, pts: int | None, dts: int | None) -> tuple[int, bool]:
        """Return (ticks, whether this frame restarts the clock) for the next frame in presentation order."""
        pts, dts = _believable(pts), _believable(dts)
        raw = self._trusted(pts, dts)
        self.guessed += raw is None or raw != pts
        if self._last is None:
            if pts is None and dts is not None and self.first_dts is not None:
                self._offset, raw = self.first_dts - dts, self.first_dts
            self._last = raw if raw is not None else 0
            return self._last, False
        if raw is None:
            return self._advance(self._last + self._step), False
        ticks = raw + self._offset
        if (self._last - ticks) * self.time_base > RESTART_SECONDS:
            self.restarts += 1
            self._offset += self._last + self._step - ticks
            return self._advance(self._last + self._step), True
        if ticks <= self._last:
            self.repaired += 1
            ticks = self._last + 1
        return self._advance(ticks), False

    def _advance(self, ticks: int) -> int:
        if self._last is not None and ticks - self._last > 1:
            self._step = ticks - self._last
        self._last = ticks
        return ticks

    def _trusted(self, pts: int | None, dts: int | None) -> int | None:
        """Return `pts`, or `dts` once pts have gone backwards more often than dts did."""
        now = (pts, dts)
        for which in (0, 1):
            value, last = now[which], self._last_raw[which]
            if value is not None and last is not None and value <= last:
                self._faults[which] += 1
        self._last_raw = (
            pts if pts is not None else self._last_raw[0],
            dts if dts is not None else self._last_raw[1],
        )
        if pts is not None and (dts is None or self._faults[0] <= self._faults[1]):
            return pts
        return dts


def _believable(stamp: int | None) -> int | None:
    """Return `stamp`, or None for what only a damaged file says: sums of such times fit no packet."""
    return None if stamp is None or abs(stamp) > FARTHEST else stamp
