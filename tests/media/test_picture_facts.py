"""What belongs to the picture comes along: transparency, mastering metadata, rotation, depth."""

from __future__ import annotations

import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

import gtasr_video
from gtasr_video.errors import UsageError, describe
from gtasr_video.frames import Frame, HdrMetadata
from gtasr_video.media import Encoding, Reader, Writer, probe
from gtasr_video.media.geometry import Crop
from gtasr_video.media.hdr import dolby_profile, has_no_base
from gtasr_video.media.planes import LAYOUTS
from gtasr_video.media.streams.pipe_source import FileSource
from gtasr_video.media.streams.reader import StreamReader
from gtasr_video.runtime.upscaler import Upscaler
from tests.clips import Picture, frame_number, make_clip, see_through, with_elements
from tests.fakes import Nearest
from tests.media.test_streams import ffmpeg
from tests.media.test_writer import seen


def through(
    source: Path, target: Path, encoding: Encoding | None = None, *, scale: int = 1, upright: bool = False, **more: Any
) -> dict[str, Any]:
    """Send `source` through a network that repeats pixels; return the writer's facts."""
    upscaler = Upscaler(Nearest(scale), device="cpu")
    with Reader(source) as reader:
        wanted = reader.spec.scaled(scale)
        with Writer(target, wanted.upright() if upright else wanted, encoding, source=reader, **more) as writer:
            for frame in upscaler(reader, output=writer.spec):
                writer.write(frame)
    return writer.facts()


def planes(path: Path) -> list[Frame]:
    with Reader(path) as reader:
        return list(reader)


# --- transparency ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "target", "into"),
    [
        ("a.mov", "prores_ks", "yuva444p10le", "b.mov", "prores"),
        ("a.webm", "libvpx-vp9", "yuva420p", "b.webm", "vp9"),
        ("a.webm", "libvpx-vp9", "yuva420p", "b.mkv", "ffv1"),
        ("a.mov", "qtrle", "argb", "b.mkv", "ffv1"),
        ("a.mov", "png", "rgba", "b.mov", "prores"),
        ("a.mkv", "ffv1", "yuva422p10le", "b.mkv", "ffv1"),
        ("a.mov", "prores_ks", "yuva444p10le", "b.webm", "vp9"),
        ("a.mov", "png", "rgba", "b.mkv", "vp9"),
    ],
)
def test_transparency_is_enlarged_with_the_picture(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, target: str, into: str
) -> None:
    options = {"profile": "4444"} if codec == "prores_ks" else {"crf": "4", "b": "0"} if "vp9" in codec else {}
    source = see_through(tmp_path / name, codec, pix_fmt, **options)
    through(source, tmp_path / target, Encoding(codec=into, crf=4 if into == "vp9" else None), scale=2)
    before, after = planes(source), planes(tmp_path / target)
    assert len(after) == len(before) == 3
    with Reader(tmp_path / target) as reader:
        assert reader.spec.layout.alpha
        top = (1 << reader.spec.layout.bits) - 1
    alpha = after[0].planes[3].to(torch.int32) / top
    assert alpha.shape == (96, 128)
    assert alpha[:44].max() < 0.02
    ramp = torch.arange(128) / 2 * 4 / 255
    assert (alpha[60:] - ramp).abs().max() < 0.05


def test_transparency_a_codec_cannot_hold_is_refused_with_ways_out(tmp_path: Path) -> None:
    source = see_through(tmp_path / "in.mkv", "ffv1", "yuva420p")
    with pytest.raises(UsageError) as caught:
        through(source, tmp_path / "out.mp4")
    line = describe(caught.value)
    assert "h264 in mp4 cannot hold" in line
    assert "--codec prores in .mov" in line
    assert "--codec vp9 in .webm" in line
    assert not (tmp_path / "out.mp4").exists()
    facts = through(source, tmp_path / "out.mp4", drop_unsupported=True)
    assert "h264 in mp4 cannot hold transparency; it was left out" in facts["warnings"]


def test_what_keeps_more_of_a_transparent_picture_keeps_its_transparency(tmp_path: Path) -> None:
    source = see_through(tmp_path / "in.mkv", "ffv1", "yuva444p12le")
    facts = through(source, tmp_path / "out.webm")
    assert "vp9 got 8 of 12 bits; --codec prores or ffv1 keeps more" in facts["warnings"]
    assert "vp9 got colour as yuva420p, coarser than yuva444p12le; prores and ffv1 keep it" in facts["warnings"]


