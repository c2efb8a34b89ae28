"""Fields become whole pictures where there are any, frame for frame; nothing else is touched."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from gtasr_video.frames import Frame
from gtasr_video.media import Encoding, Reader, Writer
from gtasr_video.media.deinterlace import Fields, _judged, _last_in_turns
from tests.media.test_streams import ffmpeg

SIZE = "96x480"


def moving(seconds: float = 1, rate: str = "50") -> tuple[str, ...]:
    """FFmpeg's input: smooth shapes that move from field to field."""
    wave = "128+60*sin((X+3*N)/9)*cos((Y+4*N)/30)"
    source = f"color=s={SIZE}:r={rate}:d={seconds},format=yuv420p,geq=lum='{wave}':cb=128:cr=128"
    return ("-f", "lavfi", "-i", source)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("fields")
    lossless = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0")
    woven = "tinterlace=interleave_top"
    tagged = ("-bsf:v", "h264_metadata=video_full_range_flag=1:matrix_coefficients=1")
    made: dict[str, tuple[str, ...]] = {
        "truth": (*moving(), *lossless),
        "flagged": (*moving(), "-vf", woven, *lossless, "-flags", "+ildct+ilme", "-x264-params", "tff=1"),
        "unflagged": (
            *moving(),
            "-vf",
            f"{woven},setfield=prog",
            *lossless,
            *tagged,
        ),
        "progressive": (*moving(1, "25"), *lossless),
        "telecined": (*moving(3, "24000/1001"), "-vf", "telecine", *lossless),
    }
    for name, arguments in made.items():
        ffmpeg(*arguments, folder / f"{name}.mkv")
    return {name: folder / f"{name}.mkv" for name in made}


def frames_of(path: Path, **options: Any) -> tuple[list[Frame], dict[str, Any]]:
    with Reader(path, **options) as reader:
        return list(reader), reader.facts()


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(10 * torch.log10(255**2 / (one.float() - other.float()).square().mean().clamp_min(1e-9)))


@pytest.mark.parametrize("name", ["flagged", "unflagged"])
def test_fields_become_whole_pictures(clips: dict[str, Path], name: str) -> None:
    truth = frames_of(clips["truth"])[0][::2]  # the moments of the first fields
    combed, _ = frames_of(clips[name], deinterlace="never")
    whole, facts = frames_of(clips[name])
    assert facts["deinterlaced"] and not facts["interlaced"]
    assert facts["fields"] == "tff"
    assert [f.pts for f in whole] == [f.pts for f in combed]
    assert [f.duration for f in whole] == [f.duration for f in combed]
    assert len(whole) == 25
    for one, before, after in list(zip(truth, combed, whole, strict=True))[1:-1]:
        assert psnr(after.planes[0], one.planes[0]) > psnr(before.planes[0], one.planes[0]) + 6


def test_a_stream_keeps_what_it_says_of_its_colours(clips: dict[str, Path]) -> None:
    with Reader(clips["unflagged"]) as reader:
        assert reader.spec.color.full_range
        assert reader.spec.color.matrix == "bt709"


@pytest.mark.parametrize(("name", "mode"), [("progressive", "auto"), ("flagged", "never"), ("truth", "auto")])
def test_nothing_else_is_touched(clips: dict[str, Path], name: str, mode: str) -> None:
    plain, facts = frames_of(clips[name], deinterlace=mode)
    untouched, _ = frames_of(clips[name], deinterlace="never")
    assert not facts["deinterlaced"]
    for one, other in zip(plain, untouched, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))
    assert any("is interlaced" in line for line in facts["warnings"]) == (name == "flagged")


def test_always_means_always(clips: dict[str, Path]) -> None:
    whole, facts = frames_of(clips["progressive"], deinterlace="always")
    plain, _ = frames_of(clips["progressive"])
    assert facts["deinterlaced"]
    assert len(whole) == len(plain)
    assert not torch.equal(whole[3].planes[0], plain[3].planes[0])


def test_telecine_is_named(clips: dict[str, Path]) -> None:
    _, facts = frames_of(clips["telecined"], frames=5)
    assert facts["telecine"]
    assert any("is telecined film (3:2 pulldown)" in line for line in facts["warnings"])
    assert not frames_of(clips["flagged"], frames=5)[1]["telecine"]


