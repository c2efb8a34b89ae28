"""Packets that the network lost: by the numbers that MPEG-TS packets carry, or as FFmpeg tells of RTP and of lists."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

_SIZE: Final = 188
_SYNC: Final = 0x47
# Packets of this kind only fill up the bit rate; their numbers mean nothing.
_EMPTY: Final = 0x1FFF
_PASSED: Final = re.compile(r"skipping (\d+) segments ahead")
_GIVEN_UP: Final = "failed too many times, skipping"
_MISSED: Final = re.compile(r"RTP: missed (\d+) packets")

Packets = NDArray[np.uint8]


class TsLosses:
    """Counts the packets that are missing from MPEG-TS: each kind (PID) is numbered from 0 to 15, over and over.

    lost    packets so far. Sixteen of a kind in a row cannot be seen to be missing, and packets that come in another
            order than they were sent in look as if some were
    """

    def __init__(self) -> None:
        self.lost = 0
        self._last: dict[int, int] = {}
        self._rest = b""

    def restart(self) -> None:
        """Begin another connection: what comes next does not follow from what came last."""
        self._last, self._rest = {}, b""

    def feed(self, data: bytes) -> None:
        """Look at the next bytes, which may begin and end anywhere in a packet."""
        data = self._rest + data
        at = 0
        while (count := (len(data) - at) // _SIZE) > 0:
            packets = np.frombuffer(data, np.uint8, count * _SIZE, at).reshape(count, _SIZE)
            whole = _leading(packets[:, 0] == _SYNC)
            self._count(packets[:whole])
            at += whole * _SIZE
            if whole < count:
                at = _next_packet(data, at + 1)
        self._rest = data[at:]

    def _count(self, packets: Packets) -> None:
        kinds = (packets[:, 1].astype(np.int32) & 0x1F) << 8 | packets[:, 2]
        # Only packets with a payload are numbered.
        numbered = (packets[:, 3] & 0x10 > 0) & (kinds != _EMPTY)
        for kind in np.unique(kinds[numbered]).tolist():
            self._count_kind(kind, packets[numbered & (kinds == kind)])

    def _count_kind(self, kind: int, packets: Packets) -> None:
        numbers = packets[:, 3].astype(np.int32) & 0x0F
        before = np.concatenate(([self._last.get(kind, numbers[0] - 1)], numbers[:-1]))
        # A packet may be sent twice, with one number; and a sender may say that it numbers anew.
        missing = np.where((numbers == before) | _renumbered(packets), 0, (numbers - before - 1) % 16)
        self.lost += int(missing.sum())
        self._last[kind] = int(numbers[-1])


def _leading(true: NDArray[np.bool_]) -> int:
    """Return how many of the first values are true."""
    return len(true) if true.all() else int(true.argmin())


def _next_packet(data: bytes, at: int) -> int:
    """Return where, from `at` on, a packet begins that another one follows: a byte alone may look like a beginning."""
    while (at := data.find(_SYNC, at)) >= 0 and at + _SIZE < len(data):
        if data[at + _SIZE] == _SYNC:
            return at
        at += 1
    return at if at >= 0 else len(data)


def _renumbered(packets: Packets) -> NDArray[np.bool_]:
    """Return which packets say, in their adaptation field, that their numbers do not follow from those before."""
    return (packets[:, 3] & 0x20 > 0) & (packets[:, 4] > 0) & (packets[:, 5] & 0x80 > 0)


class RtpLosses:
    """Counts the packets that FFmpeg says are missing from RTP."""

    def __init__(self) -> None:
        self.lost = 0

    def feed(self, line: str) -> None:
        """Look at a line that FFmpeg has said."""
        found = _MISSED.search(line)
        self.lost += int(found[1]) if found else 0


class SegmentLosses:
    """Counts the segments of a list that FFmpeg says it goes on without."""

    def __init__(self) -> None:
        self.lost = 0

    def feed(self, line: str) -> None:
        """Look at a line that FFmpeg has said."""
        passed = _PASSED.search(line)
        self.lost += int(passed[1]) if passed else _GIVEN_UP in line
