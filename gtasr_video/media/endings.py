"""When a picture should end: what the container says of it, and how far the file itself goes."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import Final, NamedTuple

import av
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from gtasr_video.media.source import is_cover, open_input, packets_of, seconds

# Formats whose lengths count from 0 on rather than from where the file begins, and are said of the whole file: what
# FFmpeg gives as that of a stream is the same.
_FROM_ZERO: Final = {"matroska", "flv", "asf"}


class Ending(NamedTuple):
    """File time in seconds at which a stream ends, and whether that is said of it alone, not of the longest stream."""

    time: Fraction
    own: bool


def stated_ending(container: InputContainer, stream: VideoStream, begin: Fraction) -> Ending | None:
    """Return when `stream` ends by what `container`, which begins at `begin`, says of it, None if it says nothing."""
    from_zero = not _FROM_ZERO.isdisjoint(container.format.name.split(","))
    exact = None if from_zero else seconds(stream.duration, stream.time_base)
    own = exact or _tagged_length(stream.metadata)
    length = own or seconds(container.duration, Fraction(1, av.time_base))
    if not length:
        return None
    if from_zero:
        end = length if length > begin else begin + length
    else:
        start = seconds(stream.start_time, stream.time_base) if exact else None
        end = (begin if start is None else start) + length
    return Ending(end, bool(own) or not _others(container, stream.index))


def _tagged_length(metadata: dict[str, str]) -> Fraction | None:
    """Return the length that Matroska writers leave in a stream's tags (``00:01:02.500000000``)."""
    try:
        hours, minutes, rest = metadata["DURATION"].split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(rest)
    except (KeyError, ValueError):
        return None


def end_of_others(path: Path, picture: int) -> Fraction | None:
    """Return the file time at which the last sound or other picture of `path` ends, None if there is none.

    The whole file is read, as searching some formats by the time of one stream leaves out what another has there.
    picture   index of the stream that is not looked at
    """
    last: Fraction | None = None
    with open_input(path) as container, contextlib.suppress(av.FFmpegError):
        for packet in packets_of(container, _others(container, picture)):
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None:
                end = (stamp + (packet.duration or 0)) * packet.time_base
                last = end if last is None else max(last, end)
    return last


def _others(container: InputContainer, picture: int) -> list[Stream]:
    return [s for s in container.streams if s.type in ("audio", "video") and s.index != picture and not is_cover(s)]