def with_pulldown(folder: Path) -> Path:
    """Return a film in MPEG-2 whose pictures say in turns that their first field is to be shown again (ISO 13818-2)."""
    plain, said = folder / "plain.m2v", folder / "pulldown.m2v"
    ffmpeg(*moving(2, "30000/1001"), "-c:v", "mpeg2video", "-q:v", "3", "-bf", "0", "-g", "12", plain)
    data = bytearray(plain.read_bytes())
    place, count = data.find(b"\0\0\1\xb5"), 0
    while place >= 0:
        kind = data[place + 4] >> 4
        if kind == 1:
            data[place + 5] &= ~0x08  # not a progressive sequence
        elif kind == 8:
            # top_field_first and repeat_first_field
            data[place + 7] = data[place + 7] & 0x7D | (0x80, 0x82, 0x00, 0x02)[count % 4]
            count += 1
        place = data.find(b"\0\0\1\xb5", place + 4)
    said.write_bytes(data)
    return said


@pytest.mark.parametrize("container", ["ts", "mpg", "mkv"])
def test_soft_telecine_is_named_and_left_alone(tmp_path: Path, container: str) -> None:
    said, path = with_pulldown(tmp_path), tmp_path / f"film.{container}"
    ffmpeg("-fflags", "+genpts", "-r", "30000/1001", "-i", said, "-c", "copy", path)
    found, facts = frames_of(path)
    assert facts["soft_telecine"] and not facts["telecine"]
    assert any("soft 3:2 pulldown" in line for line in facts["warnings"])
    left, _ = frames_of(path, deinterlace="never")
    for one, other in zip(found, left, strict=True):
        assert torch.equal(one.planes[0], other.planes[0])


@pytest.mark.parametrize("name", ["telecined", "progressive", "flagged"])
def test_other_video_is_no_soft_telecine(clips: dict[str, Path], name: str) -> None:
    assert not frames_of(clips[name], frames=5)[1]["soft_telecine"]


def test_times_that_mean_nothing_are_no_soft_telecine() -> None:
    assert not _last_in_turns([0.0] * 60)
    assert not _last_in_turns([None, 1.0, None] * 20)
    assert not _last_in_turns([])


def test_a_cut_has_the_frames_of_the_whole(clips: dict[str, Path]) -> None:
    whole, _ = frames_of(clips["unflagged"])
    part, _ = frames_of(clips["unflagged"], start=Fraction(2, 5), duration=Fraction(1, 5))
    assert len(part) == 5
    for one, other in zip(part, whole[10:15], strict=True):
        assert one.pts == other.pts
        assert torch.equal(one.planes[0], other.planes[0])


def test_reading_again_from_the_middle_gives_the_same(clips: dict[str, Path]) -> None:
    with Reader(clips["unflagged"]) as reader:
        whole = list(reader)
        reader.restart(whole[12].pts * reader.spec.time_base)
        again = {frame.pts: frame for frame in reader}
    for frame in whole[13:]:
        assert torch.equal(again[frame.pts].planes[0], frame.planes[0])


def test_the_output_says_that_it_is_progressive(clips: dict[str, Path], tmp_path: Path) -> None:
    with (
        Reader(clips["flagged"]) as reader,
        Writer(tmp_path / "out.mp4", reader.spec, Encoding(crf=20), source=reader) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    facts = frames_of(tmp_path / "out.mp4")[1]
    assert not facts["interlaced"] and not facts["deinterlaced"]


@pytest.mark.parametrize(
    ("counts", "fields"),
    [
        ((40, 0, 3, 0, 0), Fields("tff")),
        ((0, 40, 3, 0, 0), Fields("bff")),
        ((34, 6, 19, 0, 0), Fields()),
        ((0, 0, 59, 0, 0), Fields()),
        ((5, 0, 0, 0, 0), Fields()),
        ((24, 0, 35, 12, 12), Fields("tff", telecine=True)),
    ],
)
def test_what_is_seen_is_judged_with_care(counts: tuple[int, ...], fields: Fields) -> None:
    names = ("multiple.tff", "multiple.bff", "multiple.progressive", "repeated.top", "repeated.bottom")
    metadata = {f"lavfi.idet.{name}": f"{count:.2f}" for name, count in zip(names, counts, strict=True)}
    assert _judged(metadata, 59) == fields
