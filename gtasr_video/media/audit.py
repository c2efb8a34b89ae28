"""Whether an output is what it should be: counted in the finished file, not believed of those who wrote it."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av

from gtasr_video.audit import Audit
from gtasr_video.media.source import Packet, open_input, packets_of

# No codec here shows a picture more than this many places before or after it is decoded.
_REORDERING: Final = 64
# Sound that ends further than this from where it belongs was put somewhere else on its way.
_FAR_S: Final = 1
# Sound packets that a player is told to skip, at either end, may not come out of the demuxer.
_SKIPPED: Final = 3


class TimesMatch:
    """Two rising sequences of times in seconds, compared as they come: which have no partner within `tolerance`."""

    def __init__(self, tolerance: Fraction) -> None:
        self._tolerance = tolerance
        self.both = 0
        self.missing: list[Fraction] = []
        self.extra: list[Fraction] = []
        self.missing_count = self.extra_count = 0

    def pairs(self, wanted: Iterable[Any], found: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield what belongs together of two sequences of tuples that begin with a time."""
        left, right = iter(wanted), iter(found)
        a, b = next(left, None), next(right, None)
        while a is not None or b is not None:
            if b is None or (a is not None and b[0] - a[0] > self._tolerance):
                assert a is not None
                self.missing_count += 1
                self.missing += [a[0]] if len(self.missing) < 3 else []
                a = next(left, None)
            elif a is None or a[0] - b[0] > self._tolerance:
                self.extra_count += 1
                self.extra += [b[0]] if len(self.extra) < 3 else []
                b = next(right, None)
            else:
                self.both += 1
                yield a, b
                a, b = next(left, None), next(right, None)

    def faults(self) -> list[str]:
        """Return one line each for frames that lack a partner."""
        return [
            f"{count} of {count + self.both} frames {what} (at {_listed(times)})"
            for what, count, times in (
                ("are missing", self.missing_count, self.missing),
                ("are at times that the source does not have", self.extra_count, self.extra),
            )
            if count
        ]


def _listed(times: list[Fraction]) -> str:
    return ", ".join(f"{float(time):.3f} s" for time in times)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a finished file should hold.

    shown      times in seconds of the picture's frames, rising
    picture    index of the picture's stream
    sound      packets by index of each sound stream
    subtitles  how many subtitle streams there are
    sound_ends   seconds at which sound streams should end, by index
    shifts     whether the container may move all times by one amount (MPEG-TS wraps)
    """

    shown: Iterable[Fraction]
    picture: int
    sound: dict[int, int]
    subtitles: int
    sound_ends: dict[int, Fraction] = field(default_factory=dict)
    shifts: bool = False


def audit_file(path: Path, expected: Expected) -> Audit:
    """Compare the finished file `path` with what went into it, by its packets; nothing is decoded."""
    audit, counts, ends = Audit(), Counter[int](), dict[int, Fraction]()
    with open_input(path) as container:
        picture = container.streams[expected.picture]
        unit = picture.time_base or Fraction(1, av.time_base)
        match = TimesMatch(unit if expected.shifts else unit / 2)
        stamps = _in_order(_stamps(packets_of(container, list(container.streams)), expected.picture, counts, ends))
        found = (stamp * unit for stamp in stamps)
        for _ in match.pairs(*_aligned(expected.shown, found, expected.shifts)):
            pass
        kinds = Counter(stream.type for stream in container.streams)
    audit.faults += match.faults()
    if kinds["audio"] != len(expected.sound) or kinds["subtitle"] != expected.subtitles:
        audit.faults.append(
            f"{kinds['audio']} sound and {kinds['subtitle']} subtitle streams instead of "
            f"{len(expected.sound)} and {expected.subtitles}"
        )
    for index, sent in expected.sound.items():
        if counts[index] < sent - 2 * _SKIPPED:
            audit.faults.append(f"sound stream {index} has {counts[index]} packets instead of {sent}")
    audit.faults += _out_of_place(ends, {} if expected.shifts else expected.sound_ends)
    audit.facts = {"frames": match.both, "sound_packets": sum(counts[index] for index in expected.sound)}
    return audit


def _out_of_place(found: dict[int, Fraction], wanted: dict[int, Fraction]) -> Iterator[str]:
    for index, end in wanted.items():
        if index in found and abs(found[index] - end) > _FAR_S:
            yield f"sound stream {index} ends at {float(found[index]):.3f} s instead of {float(end):.3f} s"


def _stamps(packets: Iterable[Packet], picture: int, counts: Counter[int], ends: dict[int, Fraction]) -> Iterator[int]:
    """Yield the pts of the picture's packets as they lie in the file; count all packets by stream, note their ends."""
    for packet in packets:
        counts[packet.stream_index] += 1
        if packet.pts is not None:
            ends[packet.stream_index] = (packet.pts + (packet.duration or 0)) * packet.time_base
        if packet.stream_index == picture and packet.pts is not None:
            yield packet.pts


def _in_order(stamps: Iterable[int]) -> Iterator[int]:
    """Yield times in rising order that come in decoding order."""
    held: list[int] = []
    for stamp in stamps:
        heapq.heappush(held, stamp)
        if len(held) > _REORDERING:
            yield heapq.heappop(held)
    while held:
        yield heapq.heappop(held)


def _aligned(
    wanted: Iterable[Fraction], found: Iterable[Fraction], shifts: bool
) -> tuple[Iterator[Any], Iterator[Any]]:
    """Return both as tuples, from their first times on where the container may have moved them all."""
    return _from_first(wanted, shifts), _from_first(found, shifts)


def _from_first(times: Iterable[Fraction], relative: bool) -> Iterator[tuple[Fraction]]:
    first: Fraction | None = None
    for time in times:
        first = time if first is None else first
        yield (time - first if relative else time,)
