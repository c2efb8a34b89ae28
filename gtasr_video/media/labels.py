"""Tags, languages, dispositions and chapters on their way from one container to another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, Final

import av
from av.stream import Disposition, Stream

from gtasr_video.media.codecs import ANIMATIONS

# Tags that describe the source file rather than the work, and would be wrong in the output.
_STALE: Final = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "rotate", "alpha_mode"}
_STATISTICS: Final = ("BPS", "NUMBER_OF_BYTES", "NUMBER_OF_FRAMES", "_STATISTICS_", "DURATION")
# The tags FFmpeg writes in the classic manner of each format, which every player reads; others need free names,
# which fewer players read.
_CLASSIC_MOV: Final = {
    *("title", "artist", "album", "date", "comment", "genre", "copyright", "location", "location-eng"),
    *("creation_time", "make", "model", "timecode"),
}
_CLASSIC_MP4: Final = _CLASSIC_MOV - {"make", "model"} | {
    *("album_artist", "composer", "grouping", "lyrics", "description", "synopsis", "show", "episode_id", "network"),
    *("keywords", "episode_sort", "season_number", "media_type", "hd_video", "gapless_playback", "compilation"),
    *("track", "disc"),
}
_CLASSIC: Final = {"mp4": _CLASSIC_MP4, "mov": _CLASSIC_MOV}
# Flags that say what a track is for, and which of them each muxer writes (tried with each, and read again).
_TELLING: Final = frozenset(
    {
        *("dub", "original", "comment", "lyrics", "karaoke", "forced", "hearing_impaired", "visual_impaired"),
        *("clean_effects", "captions", "descriptions"),
    }
)
_HELD: Final = {
    "mp4": _TELLING - {"original", "lyrics", "karaoke", "clean_effects"},
    "mov": frozenset[str](),
    "matroska": _TELLING - {"lyrics", "karaoke", "clean_effects", "captions", "descriptions"},
    "webm": frozenset({"forced"}),
    "mpegts": frozenset({"hearing_impaired", "visual_impaired", "clean_effects"}),
}
_HELD_OF_TEXTS: Final = {
    "matroska": frozenset({"descriptions"}),
    "webm": frozenset({"captions", "descriptions"}),
}
# Languages for which MOV knows the other of the two codes of ISO 639-2.
_MOV_LANGUAGE: Final = {
    "deu": "ger",
    "nld": "dut",
    "ell": "gre",
    "isl": "ice",
    "zho": "chi",
    "sqi": "alb",
    "rum": "ron",
    "cze": "ces",
    "slo": "slk",
    "fre": "fra",
}


def lasting(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that stay true of the output."""
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _STALE and not key.upper().startswith(_STATISTICS)
    }


def copy_labels(source: Stream, target: Stream, muxer: str) -> None:
    """Give `target` the tags, language and disposition of `source`."""
    tags = lasting(source.metadata)
    # FFmpeg reads the title of a track of MP4 and MOV as its name, but writes what is called title.
    if "name" in tags and "title" not in tags:
        tags["title"] = tags.pop("name")
    if muxer == "mov" and "language" in tags:
        tags["language"] = _MOV_LANGUAGE.get(tags["language"], tags["language"])
    target.metadata.update(tags)
    target.disposition = source.disposition


def without_place(source: Stream, muxer: str) -> list[str]:
    """Return what `copy_labels` gives a stream that `muxer` does not write: its title, flags that say what it is for.

    Which stream is the default one is left out: what holds no flags has the first for it.
    """
    held = _HELD.get(muxer, _TELLING)
    if source.type == "subtitle":
        held |= _HELD_OF_TEXTS.get(muxer, frozenset())
    title = ["title"] if muxer == "mpegts" and {"title", "name"} & source.metadata.keys() else []
    return title + [flag for flag in sorted(_TELLING - held) if Disposition[flag] & source.disposition]


def without_classic_place(muxer: str, tags: Iterable[str]) -> list[str]:
    """Return which global `tags` FFmpeg would not write into a file of `muxer` unless it is told to name them freely.

    MPEG-TS and animations hold none at all.
    """
    if muxer in ("mpegts", *ANIMATIONS):
        return sorted(tags)
    classic = _CLASSIC.get(muxer)
    return [] if classic is None else sorted(tag for tag in tags if tag.lower() not in classic)


def chapters_between(chapters: Iterable[Any], origin: Fraction | None, end: Fraction | None) -> list[Any]:
    """Return the chapters of the part from the second `origin` on, in the part's time, up to `end` seconds of that."""
    kept = []
    for chapter in chapters:
        unit = chapter["time_base"] or Fraction(1, av.time_base)
        shift = round((origin or 0) / unit)
        last = None if end is None else round(end / unit)
        start, stop = max(0, chapter["start"] - shift), chapter["end"] - shift
        stop = stop if last is None else min(stop, last)
        if stop > start or origin is end is None:
            kept.append({**chapter, "start": start, "end": stop, "time_base": unit})
    return kept
