"""Whether one file is another, only larger: both decoded, frame by frame, stream by stream."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

from gtasr_video.audit import Audit
from gtasr_video.frames import VideoSpec
from gtasr_video.media import labels
from gtasr_video.media.audit import TimesMatch
from gtasr_video.media.probing import probe
from gtasr_video.media.reader import Reader
from gtasr_video.media.spans import beside, spans
from gtasr_video.media.window import WHOLE, Window
from gtasr_video.ops.brightness import brightness, has_lost_its_picture

# Sound is cut to packets and padded to them when it is encoded again.
_SOUND_TOLERANCE: Final = Fraction(1, 10)
# Every container counts milliseconds at least; some programs count frames.
_TEXT_TOLERANCE: Final = Fraction(1, 20)
_NO_TEXT: Final = b"\0\0"  # what MP4 shows between texts

_COVER: Final = {"attached_pic", "timed_thumbnails"}
_HDR: Final = {16: "PQ", 18: "HLG"}  # codes of ITU-T H.273

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
    where the source is not, damage in the output, the shape in which players show the picture, transparency, PQ and
    HLG, each sound track's channels, beginning, end and holes, the times at which each subtitle track changes, and how
    many other pictures, covers, attachments and chapters there are. Tags that differ, another turn of the picture and
    mastering data that are gone are noted. Raises InputError if one of them cannot be read.
    """
    audit = Audit()
    before, after = probe(source), probe(output)
    with Reader(source, **asdict(window)) as one, Reader(output) as other:
        _compare_pictures(audit, one, other)
        pairs = _compare_streams(audit, _without(before, one.stream_index), _without(after, other.stream_index))
    if window.is_whole:
        _compare_sound(audit, Path(source), Path(output), pairs.sound)
        _compare_words(audit, Path(source), Path(output), pairs.words)
        if after["chapters"] < before["chapters"]:
            audit.faults.append(f"{after['chapters']} chapters in place of {before['chapters']}")
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
    _compare_looks(audit, one.spec, other.spec)
    audit.facts |= {
        "frames": match.both,
        "source": _named(one),
        "output": _named(other),
        "scale": round(float(_shown(other.spec)[1] / _shown(one.spec)[1]), 3),
    }


def _compare_looks(audit: Audit, one: VideoSpec, other: VideoSpec) -> None:
    """Compare how players show the picture, by what the streams say of it."""
    (width, height), (other_width, other_height) = _shown(one), _shown(other)
    # Encoders that want even sizes add a row or column.
    if abs((other_width / width) / (other_height / height) - 1) > 2 / min(other_width, other_height):
        audit.faults.append(
            f"the picture's shape, as players show it, changed from {round(width)}x{round(height)} to "
            f"{round(other_width)}x{round(other_height)}"
        )
    elif (one.rotation, one.mirrored) != (other.rotation, other.mirrored):
        audit.notes.append("players turn or mirror the picture otherwise, which is right if it was turned itself")
    if one.layout.alpha and not other.layout.alpha:
        audit.faults.append("the picture is no longer transparent")
    if one.color.transfer in _HDR and other.color.transfer != one.color.transfer:
        audit.faults.append(f"the picture is no longer {_HDR[one.color.transfer]}")
    if one.hdr is not None and other.hdr is None:
        audit.notes.append("what the source says of its mastering (light levels, display) is not said")


def _shown(spec: VideoSpec) -> tuple[Fraction, Fraction]:
    """Return width and height in which players show the picture, in square pixels."""
    upright = spec.upright()
    return upright.width * upright.sample_aspect, Fraction(upright.height)


def _without(facts: dict[str, Any], picture: int) -> list[dict[str, Any]]:
    return [stream for stream in facts["streams"] if stream["index"] != picture]


def _bright(reader: Reader, zero: Fraction) -> Iterator[tuple[Fraction, float]]:
    """Yield (seconds after `zero`, brightness) of every frame."""
    for frame in reader:
        yield frame.pts * reader.spec.time_base - zero, brightness(frame, reader.spec)


def _named(reader: Reader) -> str:
    return f"{reader.spec.width}x{reader.spec.height}"


class _Pairs(NamedTuple):
    """Indices in source and output of the tracks that belong together, by language and order."""

    sound: list[tuple[int, int]]
    words: list[tuple[int, int]]


def _compare_streams(audit: Audit, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> _Pairs:
    """Note a fault for each stream that has no counterpart, and for sound of fewer channels.

    `before` and `after` are the streams beside the picture. Data are left aside: most are written anew, or describe
    the file.
    """
    left: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for stream in after:
        left.setdefault(_kind(stream), []).append(stream)
    pairs: dict[str, list[tuple[int, int]]] = {"audio": [], "subtitle": []}
    for stream in before:
        kind = _kind(stream)
        if kind[0] == "data":
            continue
        if kind[0] == "cover" and not left.get(kind):
            kind = "video", ""  # as some programs write it
        if not left.get(kind):
            language = f" ({stream['language']})" if stream["language"] else ""
            audit.faults.append(f"{_kind(stream)[0]} stream {stream['index']}{language} is missing")
            continue
        other = left[kind].pop(0)
        pairs.setdefault(kind[0], []).append((stream["index"], other["index"]))
        channels, found = stream.get("channels"), other.get("channels")
        if channels and found and found < channels:
            audit.faults.append(f"audio stream {stream['index']} has {found} channels in place of {channels}")
    audit.facts |= {"sound_tracks": len(pairs["audio"]), "subtitle_tracks": len(pairs["subtitle"])}
    return _Pairs(pairs["audio"], pairs["subtitle"])


def _kind(stream: dict[str, Any]) -> tuple[str, str]:
    """Return what a stream is, and for tracks its language: what two of the same have in common."""
    if stream["type"] not in ("audio", "subtitle"):
        is_cover = not _COVER.isdisjoint(stream["flags"])
        return "cover" if is_cover else stream["type"], ""
    language = stream["language"] or "und"
    return stream["type"], _TERMS.get(language, language)


def _compare_sound(audit: Audit, source: Path, output: Path, pairs: list[tuple[int, int]]) -> None:
    before, after = spans(source), spans(output)
    for number, (index, other_index) in enumerate(pairs):
        if index not in before or other_index not in after:
            if index in before:
                audit.faults.append(f"sound track {number} has no sound")
            continue
        one, other = before[index], after[other_index]
        tolerance = max(_SOUND_TOLERANCE, one.priming, other.priming)
        for what, wanted, found in (("begins", one.begin, other.begin), ("ends", one.end, other.end)):
            if abs(wanted - found) > tolerance:
                away = f"{abs(float(found - wanted)):.3f} s {'later' if found > wanted else 'earlier'}"
                audit.faults.append(f"sound track {number} {what} {away}")
        if other.holes - one.holes > tolerance:
            audit.faults.append(f"sound track {number} lacks {float(other.holes - one.holes):.3f} s in between")


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


def _compare_words(audit: Audit, source: Path, output: Path, pairs: list[tuple[int, int]]) -> None:
    """Note a fault for each subtitle track whose texts come or go at other times.

    Formats that show one text at a time hold those that overlap in pieces: beginnings and ends are not told apart.
    """
    before, after = _words(source), _words(output)
    for number, (index, other_index) in enumerate(pairs):
        one, other = before[index], after[other_index]
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


def _words(path: Path) -> dict[int, _Words]:
    with beside(path, "subtitle") as (zero, tracks, packets):
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
    return words