def test_a_format_that_the_encoder_would_not_open_is_no_choice(tmp_path: Path) -> None:
    source = see_through(tmp_path / "in.mkv", "ffv1", "yuva444p")
    with pytest.raises(UsageError, match="vp9 cannot encode 'yuva444p'"):
        through(source, tmp_path / "out.webm", Encoding(pix_fmt="yuva444p"))


# --- light ----------------------------------------------------------------------------------------------------------

MASTERED = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
CORNERS = [Fraction(n, 50_000) for n in (34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450)]
HDR = HdrMetadata((*CORNERS, Fraction(50, 10_000), Fraction(1000)), (1000, 400))


def bright(path: Path, transfer: int) -> Path:
    params = f"log-level=none:master-display={MASTERED}:max-cll=1000,400:bframes=0"
    said = Picture(9, False, 9, transfer, "topleft", options={"x265-params": params})
    return make_clip(path, codec="libx265", pix_fmt="yuv420p10le", picture=said, frames=4, size=(96, 64))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_colours_that_the_container_alone_states_are_used(tmp_path: Path, suffix: str, transfer: str) -> None:
    silent = make_clip(tmp_path / "silent.mkv", codec="libx265", pix_fmt="yuv420p10le", frames=4)
    said = ["-color_primaries", "bt2020", "-color_trc", transfer, "-colorspace", "bt2020nc"]
    source = tmp_path / f"a{suffix}"
    ffmpeg("-i", silent, "-c", "copy", *said, source)
    assert through(source, tmp_path / "b.mkv")["codec"] == "h265"
    for path in (source, tmp_path / "b.mkv"):
        with Reader(path) as reader:
            color = reader.spec.color
        assert (color.matrix, color.primaries) == ("bt2020", 9)
        assert color.transfer == {"smpte2084": 16, "arib-std-b67": 18}[transfer]


@pytest.mark.parametrize(("target", "codec"), [("b.mp4", None), ("b.mkv", None), ("b.mp4", "h264"), ("b.webm", None)])
@pytest.mark.parametrize("transfer", [16, 18])
def test_pq_and_hlg_keep_ten_bits_and_their_metadata(
    tmp_path: Path, target: str, codec: str | None, transfer: int
) -> None:
    facts = through(bright(tmp_path / "a.mp4", transfer), tmp_path / target, Encoding(codec=codec))
    assert facts["codec"] == (codec or ("av1" if target == "b.webm" else "h265"))
    with Reader(tmp_path / target) as reader:
        spec = reader.spec
    assert spec.layout.name == "yuv420p10le"
    assert (spec.color.matrix, spec.color.primaries, spec.color.transfer) == ("bt2020", 9, transfer)
    assert spec.color.chroma_siting == "topleft"
    assert spec.hdr is not None and spec.hdr.display is not None and HDR.display is not None
    assert spec.hdr.light == (1000, 400)
    assert max(abs(a - b) / b for a, b in zip(spec.hdr.display, HDR.display, strict=True)) < Fraction(1, 200)
    assert not facts["warnings"]


def test_what_of_the_light_a_codec_cannot_carry_is_told(tmp_path: Path) -> None:
    facts = through(bright(tmp_path / "a.mp4", 16), tmp_path / "b.mkv", Encoding(codec="vp9"))
    assert any("8 of 10 bits" in line for line in facts["warnings"])
    assert any("cannot carry mastering display" in line for line in facts["warnings"])


def dolby(path: Path, profile: int, compatibility: int) -> Path:
    """Write a plain HEVC file with a record in its index as players look for it."""
    source = make_clip(path, codec="libx265", pix_fmt="yuv420p10le", frames=4, size=(96, 64))
    data = bytearray(source.read_bytes())
    record = b"\x00\x00\x00\x20dvvC" + bytes([1, 0, profile << 1, 0x0D, compatibility << 4]) + bytes(19)
    start = data.index(b"hvcC") - 4
    end = start + int.from_bytes(data[start : start + 4], "big")
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"hev1"):
        place = data.index(name) - 4
        data[place : place + 4] = (int.from_bytes(data[place : place + 4], "big") + len(record)).to_bytes(4, "big")
    data[end:end] = record
    source.write_bytes(data)
    return source


def test_a_dolby_vision_layer_is_told(tmp_path: Path) -> None:
    source = dolby(tmp_path / "a.mp4", 8, 1)
    for reader in (Reader(source), StreamReader(FileSource(source))):
        with reader:
            assert any("Dolby Vision layer (profile 8), which is left out" in line for line in reader.warnings())
            assert not reader.needs_layer


