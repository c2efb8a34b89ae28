"""Subtitles, covers, data, several pictures and tags: kept, converted, or refused before any work."""

from __future__ import annotations

import re
import subprocess
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import pytest
from av.stream import Disposition

from gtasr_video.errors import UsageError, describe
from gtasr_video.media import Encoding, Reader, Writer
from gtasr_video.media.timecode import shifted
from tests.clips import Sound, add_words, frame_number, make_clip
from tests.media.test_remux import copy

SRT = "1\n00:00:00,500 --> 00:00:01,000\n<i>Hello</i> & bye\n\n2\n00:00:01,200 --> 00:00:01,800\nWorld\nline 2\n"
ASS = """[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Bold, Italic, Alignment
Style: Default,Arial,20,&H00FFFFFF,0,0,2
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:00.50,0:00:01.00,Default,,0,0,0,,{\\i1}Hello{\\i0} & bye
Dialogue: 0,0:00:01.20,0:00:01.80,Default,,0,0,0,,World\\Nline 2
"""


def ffmpeg(*arguments: str | Path) -> None:
    """Make a file with the ffmpeg program: another muxer than the one under test."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds with sound."""
    return make_clip(tmp_path_factory.mktemp("plain") / "plain.mkv", frames=50, bframes=0, sound=[Sound()])


def with_text(plain: Path, folder: Path, text: str, kind: str) -> Path:
    words, target = folder / f"words.{kind}", folder / f"in_{kind}.mkv"
    words.write_text(text)
    ffmpeg("-i", plain, "-i", words, "-map", "0", "-map", "1", "-c", "copy", "-metadata:s:s:0", "language=nld", target)
    return target


def texts(path: Path) -> list[tuple[Fraction, Fraction, str]]:
    """Return (start, length, text without its style) of all that the subtitles of a file say."""
    found = []
    with av.open(str(path)) as container:
        (stream,) = container.streams.subtitles
        for packet in container.demux(stream):
            said = stream.decode2(packet) if packet.size else None
            if said is not None and len(said) and packet.pts is not None:
                text = b"|".join(rect.dialogue for rect in said)  # type: ignore[attr-defined]
                unit = packet.time_base
                words = re.sub(r"\{.*?\}", "", text.decode()).strip()
                found.append((packet.pts * unit, (packet.duration or 0) * unit, words))
    return found


SAID = [
    (Fraction(1, 2), Fraction(1, 2), "Hello & bye"),
    (Fraction(6, 5), Fraction(3, 5), "World\nline 2"),
]


@pytest.mark.parametrize(("text", "kind"), [(SRT, "srt"), (ASS, "ass")])
@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "mov_text"), (".mov", "mov_text"), (".webm", "webvtt")])
def test_text_subtitles_are_converted_and_back(
    plain: Path, tmp_path: Path, text: str, kind: str, suffix: str, codec: str
) -> None:
    source = with_text(plain, tmp_path, text, kind)
    encoding = Encoding(preset="8") if suffix == ".webm" else None
    facts = copy(source, tmp_path / f"out{suffix}", encoding)
    entry = facts["streams"][1]
    assert (entry["action"], entry["language"]) == ("converted", "nld")
    assert texts(tmp_path / f"out{suffix}") == SAID
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        stream = container.streams.subtitles[0]
        assert stream.codec_context.codec.canonical_name == codec
        assert stream.language in ("nld", "dut")
    copy(tmp_path / f"out{suffix}", tmp_path / "back.mkv")
    assert texts(tmp_path / "back.mkv") == SAID


def test_italics_survive_the_way_there_and_back(plain: Path, tmp_path: Path) -> None:
    copy(with_text(plain, tmp_path, SRT, "srt"), tmp_path / "out.mp4")
    copy(tmp_path / "out.mp4", tmp_path / "back.mkv")
    with av.open(str(tmp_path / "back.mkv")) as container:
        first = next(p for p in container.demux(container.streams.subtitles[0]) if p.size)
    assert bytes(first) == b"<i>Hello</i> & bye"


