"""When the sound tracks of a file are heard, in seconds after the beginning of its picture."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

from gtasr_video.media.joints import Followers
from gtasr_video.media.reader import Reader
from gtasr_video.media.source import Packet, open_input, packets_of

# Packets lie further apart than they last by the rounding of times; more is a hole.
_HOLE: Final = Fraction(1, 20)


class Span(NamedTuple):
    """When a sound track begins and ends, and how much within has no sound.

    priming  the silence that its encoder may begin with, which some containers hide and others do not
    """

    begin: Fraction
    end: Fraction
    holes: Fraction
    priming: Fraction


def spans(path: Path) -> dict[int, Span]:
    """Return when each sound track that has any sound is heard, by index. What an edit list hides does not count."""
    found: dict[int, Span] = {}
    with beside(path, "audio") as (zero, _, packets):
        for packet in packets:
            if packet.pts is not None and not packet.is_discard:
                begin = packet.pts * packet.time_base - zero
                end = begin + (packet.duration or 0) * packet.time_base
                known = found.get(packet.stream_index) or Span(begin, begin, Fraction(0), _priming(packet.stream))
                hole = begin - known.end if packet.duration and begin - known.end > _HOLE else Fraction(0)
                found[packet.stream_index] = known._replace(
                    begin=min(begin, known.begin), end=max(end, known.end), holes=known.holes + hole
                )
    return found


def _priming(stream: Any) -> Fraction:
    """Return what two frames of the codec last: AAC begins with 1024 to 2112 samples, which at 8 kHz is much."""
    context = stream.codec_context
    if context is None or not context.frame_size or not context.sample_rate:
        return Fraction(0)
    return Fraction(2 * context.frame_size, context.sample_rate)


@contextlib.contextmanager
def beside(path: Path, kind: str) -> Iterator[tuple[Fraction, list[int], Iterator[Packet]]]:
    """Lend when the picture begins in seconds, and the indices and packets of the streams of one `kind`."""
    with Reader(path) as reader:
        zero, picture = reader.first_time, reader.stream_index
    with open_input(path) as container:
        tracks = [stream for stream in container.streams if stream.type == kind]
        packets = packets_of(container, [container.streams[picture], *tracks]) if tracks else ()
        yield zero, [track.index for track in tracks], Followers(picture).moved(packets)
