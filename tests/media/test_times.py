"""Clocks as they are found: edit lists, delays, a counter that wraps around, fragments, raw streams."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from gtasr_video.media import Reader
from tests.clips import Sound, frame_number, make_clip
from tests.media.test_remux import copy
from tests.media.test_streams import ffmpeg

# The counter of MPEG-TS has 33 bits of 1/90000 s: it wraps a second after this.
BEFORE_THE_WRAP = "95442.7"
MADE: dict[str, tuple[str, ...]] = {
    "edited.mp4": ("-ss", "0.5", "-i", "{clip}", "-c", "copy"),
    "delayed.mp4": ("-itsoffset", "0.4", "-i", "{clip}", "-i", "{clip}", "-map", "0:v", "-map", "1:a", "-c", "copy"),
    "wrapping.ts": ("-i", "{clip}", "-c", "copy", "-muxdelay", "0", "-output_ts_offset", BEFORE_THE_WRAP),
    "fragments.mp4": ("-i", "{clip}", "-c", "copy", "-movflags", "frag_keyframe+empty_moov"),
    "late.ts": ("-i", "{clip}", "-c", "copy", "-avoid_negative_ts", "disabled"),
    "raw.h264": ("-i", "{clip}", "-map", "0:v", "-c", "copy"),
    "only_dts.avi": ("-i", "{clip}", "-c", "copy"),
    "a.flv": ("-i", "{clip}", "-c", "copy"),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("times")
    clip = make_clip(folder / "clip.mp4", frames=50, sound=[Sound()], bframes=3, gop=25)
    for name, arguments in MADE.items():
        ffmpeg(*(a.format(clip=clip) for a in arguments), folder / name)
    return folder


def moments(path: Path) -> list[tuple[Fraction, int]]:
    with Reader(path) as reader:
        return [(f.pts * reader.spec.time_base, frame_number(f.planes[0])) for f in reader]


def sound_ahead(path: Path) -> Fraction:
    """Return seconds from the first sound to the first frame."""
    first: dict[str, Fraction] = {}
    with av.open(str(path)) as container:
        for stream in (*container.streams.audio, *container.streams.video):
            first[stream.type] = (stream.start_time or 0) * (stream.time_base or Fraction(1))
    return first.get("video", Fraction(0)) - first.get("audio", first.get("video", Fraction(0)))


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_frames_stay_where_they_are_against_each_other_and_the_sound(
    clips: Path, tmp_path: Path, name: str, suffix: str
) -> None:
    before = moments(clips / name)
    numbers = [number for _, number in before]
    assert numbers == list(range(13, 50) if name == "edited.mp4" else range(50))
    copy(clips / name, tmp_path / f"out{suffix}")
    after = moments(tmp_path / f"out{suffix}")
    assert [number for _, number in after] == numbers
    shift = after[0][0] - before[0][0]
    half_a_tick = Fraction(1, 2000) if suffix == ".mkv" else Fraction(1, 180_000) if suffix == ".ts" else Fraction(0)
    gaps = [abs(a[0] - b[0] - shift) for a, b in zip(after, before, strict=True)]
    assert max(gaps) <= 2 * half_a_tick
    # The run-up of AAC and a packet that an edit list cuts in two are in step, but not always counted as the beginning.
    aside = abs(sound_ahead(tmp_path / f"out{suffix}") - sound_ahead(clips / name))
    assert aside < 2 * Fraction(1024, 48000) + half_a_tick


def test_a_clock_that_wraps_around_goes_on(clips: Path, tmp_path: Path) -> None:
    before = moments(clips / "wrapping.ts")
    assert before[0][0] < 0 < before[-1][0]
    copy(clips / "wrapping.ts", tmp_path / "out.mp4")
    after = moments(tmp_path / "out.mp4")
    assert 0 <= after[0][0] < Fraction(1, 20)
    assert {b - a for (a, _), (b, _) in pairwise(after)} == {Fraction(1, 25)}


def test_what_an_edit_list_hides_is_not_heard(clips: Path, tmp_path: Path) -> None:
    copy(clips / "edited.mp4", tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        first = min(p.pts * p.time_base for p in container.demux(audio=0) if p.pts is not None)
    assert first > -Fraction(1, 20)
