"""Text subtitles in MP4 and MOV, which show one text at a time: whatever is on is there, and at its time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from gtasr_video.media import Encoding
from tests.clips import Sound, add_words, make_clip
from tests.media.test_remux import copy
from tests.media.test_streams import texts

FAST = Encoding(preset="ultrafast")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds with sound, whose tracks count time more finely than subtitles do."""
    return make_clip(tmp_path_factory.mktemp("plain") / "plain.mkv", frames=100, sound=[Sound()], bframes=0)


def said(path: Path) -> list[tuple[float, float, str]]:
    return [(float(begin), float(length), text) for begin, length, text in texts(path)]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_texts_that_overlap_are_shown_together_at_their_times(plain: Path, tmp_path: Path, suffix: str) -> None:
    cues = [(0.5, 2.5, "sign"), (1.0, 0.5, "one"), (2.0, 1.5, "two"), (3.5, 0.3, "three")]
    copy(add_words(plain, tmp_path / "in.mkv", cues), tmp_path / f"out{suffix}", FAST)
    assert said(tmp_path / f"out{suffix}") == [
        (0.5, 0.5, "sign"),
        (1.0, 0.5, "sign\none"),
        (1.5, 0.5, "sign"),
        (2.0, 1.0, "sign\ntwo"),
        (3.0, 0.5, "two"),
        (3.5, 0.3, "three"),
    ]


def test_texts_that_begin_together_keep_their_time(plain: Path, tmp_path: Path) -> None:
    cues = [(1.0, 1.0, "<i>one</i>"), (1.0, 2.0, "two")]
    source = add_words(plain, tmp_path / "in.mkv", cues)
    assert not copy(source, tmp_path / "out.mp4", FAST)["warnings"]
    assert said(tmp_path / "out.mp4") == [(1.0, 1.0, "one\ntwo"), (2.0, 1.0, "two")]
    assert not copy(source, tmp_path / "out.mkv", FAST)["warnings"]
    assert said(tmp_path / "out.mkv") == [(1.0, 1.0, "one"), (1.0, 2.0, "two")]
    copy(tmp_path / "out.mp4", tmp_path / "back.mkv", FAST)
    with av.open(str(tmp_path / "back.mkv")) as container:
        first = next(p for p in container.demux(container.streams.subtitles[0]) if p.size)
    assert bytes(first).replace(b"\r", b"") == b"<i>one</i>\ntwo"


def test_a_text_without_a_length_lasts_until_the_next(plain: Path, tmp_path: Path) -> None:
    source = add_words(plain, tmp_path / "in.mkv", [(0.5, 0, "one"), (1.5, 0, "two"), (3, 0, "three")])
    copy(source, tmp_path / "out.mp4", FAST)
    assert said(tmp_path / "out.mp4") == [(0.5, 1.0, "one"), (1.5, 1.5, "two"), (3.0, 0.96, "three")]


@pytest.mark.parametrize("cue", [(2900, 5, "late"), (10, 2895, "long")])
def test_texts_far_apart_or_very_long_keep_their_times(tmp_path: Path, cue: tuple[float, float, str]) -> None:
    """FFmpeg cannot say of two samples of MP4 that so much lies between them."""
    bare = make_clip(tmp_path / "bare.mkv", pts=[n * 12800 * 100 for n in range(31)], bframes=0)
    source = add_words(bare, tmp_path / "in.mkv", [(2, 3, "first"), cue, (2950, 5, "last")])
    copy(source, tmp_path / "out.mp4", FAST)
    found = said(tmp_path / "out.mp4")
    assert found[0] == (2, 3, "first") and found[-1] == (2950, 5, "last")
    begin, length, text = cue
    ours = [(at, lasts) for at, lasts, words in found if words == text]
    assert (ours[0][0], sum(lasts for _, lasts in ours)) == (begin, length)


def test_a_text_that_lies_late_in_the_file_is_shown(plain: Path, tmp_path: Path) -> None:
    source = add_words(plain, tmp_path / "in.mkv", [(0.5, 1, "first word"), (2, 1.5, "second word")], lead=-0.3)
    copy(source, tmp_path / "out.mp4", FAST)
    assert said(tmp_path / "out.mp4") == [(0.5, 1.0, "first word"), (2.0, 1.5, "second word")]


def test_a_text_at_an_impossible_time_is_told(tmp_path: Path) -> None:
    bare = make_clip(tmp_path / "bare.mkv", frames=5, bframes=0)
    source = add_words(bare, tmp_path / "in.mkv", [(0.04, 0.08, "first"), (1e10, 1, "never")])
    facts = copy(source, tmp_path / "out.mp4", FAST)
    assert said(tmp_path / "out.mp4") == [(0.04, 0.08, "first")]
    assert facts["warnings"] == ["subtitle stream 1: 1 damaged texts were left out"]


# --- cuts -----------------------------------------------------------------------------------------------------------


def test_a_cut_shows_together_what_is_on_when_it_begins(plain: Path, tmp_path: Path) -> None:
    cues = [(0.5, 3, "sign"), (0.7, 1.3, "near"), (1.5, 0.3, "in it"), (3, 0.5, "after")]
    source = add_words(plain, tmp_path / "in.mkv", cues)
    copy(source, tmp_path / "out.mp4", FAST, start=Fraction(1), duration=Fraction(3, 2))
    assert said(tmp_path / "out.mp4") == [
        (0, 0.5, "sign\nnear"),
        (0.5, 0.3, "sign\nnear\nin it"),
        (0.8, 0.2, "sign\nnear"),
        (1, 0.5, "sign"),
    ]


def test_the_first_part_of_a_file_that_begins_late_keeps_its_texts_and_chapters(tmp_path: Path) -> None:
    unit = Fraction(1, 1000)
    chapters = [
        {"id": n, "start": 100_000 + 1000 * n, "end": 101_000 + 1000 * n, "time_base": unit, "metadata": {}}
        for n in range(3)
    ]
    pts = [12800 * 100 + 512 * n for n in range(75)]
    bare = make_clip(tmp_path / "bare.mkv", pts=pts, bframes=0)
    words = add_words(bare, tmp_path / "words.mkv", [(100.2, 0.5, "one"), (101.2, 0.7, "two"), (102.2, 0.5, "three")])
    copy(words, tmp_path / "words_out.mkv", FAST, duration=Fraction(3, 2))
    assert said(tmp_path / "words_out.mkv") == [(100.2, 0.5, "one"), (101.2, 0.3, "two")]
    source = make_clip(tmp_path / "chapters.mkv", pts=pts, bframes=0, chapters=chapters)
    copy(source, tmp_path / "out.mkv", FAST, duration=Fraction(3, 2))
    with av.open(str(tmp_path / "out.mkv")) as container:
        spans = [(c["start"] * (c["time_base"] or 1), c["end"] * (c["time_base"] or 1)) for c in container.chapters()]
    assert spans == [(100, 101), (101, Fraction(203, 2))]