def test_a_cut_keeps_the_subtitle_that_is_on(plain: Path, tmp_path: Path) -> None:
    source = with_text(plain, tmp_path, SRT, "srt")
    copy(source, tmp_path / "out.mkv", start=Fraction(3, 4), duration=Fraction(3, 4))
    begin = Fraction(19, 25)
    assert texts(tmp_path / "out.mkv") == [
        (0, 1 - begin, "Hello & bye"),
        (Fraction(6, 5) - begin, Fraction(3, 4) - Fraction(6, 5) + begin, "World\nline 2"),
    ]


def test_a_cut_keeps_the_subtitle_that_began_long_before(tmp_path: Path) -> None:
    bare = make_clip(tmp_path / "bare.mkv", pts=[n * 12800 for n in range(31)], gop=5, bframes=0, sound=[Sound()])
    cues = [(1, 28, "sign"), (2, 3, "over"), (15, 7, "near"), (21, 1, "in it"), (25, 1, "after")]
    source = add_words(bare, tmp_path / "in.mkv", cues)
    copy(source, tmp_path / "out.mkv", start=Fraction(20), duration=Fraction(4))
    assert texts(tmp_path / "out.mkv") == [(0, 4, "sign"), (0, 2, "near"), (1, 1, "in it")]


def with_bitmaps(path: Path) -> Path:
    """A Matroska file with PGS subtitles: one set that shows nothing, which is all that counts here."""
    with av.open(str(path), "w") as output:
        film: Any = output.add_stream("libx264", rate=25)
        film.width, film.height = 64, 48
        shapes = output.add_mux_stream("hdmv_pgs_subtitle")
        shapes.metadata["language"] = "fra"
        for number in range(10):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(film.encode(frame))
        output.mux(film.encode(None))
        composition = bytes.fromhex("16000b0040003010000080000000") + bytes.fromhex("800000")
        packet: Any = av.Packet(composition)
        packet.stream, packet.pts, packet.dts, packet.duration = shapes, 0, 0, 200
        packet.time_base = Fraction(1, 1000)
        output.mux(packet)
    return path


def test_bitmap_subtitles_are_kept_where_they_can_be_and_refused_where_not(tmp_path: Path) -> None:
    source = with_bitmaps(tmp_path / "in.mkv")
    assert copy(source, tmp_path / "out.mkv")["streams"][0]["action"] == "copied"
    with pytest.raises(UsageError) as caught:
        copy(source, tmp_path / "out.mp4")
    line = describe(caught.value)
    assert "mp4 cannot hold subtitle stream 1 (hdmv_pgs_subtitle, fra); write .mkv, or use --drop" in line
    assert not (tmp_path / "out.mp4").exists()
    facts = copy(source, tmp_path / "out.mp4", drop_unsupported=True)
    assert facts["streams"][0]["action"] == "left out"


# --- covers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cover") / "cover.jpg"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48", "-frames:v", "1", path)
    return path


