"""Single pictures, numbered pictures and animations, in and out, by the one-call door."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

import gtasr_video
from gtasr_video.errors import InputError, OutputError, UsageError
from gtasr_video.media import Reader
from gtasr_video.media.sequence import numbered
from tests.clips import Sound, frame_number, make_clip, phone_times
from tests.fakes import Nearest
from tests.media.test_streams import ffmpeg

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def upscale(source: Path, output: Path, scale: int = 2, **options: Any) -> Any:
    return gtasr_video.upscale(source, output, model=Nearest(scale), device="cpu", **options)


def drawn(mode: str = "RGB", seed: int = 0, size: tuple[int, int] = (31, 22)) -> Image.Image:
    channels = {"RGB": 3, "RGBA": 4, "L": 1}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


def labelled(path: Path, orientation: int = 6, **options: Any) -> Path:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Camera"
    exif.get_ifd(0x8769)[0xA002] = 31
    drawn().save(path, exif=exif, icc_profile=PROFILE, **options)
    return path


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_a_picture_comes_out_with_every_pixel(tmp_path: Path, mode: str, suffix: str) -> None:
    drawn(mode).save(tmp_path / "in.png")
    scale = 1 if mode == "RGBA" else 2  # alpha is never enlarged by the network
    upscale(tmp_path / "in.png", tmp_path / f"out{suffix}", scale)
    before = np.asarray(drawn(mode)).repeat(scale, 0).repeat(scale, 1)
    after = np.asarray(Image.open(tmp_path / f"out{suffix}").convert(mode))
    assert np.array_equal(before, after)


@pytest.mark.parametrize("name", ["who?", "Film {1999}", "star*", "take%03d", "100%"])
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".jpg"])
def test_no_name_of_a_picture_is_a_pattern(tmp_path: Path, name: str, suffix: str) -> None:
    """Nor is that of its folder; FFmpeg would look for other files."""
    source = tmp_path / name / f"{name}{suffix}"
    source.parent.mkdir()
    drawn().save(source)
    upscale(source, tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").size == (62, 44)


def test_an_animation_whose_name_could_be_a_pattern_is_read_whole(tmp_path: Path) -> None:
    first, *others = (drawn(seed=number) for number in range(3))
    first.save(tmp_path / "a{1}.png", save_all=True, append_images=others, duration=40)
    assert upscale(tmp_path / "a{1}.png", tmp_path / "out.mp4").frames_out == 3


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path) -> None:
    codes = np.random.default_rng(1).integers(0, 65536, (22, 31), dtype=np.uint16)
    Image.fromarray(codes).save(tmp_path / "grey.png")
    upscale(tmp_path / "grey.png", tmp_path / "large.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "large.png")), codes.repeat(2, 0).repeat(2, 1))
    source = make_clip(tmp_path / "deep.mkv", codec="ffv1", pix_fmt="gbrp10le", frames=1)
    upscale(source, tmp_path / "deep.png", 1)
    with Reader(tmp_path / "deep.png") as after, Reader(source) as before:
        assert after.spec.layout.name == "gbrp16le"
        found, wanted = next(iter(after)).planes, next(iter(before)).planes
    for one, other in zip(found, wanted, strict=True):
        assert (one.float() / 65535 - other.float() / 1023).abs().max() < 1e-4


@pytest.mark.parametrize("suffix", [".tif", ".pgm", ".png", ".bmp"])
def test_grey_of_which_nothing_is_said_uses_all_codes(tmp_path: Path, suffix: str) -> None:
    codes = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(codes).save(tmp_path / f"in{suffix}")
    upscale(tmp_path / f"in{suffix}", tmp_path / "out.png")
    found = np.asarray(Image.open(tmp_path / "out.png"))
    assert np.array_equal(found if found.ndim == 2 else found[..., 0], codes.repeat(2, 0).repeat(2, 1))


def test_black_and_white_stay_so(tmp_path: Path) -> None:
    dots = np.random.default_rng(2).integers(0, 2, (22, 31)).astype(bool)
    Image.fromarray(dots).save(tmp_path / "fax.tif")
    upscale(tmp_path / "fax.tif", tmp_path / "out.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), 255 * dots.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_orientation_and_profile_are_kept(tmp_path: Path, suffix: str) -> None:
    source = labelled(tmp_path / "in.jpg", quality=98)
    upscale(source, tmp_path / f"out{suffix}")
    image = Image.open(tmp_path / f"out{suffix}")
    assert image.info["icc_profile"] == PROFILE
    if suffix == ".tif":  # Pillow turns these when it opens them
        assert image.size == (44, 62)
        return
    assert image.size == (62, 44)
    exif = image.getexif()
    assert (exif[0x0112], exif[0x010F]) == (6, "Camera")
    assert exif.get_ifd(0x8769)[0xA002] == 62


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("suffix", "bake"), [(".png", True), (".bmp", False)])
def test_orientation_is_baked_in_where_asked_for_or_needed(
    tmp_path: Path, orientation: int, suffix: str, bake: bool
) -> None:
    from PIL import ImageOps

    source = labelled(tmp_path / "in.png", orientation)
    upscale(source, tmp_path / f"out{suffix}", 1, bake_rotation=bake)
    image = Image.open(tmp_path / f"out{suffix}")
    assert np.array_equal(np.asarray(image.convert("RGB")), np.asarray(ImageOps.exif_transpose(Image.open(source))))
    if suffix == ".png":
        assert image.getexif()[0x0112] == 1
        assert image.info["icc_profile"] == PROFILE


def test_what_a_picture_cannot_hold_is_refused(tmp_path: Path) -> None:
    drawn("RGBA").save(tmp_path / "in.png")
    with pytest.raises(UsageError, match=r"transparency, which JPEG cannot hold; use \.png, \.webp"):
        upscale(tmp_path / "in.png", tmp_path / "out.jpg")
    upscale(tmp_path / "in.png", tmp_path / "out.jpg", drop_unsupported=True)
    assert Image.open(tmp_path / "out.jpg").size == (62, 44)
    with pytest.raises(UsageError, match="is a picture: it takes no codec"):
        upscale(tmp_path / "in.png", tmp_path / "b.png", crf=3)
    film = make_clip(tmp_path / "film.mp4", frames=3)
    with pytest.raises(OutputError, match=r"holds one picture and there are more; use --frames 1"):
        upscale(film, tmp_path / "c.png")
    assert not (tmp_path / "c.png").exists()
    assert not list(tmp_path.glob("*.part*"))
    upscale(film, tmp_path / "c.png", frames=1)
    with pytest.raises(OutputError, match="exists; use -y"):
        upscale(film, tmp_path / "c.png", frames=1)
    with pytest.raises(UsageError, match="is the input itself"):
        upscale(tmp_path / "in.png", tmp_path / "in.png", overwrite=True)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".mp4"])
def test_a_picture_of_four_inks_has_no_transparency(tmp_path: Path, suffix: str) -> None:
    Image.new("CMYK", (32, 24), (0, 255, 200, 30)).save(tmp_path / "in.jpg", quality=95)
    report = upscale(tmp_path / "in.jpg", tmp_path / f"out{suffix}")
    assert not report.input["transparent"]
    if suffix != ".mp4":
        after, before = (Image.open(tmp_path / name) for name in (f"out{suffix}", "in.jpg"))
        assert after.mode == "RGB"
        assert np.abs(np.asarray(after, int)[10, 10] - np.asarray(before.convert("RGB"), int)[10, 10]).max() <= 3


@pytest.mark.parametrize(
    ("target", "form"), [("out.gif", "gif"), ("out.webp", "webp"), ("out/%03d.png", "PNG"), ("out.jpg", "JPEG")]
)
def test_what_pictures_cannot_hold_beside_themselves_is_refused_or_told(
    tmp_path: Path, target: str, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("gtasr_video").propagate = True
    source = make_clip(tmp_path / "in.mkv", frames=3, sound=[Sound()], metadata={"title": "A film"})
    wanted = rf"in.mkv: {form} cannot hold audio stream 1 \(.*\); write \.mp4, .*, or use --drop-unsupported to go on"
    with pytest.raises(UsageError, match=wanted):
        upscale(source, tmp_path / target, frames=1)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["in.mkv"]
    report = upscale(source, tmp_path / target, frames=1, drop_unsupported=True)
    assert [(s["type"], s["action"]) for s in report.output["streams"]] == [("audio", "left out")]
    assert "left out" in caplog.text and "title" in caplog.text and "audio stream 1" in caplog.text


def two_pictures(folder: Path) -> Path:
    """A video whose stream 0 shows the numbers from 0 on, and stream 1 those from 100 on."""
    parts = [make_clip(folder / f"{first}.mkv", frames=3, first_number=first, bframes=0) for first in (0, 100)]
    inputs = [word for part in parts for word in ("-i", part)]
    ffmpeg(*inputs, "-map", "0", "-map", "1", "-c", "copy", folder / "two.mkv")
    return folder / "two.mkv"


@pytest.mark.parametrize("target", ["out/%03d.png", "out.webp"])
def test_one_of_several_pictures_is_chosen(tmp_path: Path, target: str) -> None:
    source = two_pictures(tmp_path)
    report = upscale(source, tmp_path / target, video_stream=1, drop_unsupported=True)
    assert [(s["index"], s["action"]) for s in report.output["streams"]] == [(0, "left out")]
    first = tmp_path / target.replace("%03d", "001")
    luma = torch.from_numpy(np.array(Image.open(first).convert("L")))
    assert frame_number(luma) == 100
    with pytest.raises(UsageError, match="has no video stream 2; its video streams are 0"):
        upscale(source, tmp_path / "other.png", video_stream=2)


def test_what_numbered_pictures_do_not_know_is_refused(tmp_path: Path) -> None:
    for number in (1, 2):
        drawn().save(tmp_path / f"{number}.png")
    with pytest.raises(UsageError, match="leave --video-stream out"):
        upscale(tmp_path / "%d.png", tmp_path / "out.mkv", video_stream=0)
    with pytest.raises(UsageError, match="leave --deinterlace always out"):
        upscale(tmp_path / "%d.png", tmp_path / "out.mkv", deinterlace="always")


def test_numbered_pictures_in_and_out_keep_their_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("gtasr_video").propagate = True
    (tmp_path / "frames").mkdir()
    for number in (7, 8, 9, 12):
        drawn(seed=number).save(tmp_path / f"frames/{number:05d}.png")
    (tmp_path / "frames/00008b.png").write_text("not one of them")
    report = upscale(tmp_path / "frames/%05d.png", tmp_path / "large/%03d.png")
    assert report.frames_out == 4
    assert sorted(p.name for p in (tmp_path / "large").iterdir()) == ["007.png", "008.png", "009.png", "010.png"]
    for number, name in zip((7, 8, 9, 12), ("007", "008", "009", "010"), strict=True):
        before = np.asarray(drawn(seed=number)).repeat(2, 0).repeat(2, 1)
        assert np.array_equal(before, np.asarray(Image.open(tmp_path / f"large/{name}.png")))
    assert "no picture has the number 10 to 11; in a video" in caplog.text


def test_numbered_pictures_become_a_video_and_back(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in (1, 2, 3, 6):
        drawn(seed=number, size=(32, 32)).save(tmp_path / f"in/{number:04d}.png")
    config = gtasr_video.UpscaleConfig.load(overrides=["stream.rate='24000/1001'"])
    upscale(tmp_path / "in/%04d.png", tmp_path / "film.gif", config=config)
    upscale(tmp_path / "in/%04d.png", tmp_path / "film.mkv", codec="ffv1", config=config)
    with Reader(tmp_path / "film.mkv") as reader:
        assert [round(f.pts * reader.spec.time_base * 24000 / 1001) for f in reader] == [0, 1, 2, 5]
        assert reader.spec.layout.name == "gbrp"
    upscale(tmp_path / "film.mkv", tmp_path / "out/%d.png", 1)
    before = np.asarray(drawn(seed=6, size=(32, 32))).repeat(2, 0).repeat(2, 1)
    assert np.array_equal(before, np.asarray(Image.open(tmp_path / "out/4.png")))


def test_a_sequence_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no picture has such a name"):
        upscale(tmp_path / "%05d.png", tmp_path / "out.mp4")
    drawn(size=(20, 20)).save(tmp_path / "00001.png")
    drawn(size=(22, 20)).save(tmp_path / "00002.png")
    with pytest.raises(InputError, match=r"00002.png \(22x20 gbrp\) looks unlike 00001.png"):
        upscale(tmp_path / "%05d.png", tmp_path / "out.mkv")
    with pytest.raises(UsageError, match="is not a number of frames a second"):
        config = gtasr_video.UpscaleConfig.load(overrides=["stream.rate=fast"])
        upscale(tmp_path / "%05d.png", tmp_path / "out.mkv", config=config)
    drawn(size=(22, 20)).save(tmp_path / "1.jpg")
    with pytest.raises(OutputError, match="exists; use -y"):
        upscale(tmp_path / "00001.png", tmp_path / "%d.jpg")


def test_patterns_name_files_as_people_expect() -> None:
    assert numbered(Path("a/%05d.png"), 42) == Path("a/00042.png")
    assert numbered(Path("a/x%dy.png"), 42) == Path("a/x42y.png")
    assert numbered(Path("%03d.png"), 12345) == Path("12345.png")


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_keep_their_times(tmp_path: Path, suffix: str) -> None:
    ticks = [round(t / 900) * 900 for t in phone_times(8, Fraction(1, 90000))]
    source = make_clip(tmp_path / "in.mp4", pts=ticks, time_base=Fraction(1, 90000), size=(64, 48))
    report = upscale(source, tmp_path / f"out{suffix}")
    assert report.frames_out == 8
    image: Any = Image.open(tmp_path / f"out{suffix}")
    assert (image.size, image.n_frames, image.info["loop"]) == ((128, 96), 8, 0)
    moment, step = 0, 10 if suffix == ".gif" else 1  # milliseconds
    for number, tick in enumerate(ticks):
        image.seek(number)
        image.load()
        assert abs(moment - tick / 90) <= step
        assert frame_number(torch.from_numpy(np.array(image.convert("L")))) == number
        moment += image.info["duration"]


def test_an_animated_webp_as_input_is_refused_for_what_it_is(tmp_path: Path) -> None:
    pictures = [drawn(seed=n) for n in range(3)]
    pictures[0].save(tmp_path / "in.webp", save_all=True, append_images=pictures[1:], duration=80)
    with pytest.raises(InputError, match="is an animated WebP, which FFmpeg cannot read yet"):
        upscale(tmp_path / "in.webp", tmp_path / "out.gif")


def test_an_animation_is_enlarged_with_its_transparency(tmp_path: Path) -> None:
    pictures = [Image.new("RGBA", (20, 16), (200, 30 * n, 40, 0 if n == 0 else 255)) for n in range(3)]
    for n, picture in enumerate(pictures):
        picture.paste((0, 255, 0, 255), (0, 0, 10, 4 + n))
    pictures[0].save(tmp_path / "in.gif", save_all=True, append_images=pictures[1:], duration=80, disposal=2)
    upscale(tmp_path / "in.gif", tmp_path / "out.gif")
    image = Image.open(tmp_path / "out.gif")
    assert (image.size, getattr(image, "n_frames", 1)) == ((40, 32), 3)
    first = np.asarray(image.convert("RGBA"))
    assert first[30, 30, 3] == 0
    assert tuple(first[3, 3]) == (0, 255, 0, 255)


def test_a_gif_has_its_palette_and_no_other_format(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=2)
    with pytest.raises(UsageError, match="gif has a palette; leave --pix-fmt out"):
        upscale(source, tmp_path / "out.gif", pix_fmt="yuv444p")
    assert upscale(source, tmp_path / "out.gif", pix_fmt="pal8").output["pix_fmt"] == "pal8"
