"""Whether one file is another, only larger: both decoded, frame by frame, stream by stream."""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

from gtasr_video.audit import Audit
from gtasr_video.media import labels
from gtasr_video.media.audit import TimesMatch
from gtasr_video.media.joints import Followers
from gtasr_video.media.probing import probe
from gtasr_video.media.reader import Reader
from gtasr_video.media.source import Packet, open_input, packets_of
from gtasr_video.media.window import WHOLE, Window
from gtasr_video.ops.brightness import brightness, has_lost_its_picture

# Sound is cut to packets and padded to them when it is encoded again.
_SOUND_TOLERANCE: Final = Fraction(1, 10)
# Every container counts milliseconds at least; some programs count frames.
_TEXT_TOLERANCE: Final = Fraction(1, 20)
_NO_TEXT: Final = b"\0\0"  # what MP4 shows between texts

# ISO 639-2 has two codes for some languages: those for bibliographies, and those that are used.
_BIBLIOGRAPHIC: Final = "alb arm baq bur chi cze dut fre geo ger gre ice mac mao may per rum slo tib wel"
_USED: Final = "sqi hye eus mya zho ces nld fra kat deu ell isl mkd mri msa fas ron slk bod cym"
_TERMS: Final = dict(zip(_BIBLIOGRAPHIC.split(), _USED.split(), strict=True))


def verify(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    window: Window = WHOLE,
) -> Audit:
    """Compare the video `output` with the `source` it was made of, however it was made; both are decoded whole.

    window   what part of `source` went into it

    Compared: every frame's time after the first (within one tick), that none is black or of another brightness
    where the source is not, damage in the output, the shape of the picture, each sound track's beginning and end, the
    times at which each subtitle track changes. Tags that differ are noted. Raises InputError if one of them cannot be
    read.
    """
    audit = Audit()
    with Reader(source, **asdict(window)) as one, Reader(output) as other:
        _compare_pictures(audit, one, other)
    before, after = probe(source), probe(output)
    _compare_streams(audit, before["streams"], after["streams"])
    if window.is_whole:
        _compare_sound(audit, Path(source), Path(output))
        _compare_words(audit, Path(source), Path(output))
    _compare_tags(audit, before["tags"], after["tags"])
    return audit


def _compare_pictures(audit: Audit, one: Reader, other: Reader) -> None:
    tick = max(one.spec.time_base, other.spec.time_base)
    match = TimesMatch(tick)
    lost: list[Fraction] = []
    # Times may all be moved: cutting does that, and other programs begin at 0. Sound is compared after the picture.
    zeros = (one.first_time, other.first_time)
    if abs(zeros[0] - zeros[1]) <= tick:
        zeros = (Fraction(0), Fraction(0))
    for (time, before), (_, after) in match.pairs(_bright(one, zeros[0]), _bright(other, zeros[1])):
        if has_lost_its_picture(before, after):
            lost.append(time)
    audit.faults += match.faults()
    if lost:
        audit.faults.append(
            f"{len(lost)} frames have lost their picture (black, or of another brightness), first at "
            f"{float(lost[0]):.3f} s"
        )
    if other.corrupt_packets:
        audit.faults.append(f"{other.corrupt_packets} damaged packets")
    across, down = (Fraction(b, a) for a, b in zip(_size(one), _size(other), strict=True))
    # Encoders that want even sizes add a row or column.
    if abs(across / down - 1) > Fraction(2, min(_size(other))):
        audit.faults.append(f"the picture's shape changed from {_named(one)} to {_named(other)}")
    audit.facts |= {
        "frames": match.both,
        "source": _named(one),
        "output": _named(other),
        "scale": round(float(across), 3),
    }


def _bright(reader: Reader, zero: Fraction) -> Iterator[tuple[Fraction, float]]:
    """Yield (seconds after `zero`, brightness) of every frame."""
    for frame in reader:
        yield frame.pts * reader.spec.time_base - zero, brightness(frame, reader.spec)


def _size(reader: Reader) -> tuple[int, int]:
    return reader.spec.width, reader.spec.height


def _named(reader: Reader) -> str:
    return f"{reader.spec.width}x{reader.spec.height}"