def covers(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        stills = [s for s in container.streams.video if s.disposition & Disposition.attached_pic]
        return [next(bytes(p) for p in container.demux(s) if p.size) for s in stills]


def test_a_cover_goes_from_matroska_to_mp4_and_back_also_in_a_cut(plain: Path, picture: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    ffmpeg("-i", plain, "-c", "copy", "-attach", picture, "-metadata:s:t", "mimetype=image/jpeg", source)
    for name, window in (("a.mp4", {}), ("b.mp4", {"start": Fraction(1)}), ("b.mkv", {"start": Fraction(1)})):
        facts = copy(source, tmp_path / name, **window)
        assert facts["streams"][-1]["action"] == "copied", facts
        assert covers(tmp_path / name) == [picture.read_bytes()]
    copy(tmp_path / "a.mp4", tmp_path / "back.mkv")
    assert covers(tmp_path / "back.mkv") == [picture.read_bytes()]


def test_a_cover_that_looks_like_video_is_not_taken_for_it(plain: Path, picture: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    ffmpeg("-i", plain, "-i", picture, "-map", "1", "-map", "0", "-c", "copy", source)
    facts = copy(source, tmp_path / "out.mkv")
    with Reader(tmp_path / "out.mkv") as reader:
        assert reader.stream_index == 1
        assert [frame_number(f.planes[0]) for f in reader] == list(range(50))
    assert "video stream 0 was copied as it is; --video-stream 0 enlarges that one" in facts["warnings"]


# --- several pictures -----------------------------------------------------------------------------------------------


def test_one_of_several_pictures_is_chosen_and_the_others_are_copied(tmp_path: Path) -> None:
    one = make_clip(tmp_path / "1.mkv", frames=12)
    two = make_clip(tmp_path / "2.mkv", frames=8, size=(96, 64), first_number=100, bframes=0)
    source = tmp_path / "in.mkv"
    ffmpeg("-i", one, "-i", two, "-map", "0", "-map", "1", "-c", "copy", source)
    for suffix in (".mkv", ".mp4"):
        facts = copy(source, tmp_path / f"out{suffix}", video_stream=1)
        assert facts["width"] == 96
        for index, numbers in ((0, list(range(12))), (1, list(range(100, 108)))):
            with Reader(tmp_path / f"out{suffix}", video_stream=index) as reader:
                assert [frame_number(f.planes[0]) for f in reader] == numbers
    with av.open(str(source)) as before, av.open(str(tmp_path / "out.mkv")) as after:
        packets = [[bytes(p) for p in c.demux(c.streams[0]) if p.size] for c in (before, after)]
    assert packets[0] == packets[1]


def test_a_stream_that_is_no_picture_is_refused(plain: Path) -> None:
    with pytest.raises(UsageError, match=r"has no video stream 1; its video streams are 0 \(h264 64x48\)"):
        Reader(plain, video_stream=1)


# --- data -----------------------------------------------------------------------------------------------------------


def timecode_of(path: Path) -> str | None:
    with av.open(str(path)) as container:
        tags = {k.lower(): v for k, v in container.streams.video[0].metadata.items()}
    return tags.get("timecode")


def test_timecode_is_kept_and_moved_with_a_cut(tmp_path: Path) -> None:
    source = tmp_path / "in.mov"
    grey = ("-f", "lavfi", "-i", "color=s=64x48:r=30000/1001:d=2")
    ffmpeg(*grey, "-timecode", "00:59:59;20", "-c:v", "libx264", source)
    for suffix in (".mov", ".mp4", ".mkv"):
        facts = copy(source, tmp_path / f"out{suffix}")
        assert facts["streams"][0]["action"] == "rewritten"
        assert timecode_of(tmp_path / f"out{suffix}") == "00:59:59;20"
        copy(source, tmp_path / f"cut{suffix}", start=Fraction(1001, 1000))
        assert timecode_of(tmp_path / f"cut{suffix}") == "01:00:00;20"
    with av.open(str(tmp_path / "cut.mov")) as container:
        assert [s.type for s in container.streams] == ["video", "data"]


@pytest.mark.parametrize(
    ("before", "frames", "rate", "after"),
    [
        ("01:02:03:04", 25, 25, "01:02:04:04"),
        ("00:00:59:24", 1, 25, "00:01:00:00"),
        ("00:00:59;29", 1, Fraction(30000, 1001), "00:01:00;02"),
        ("00:09:59;29", 1, Fraction(30000, 1001), "00:10:00;00"),
        ("00:00:59;59", 1, Fraction(60000, 1001), "00:01:00;04"),
        ("00:00:00;00", 17982, Fraction(30000, 1001), "00:10:00;00"),
        ("23:59:59:23", 1, Fraction(24000, 1001), "00:00:00:00"),
        ("23:59:59;29", 1, Fraction(30000, 1001), "00:00:00;00"),
        ("none", 5, 25, "none"),
    ],
)
def test_timecodes_are_counted(before: str, frames: int, rate: Fraction | int, after: str) -> None:
    assert shifted(before, frames, Fraction(rate)) == after


def test_drop_frame_numbers_are_all_different_and_in_order() -> None:
    rate = Fraction(30000, 1001)
    seen = [shifted("00:00:00;00", n, rate) for n in range(20000)]
    assert seen == sorted(set(seen))
    assert "00:01:00;00" not in seen
    assert "00:10:00;00" in seen
    assert all(shifted(a, 1, rate) == b for a, b in pairwise(seen[1790:1811]))


def with_klv(path: Path) -> Path:
    """A transport stream with a data stream of key, length, value packets, as drones make them."""
    with av.open(str(path), "w", format="mpegts") as output:
        film: Any = output.add_stream("libx264", rate=25)
        film.width, film.height, film.max_b_frames = 64, 48, 0
        data = output.add_data_stream("klv")
        for number in range(25):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(film.encode(frame))
            packet: Any = av.Packet(bytes.fromhex("060e2b34020b01010e01030101000000") + bytes([1, number]))
            packet.stream, packet.pts, packet.dts, packet.time_base = data, number, number, Fraction(1, 25)
            output.mux(packet)
        output.mux(film.encode(None))
    return path


def test_data_streams_are_copied_where_they_can_be(tmp_path: Path) -> None:
    source = with_klv(tmp_path / "in.ts")
    copy(source, tmp_path / "out.ts")
    found = []
    for path in (source, tmp_path / "out.ts"):
        with av.open(str(path)) as container:
            found.append([(p.pts, bytes(p)) for p in container.demux(container.streams.data[0]) if p.size])
    assert len(found[0]) >= 24
    assert [data for _, data in found[0]] == [data for _, data in found[1]]
    with pytest.raises(UsageError, match=r"mp4 cannot hold data stream 1 \(klv\); write .ts, .m2ts, or use"):
        copy(source, tmp_path / "out.mp4")


# --- tags -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_tags_of_any_name_are_kept(tmp_path: Path, suffix: str) -> None:
    said = {"title": "Höhe", "com.example.camera": "mine", "producer": "somebody"}
    source = make_clip(tmp_path / "in.mkv", frames=3, metadata=said)
    assert copy(source, tmp_path / f"out{suffix}")["warnings"] == []
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        found = {k.lower(): v for k, v in container.metadata.items()}
    assert said.items() <= found.items()


def test_common_tags_are_written_as_every_player_reads_them(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=3, metadata={"title": "Höhe", "artist": "somebody"})
    copy(source, tmp_path / "out.mp4")
    data = (tmp_path / "out.mp4").read_bytes()
    assert b"\xa9nam" in data
    assert b"mdta" not in data


def test_tags_that_have_no_place_are_told(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=3, metadata={"title": "Höhe"})
    assert copy(source, tmp_path / "out.ts")["warnings"] == [
        "mpegts has no place for the tags title; they were left out"
    ]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_languages_and_dispositions_are_kept(tmp_path: Path, suffix: str) -> None:
    tracks = [Sound(language="deu"), Sound("mp3", language="nld", default=False)]
    source = make_clip(tmp_path / "in.mkv", frames=5, sound=tracks)
    with Reader(source) as reader, Writer(tmp_path / f"out{suffix}", reader.spec, source=reader) as writer:
        for frame in reader:
            writer.write(frame)
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        tongues = [s.language for s in container.streams.audio]
        defaults = [bool(s.disposition & Disposition.default) for s in container.streams.audio]
    assert tongues == (["ger", "dut"] if suffix == ".mov" else ["deu", "nld"])
    assert defaults == [True, False]