@pytest.mark.parametrize("target", ["b.mp4", "-"])
def test_dolby_vision_without_a_base_is_refused(tmp_path: Path, target: str) -> None:
    source = dolby(tmp_path / "a.mp4", 5, 0)
    output = target if target == "-" else tmp_path / target
    with pytest.raises(UsageError, match=r"\(profile 5\): its colours would be wrong; .*--drop-unsupported to go on"):
        gtasr_video.upscale(source, output, model=Nearest(2))


def test_dolby_vision_without_a_base_is_told_apart() -> None:
    record = "DOVI configuration record: version: 1.0, profile: {}, level: 6, rpu flag: 1, compatibility id: {}"
    assert has_no_base(record.format(5, 0))
    assert not has_no_base(record.format(8, 1))
    assert dolby_profile("Video: hevc") is None


# --- turned pictures ------------------------------------------------------------------------------------------------


def shown(frame: Frame, rotation: int, mirrored: bool) -> torch.Tensor:
    luma = frame.planes[0].float()
    return torch.rot90(luma.flip(-1) if mirrored else luma, rotation // 90, (0, 1))


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p"])
@pytest.mark.parametrize(("rotation", "mirrored"), [(90, False), (180, False), (270, False), (0, True), (90, True)])
def test_rotation_is_baked_in_where_asked_for(tmp_path: Path, pix_fmt: str, rotation: int, mirrored: bool) -> None:
    plain = make_clip(tmp_path / "a.mkv", codec="ffv1", pix_fmt=pix_fmt, frames=2, size=(66, 48))
    source = tmp_path / "turned.mkv"
    with Reader(plain) as reader:
        spec = replace(reader.spec, rotation=rotation, mirrored=mirrored, sample_aspect=Fraction(4, 3))
        with Writer(source, spec, Encoding(codec="ffv1")) as writer:
            for frame in reader:
                writer.write(frame)
    with Reader(source) as reader:
        assert (reader.spec.rotation, reader.spec.mirrored) == (rotation, mirrored)
        before = next(iter(reader))
    through(source, tmp_path / "kept.mp4", Encoding(crf=0))
    kept = seen(tmp_path / "kept.mp4")[2].spec
    assert (kept.rotation, kept.mirrored, kept.width) == (rotation, mirrored, 66)
    through(source, tmp_path / "baked.mkv", Encoding(codec="ffv1"), upright=True)
    with Reader(tmp_path / "baked.mkv") as reader:
        baked = reader.spec
        after = next(iter(reader))
    assert not baked.is_turned
    assert baked.layout.name == pix_fmt
    assert (after.planes[0].float() - shown(before, rotation, mirrored)).abs().max() <= 1


def test_the_numbers_are_still_read_where_nothing_is_turned(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=3)
    through(source, tmp_path / "b.mp4", upright=True)
    with Reader(tmp_path / "b.mp4") as reader:
        assert [frame_number(f.planes[0]) for f in reader] == [0, 1, 2]


def test_prores_says_its_colours_in_every_frame_and_knows_limited_range_only(tmp_path: Path) -> None:
    said = Picture(9, True, 9, 1, "left")
    source = make_clip(tmp_path / "a.mkv", codec="ffv1", pix_fmt="yuv422p10le", picture=said, frames=2)
    facts = through(source, tmp_path / "b.mov", Encoding(codec="prores"))
    with Reader(source) as before, Reader(tmp_path / "b.mov") as after:
        color = after.spec.color
        assert (color.matrix, color.primaries, color.transfer, color.full_range) == ("bt2020", 9, 1, False)
        one, other = next(iter(before)).planes[0].float(), next(iter(after)).planes[0].float()
    assert ((other - 64) / 876 - one / 1023).abs().mean() < 0.01
    assert any("converted to limited range" in line for line in facts["warnings"])


# --- which part, around whom, for how many eyes ---------------------------------------------------------------------


def test_what_the_container_hides_is_not_enlarged(tmp_path: Path) -> None:
    hidden = bytes.fromhex("54cc810254bb8104")  # 2 columns at the left, 4 rows at the top
    source = with_elements(tmp_path / "a.mkv", hidden, frames=4, size=(96, 64))
    whole = make_clip(tmp_path / "whole.mkv", frames=4, size=(96, 64))
    assert (probe(source)["streams"][0]["width"], probe(source)["streams"][0]["height"]) == (94, 60)
    for reader in (Reader(source), StreamReader(FileSource(source))):
        with reader:
            assert (reader.spec.width, reader.spec.height) == (94, 60)
            found = list(reader)
        assert len(found) == 4
        for cropped, uncropped in zip(found, planes(whole), strict=True):
            luma, *chroma = (plane[4:, 2:] if i == 0 else plane[2:, 1:] for i, plane in enumerate(uncropped.planes))
            assert torch.equal(cropped.planes[0], luma)
            assert all(torch.equal(one, other) for one, other in zip(cropped.planes[1:], chroma, strict=True))
    through(source, tmp_path / "b.mp4", scale=2)
    assert planes(tmp_path / "b.mp4")[0].planes[0].shape == (120, 188)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_what_a_stream_hides_at_the_left_stays_away(codec: str, tmp_path: Path) -> None:
    """FFmpeg kept up to 63 pixels of it, so that its memory is aligned, and they came out."""
    quiet = ("-x265-params", "log-level=none") if codec == "hevc" else ()
    picture = ("-f", "lavfi", "-i", "testsrc2=s=176x144:r=10", "-frames:v", "3")
    ffmpeg(*picture, "-c:v", {"h264": "libx264", "hevc": "libx265"}[codec], *quiet, str(tmp_path / "whole.mkv"))
    hidden = f"{codec}_metadata=crop_left=16:crop_top=8:crop_right=6:crop_bottom=2"
    ffmpeg("-i", str(tmp_path / "whole.mkv"), "-c", "copy", "-bsf:v", hidden, str(tmp_path / "cut.mkv"))
    for kind in (Reader, lambda path: StreamReader(FileSource(path))):
        with kind(tmp_path / "whole.mkv") as whole, kind(tmp_path / "cut.mkv") as cut:
            for one, other in zip(whole, cut, strict=True):
                assert torch.equal(other.planes[0], one.planes[0][8:142, 16:170])
                assert torch.equal(other.planes[1], one.planes[1][4:71, 8:85])


def test_odd_cropping_begins_with_the_chroma_that_covers_it() -> None:
    layout = LAYOUTS["yuv420p"]
    drawn = tuple(torch.arange(h * w).view(h, w) for h, w in (layout.plane_size(i, 13, 9) for i in range(3)))
    luma, *chroma = Crop(3, 1, 1, 2).of(drawn, layout)
    assert torch.equal(luma, drawn[0][1:7, 3:12])
    assert all(torch.equal(plane, whole[0:3, 1:6]) for plane, whole in zip(chroma, drawn[1:], strict=True))


def test_a_picture_around_the_viewer_is_told(tmp_path: Path) -> None:
    around = bytes.fromhex("7670400476718101")  # Projection, of ProjectionType 1
    source = with_elements(tmp_path / "a.mkv", around, frames=2)
    for reader in (Reader(source), StreamReader(FileSource(source))):
        with reader:
            assert any("is a 360-degree picture (equirectangular)" in line for line in reader.warnings())


@pytest.mark.parametrize("name", ["b.mkv", "b.webm", "b.mp4"])
def test_that_a_picture_is_for_two_eyes_is_said_or_told(tmp_path: Path, name: str) -> None:
    packed = Picture(options={"x264-params": "frame-packing=3"})
    source = make_clip(tmp_path / "a.mp4", frames=2, picture=packed)
    facts = through(source, tmp_path / name)
    with Reader(source) as before, Reader(tmp_path / name) as after:
        assert before.stereo_mode == "left_right"
        assert after.stereo_mode == (None if name == "b.mp4" else "left_right")
    told = [line for line in facts["warnings"] if "stereo" in line]
    assert told == (["mp4 cannot say here that the picture is stereo 3D (left_right); use .mkv"] * (name == "b.mp4"))


def test_a_way_for_two_eyes_that_webm_does_not_know_is_told(tmp_path: Path) -> None:
    lines = Picture(options={"x264-params": "frame-packing=2"})
    source = make_clip(tmp_path / "a.mkv", frames=2, picture=lines)
    through(source, tmp_path / "b.mkv", Encoding(codec="ffv1"))
    facts = through(tmp_path / "b.mkv", tmp_path / "c.webm")
    assert any("webm cannot say here" in line and "row_interleaved" in line for line in facts["warnings"])


@pytest.mark.parametrize("name", ["b.mkv", "b.ts"])
def test_that_a_stream_is_for_two_eyes_is_said_or_told(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_clip(tmp_path / "a.ts", frames=2, picture=Picture(options={"x264-params": "frame-packing=3"}))
    with source.open() as pipe:
        monkeypatch.setattr(sys, "stdin", pipe)
        report = gtasr_video.upscale("-", tmp_path / name, model=Nearest(2), device="cpu")
    with Reader(tmp_path / name) as after:
        assert after.stereo_mode == ("left_right" if name == "b.mkv" else None)
    told = ["mpegts cannot say here that the picture is stereo 3D (left_right); use .mkv"]
    assert report.output["warnings"] == ([] if name == "b.mkv" else told)