def _compare_streams(audit: Audit, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    """Note a fault for each sound or subtitle track that has no counterpart."""
    left = Counter(_kind(stream) for stream in after)
    kept = Counter[str]()
    for stream in before:
        if stream["type"] not in ("audio", "subtitle"):
            continue
        kind = _kind(stream)
        if left[kind] > 0:
            left[kind] -= 1
            kept[stream["type"]] += 1
        else:
            language = f" ({stream['language']})" if stream["language"] else ""
            audit.faults.append(f"{stream['type']} stream {stream['index']}{language} is missing")
    audit.facts |= {"sound_tracks": kept["audio"], "subtitle_tracks": kept["subtitle"]}


def _kind(stream: dict[str, Any]) -> tuple[str, str]:
    language = stream["language"] or "und"
    return stream["type"], _TERMS.get(language, language)


def _compare_sound(audit: Audit, source: Path, output: Path) -> None:
    for number, (one, other) in enumerate(zip(_spans(source), _spans(output), strict=False)):
        tolerance = max(_SOUND_TOLERANCE, one.priming, other.priming)
        for what, wanted, found in (("begins", one.begin, other.begin), ("ends", one.end, other.end)):
            if abs(wanted - found) > tolerance:
                away = f"{abs(float(found - wanted)):.3f} s {'later' if found > wanted else 'earlier'}"
                audit.faults.append(f"sound track {number} {what} {away}")


class _Span(NamedTuple):
    """When a sound track begins and ends, in seconds after the beginning of the picture.

    priming  the silence that its encoder may begin with, which some containers hide and others do not
    """

    begin: Fraction
    end: Fraction
    priming: Fraction


def _spans(path: Path) -> list[_Span]:
    """Return when each sound track that has any sound is heard. What an edit list hides is not, and does not count."""
    spans: dict[int, _Span] = {}
    with _beside(path, "audio") as (zero, _, packets):
        for packet in packets:
            if packet.pts is not None and not packet.is_discard:
                begin = packet.pts * packet.time_base - zero
                end = begin + (packet.duration or 0) * packet.time_base
                known = spans.get(packet.stream_index) or _Span(begin, end, _priming(packet.stream))
                spans[packet.stream_index] = known._replace(begin=min(begin, known.begin), end=max(end, known.end))
    return [spans[index] for index in sorted(spans)]


def _priming(stream: Any) -> Fraction:
    """Return what two frames of the codec last: AAC begins with 1024 to 2112 samples, which at 8 kHz is much."""
    context = stream.codec_context
    if context is None or not context.frame_size or not context.sample_rate:
        return Fraction(0)
    return Fraction(2 * context.frame_size, context.sample_rate)


@contextlib.contextmanager
def _beside(path: Path, kind: str) -> Iterator[tuple[Fraction, list[int], Iterator[Packet]]]:
    """Lend when the picture begins in seconds, and the indices and packets of the streams of one `kind`."""
    with Reader(path) as reader:
        zero, picture = reader.first_time, reader.stream_index
    with open_input(path) as container:
        tracks = [stream for stream in container.streams if stream.type == kind]
        packets = packets_of(container, [container.streams[picture], *tracks]) if tracks else ()
        yield zero, [track.index for track in tracks], Followers(picture).moved(packets)


def _compare_tags(audit: Audit, before: dict[str, str], after: dict[str, str]) -> None:
    """Note tags of the work that are gone; those that describe the file rather than the work are left aside."""
    known = set(after.values())
    gone = [key for key, value in labels.lasting(before).items() if value not in known]
    if gone:
        audit.notes.append(f"tags that differ: {', '.join(sorted(gone))}")


@dataclass(slots=True)
class _Words:
    """When the texts of a subtitle track begin and end, in seconds after the beginning of the picture.

    lasting   whether all of them say how long they are on
    """

    begins: set[Fraction] = field(default_factory=set)
    ends: set[Fraction] = field(default_factory=set)
    lasting: bool = True


def _compare_words(audit: Audit, source: Path, output: Path) -> None:
    """Note a fault for each subtitle track whose texts come or go at other times.

    Formats that show one text at a time hold those that overlap in pieces: beginnings and ends are not told apart.
    """
    before, after = _words(source), _words(output)
    if len(before) != len(after):  # which is a fault already
        return
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        wanted, found = one.begins, other.begins
        lasting = one.lasting and other.lasting
        if lasting:
            wanted, found = wanted | one.ends, found | other.ends
        for what, times in (
            ("are missing", _lonely(wanted, found)),
            ("are not the source's", _lonely(found, wanted) if lasting else []),
        ):
            if times:
                first = f"first at {float(times[0]):.3f} s"
                audit.faults.append(f"{len(times)} times at which subtitle track {number} changes {what}, {first}")


def _lonely(times: set[Fraction], others: set[Fraction]) -> list[Fraction]:
    """Return those of `times` near which there is none of `others`."""
    line = sorted(others)
    alone = []
    for time in sorted(times):
        place = bisect_left(line, time - _TEXT_TOLERANCE)
        if place == len(line) or line[place] > time + _TEXT_TOLERANCE:
            alone.append(time)
    return alone


def _words(path: Path) -> list[_Words]:
    with _beside(path, "subtitle") as (zero, tracks, packets):
        words = {track: _Words() for track in tracks}
        on: dict[int, tuple[Fraction, bytes]] = {}
        for packet in packets:
            known, data = words[packet.stream_index], bytes(packet)
            if packet.pts is None or data == _NO_TEXT:
                continue
            begin = packet.pts * packet.time_base - zero
            end = begin + (packet.duration or 0) * packet.time_base
            if on.get(packet.stream_index) == (begin, data):  # the same text, which only goes on
                known.ends.discard(max(Fraction(0), begin))
            else:
                known.begins.add(max(Fraction(0), begin))
            if end > begin:
                known.ends.add(max(Fraction(0), end))
            else:
                known.lasting = False
            on[packet.stream_index] = end, data
    return list(words.values())
