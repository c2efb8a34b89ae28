"""Segments joined without encoding are the film: every time, every picture, every codec and container."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest

from gtasr_video.errors import OutputError
from gtasr_video.media import Encoding, Reader, Writer
from gtasr_video.media.durable import Space
from gtasr_video.media.encoding import plan
from gtasr_video.media.segments import Segment, SegmentWriter, join
from tests.clips import Sound, make_clip, phone_times, sound_of
from tests.media.test_writer import in_layout

KINDS = [
    *((suffix, "h264") for suffix in (".mp4", ".mov", ".mkv", ".ts", ".m2ts")),
    *((suffix, "h265") for suffix in (".mp4", ".mkv", ".ts")),
    *((suffix, "av1") for suffix in (".mp4", ".webm")),
    *((suffix, "vp9") for suffix in (".mp4", ".mkv")),
    *((suffix, "prores") for suffix in (".mov", ".mkv")),
    (".mkv", "ffv1"),
]
CUTS = (0, 13, 14, 31)
PRESETS = {"av1": "11", "vp9": "8", "h264": "veryfast", "h265": "ultrafast"}


def encoded(source: Path, target: Path, encoding: Encoding, starts: Sequence[int]) -> list[Segment]:
    """Encode `source` in segments that begin at these frames."""
    segments: list[Segment] = []
    with Reader(source) as reader:
        wanted = plan(target, encoding, reader.spec)
        writer: SegmentWriter | None = None
        for number, frame in enumerate(reader):
            if number in starts:
                if writer is not None:
                    segments.append(writer.finish())
                writer = SegmentWriter(target.with_suffix(f".{number}"), target, wanted, 0, Space(target.parent))
            assert writer is not None
            writer.write(in_layout(frame, reader.spec, wanted.spec))
        assert writer is not None
        segments.append(writer.finish())
    return segments


def joined(segments: Sequence[Segment], source: Path, target: Path, encoding: Encoding) -> Path:
    with Reader(source) as reader, Writer(target, reader.spec, encoding, source=reader) as writer:
        join(segments, writer)
    return target


def alone(segment: Segment, source: Path, target: Path, encoding: Encoding) -> list[bytes]:
    """Return the pictures of a segment in a file by itself."""
    with Reader(source) as reader, Writer(target, reader.spec, encoding, overwrite=True) as writer:
        join([segment], writer)
    return [picture for _, picture in pictures(target)]


def pictures(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        return [(f.pts * f.time_base, f.to_ndarray().tobytes()) for f in container.decode(video=0)]


@pytest.mark.parametrize(("suffix", "codec"), KINDS)
def test_times_of_one_encoder_and_pictures_of_the_segments(tmp_path: Path, suffix: str, codec: str) -> None:
    source = make_clip(tmp_path / "in.mp4", pts=phone_times(40), time_base=Fraction(1, 90000), sound=[Sound("mp3")])
    encoding = Encoding(codec=codec, preset=PRESETS.get(codec))
    one = tmp_path / f"one{suffix}"
    with Reader(source) as reader, Writer(one, reader.spec, encoding, source=reader) as writer:
        for frame in reader:
            writer.write(in_layout(frame, reader.spec, writer.spec))
    segments = encoded(source, tmp_path / f"segment{suffix}", encoding, CUTS)
    many = joined(segments, source, tmp_path / f"many{suffix}", encoding)
    before, after = pictures(one), pictures(many)
    assert [time for time, _ in after] == [time for time, _ in before]
    apart = [p for s in segments for p in alone(s, source, tmp_path / f"alone{suffix}", encoding)]
    assert [picture for _, picture in after] == apart
    if codec in ("ffv1", "prores"):  # every picture is on its own: what surrounds it cannot matter
        assert after == before
    assert sound_of(many) == sound_of(one)
    with av.open(str(one)) as a, av.open(str(many)) as b:
        assert a.duration == b.duration


def test_one_segment_is_what_one_encoder_makes(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", pts=phone_times(30), time_base=Fraction(1, 90000), sound=[Sound()])
    one = tmp_path / "one.mp4"
    with Reader(source) as reader, Writer(one, reader.spec, source=reader) as writer:
        for frame in reader:
            writer.write(frame)
    segments = encoded(source, tmp_path / "segment.mp4", Encoding(), (0,))
    many = joined(segments, source, tmp_path / "many.mp4", Encoding())
    assert many.read_bytes() == one.read_bytes()


def test_segments_that_do_not_belong_together(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4")
    first = encoded(source, tmp_path / "a.mp4", Encoding(), (0, 12))
    other = encoded(source, tmp_path / "b.mp4", Encoding(pix_fmt="yuv444p"), (0, 12))
    with pytest.raises(OutputError, match="encoded in different ways"):
        joined([first[0], other[1]], source, tmp_path / "out.mp4", Encoding())
    assert not (tmp_path / "out.mp4").exists()


def test_a_segment_that_was_damaged_is_not_joined(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4")
    segments = encoded(source, tmp_path / "a.mp4", Encoding(), (0, 12))
    data = bytearray(segments[1].path.read_bytes())
    data[100] ^= 1
    segments[1].path.write_bytes(data)
    assert [segment.is_whole() for segment in segments] == [True, False]
    with pytest.raises(OutputError, match="changed or damaged"):
        joined(segments, source, tmp_path / "out.mp4", Encoding())
    assert not (tmp_path / "out.mp4").exists()
