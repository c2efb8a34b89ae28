"""Whole or not at all; every frame with its time; the same bytes every time."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import textwrap
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
import torch

import gtasr_video
from gtasr_video.errors import GTASRVideoError, OutputError, UsageError, describe
from gtasr_video.frames import ColorSpec, Frame, VideoSpec
from gtasr_video.media import Encoding, Reader, Writer
from gtasr_video.media.codecs import CONTAINERS
from gtasr_video.media.planes import LAYOUTS, to_planes
from gtasr_video.ops.color import rgb_to_yuv, yuv_to_rgb
from tests.clips import Picture, Sound, frame_number, make_clip, phone_times, picture_of, sound_of, times

TB = Fraction(1, 12800)


def spec(layout: str = "yuv420p", size: tuple[int, int] = (64, 48), **changes: Any) -> VideoSpec:
    color = ColorSpec("rgb", full_range=True) if layout.startswith("gbrp") else ColorSpec("bt601")
    return replace(VideoSpec(*size, TB, LAYOUTS[layout], color, Fraction(25)), **changes)


def drawn(number: int, pts: int, form: VideoSpec, duration: int = 512) -> Frame:
    picture = picture_of(number, form.width, form.height, form.layout.name)
    return Frame(tuple(p.clone() for p in to_planes(picture, form.layout)), pts, duration)


def in_layout(frame: Frame, source: VideoSpec, target: VideoSpec) -> Frame:
    """What the runtime does with an identity model."""
    if source.layout == target.layout:
        return frame
    rgb = yuv_to_rgb(frame.planes, source.layout, source.color)
    return replace(frame, planes=rgb_to_yuv(rgb, target.layout, target.color))


def copy(source: Path, target: Path, encoding: Encoding | None = None, **window: Any) -> dict[str, Any]:
    """Send every frame of `source` through to `target`; return the writer's facts."""
    with Reader(source, **window) as reader, Writer(target, reader.spec, encoding, source=reader) as writer:
        for frame in reader:
            writer.write(in_layout(frame, reader.spec, writer.spec))
    return writer.facts()


def seen(path: Path) -> tuple[list[Fraction], list[int], Reader]:
    """Return (times in seconds, burnt-in numbers, the reader) of a file."""
    with Reader(path) as reader:
        frames = [(f.pts * reader.spec.time_base, frame_number(f.planes[0], reader.spec.layout.bits)) for f in reader]
    return [t for t, _ in frames], [n for _, n in frames], reader


# --- times ----------------------------------------------------------------------------------------------------------

SOURCES: dict[str, dict[str, Any]] = {
    "phone.mp4": {"pts": phone_times(40, Fraction(1, 90000)), "time_base": Fraction(1, 90000)},
    "ntsc.mp4": {"pts": [1001 * i for i in range(30)], "time_base": Fraction(1, 24000)},
    "offset.mp4": {"pts": [t + 70001 for t in times(20)]},
    "slow.mov": {"pts": [0, 100, 100_000, 100_050, 120_000], "codec": "mpeg4"},
    "one.mp4": {"frames": 1},
    "two.mp4": {"frames": 2},
    "kilo.mkv": {"frames": 30},
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts"])
def test_every_frame_keeps_its_time(tmp_path: Path, name: str, suffix: str) -> None:
    source = make_clip(tmp_path / name, sound=[Sound()], **SOURCES[name])
    target = tmp_path / f"out{suffix}"
    copy(source, target)
    before, numbers, reader = seen(source)
    after, found, written = seen(target)
    assert found == numbers == list(range(len(before)))
    tick = {".mkv": Fraction(1, 1000), ".ts": Fraction(1, 90000)}.get(suffix, Fraction(0))
    assert max(abs(a - b) for a, b in zip(before, after, strict=True)) <= tick / 2
    if suffix in (".mp4", ".mov"):
        assert before == after
        assert reader.spec.time_base % written.spec.time_base == 0


@pytest.mark.parametrize("name", ["phone.mp4", "ntsc.mp4", "offset.mp4", "one.mp4", "two.mp4"])
def test_the_length_agrees_within_a_tick(tmp_path: Path, name: str) -> None:
    source = make_clip(tmp_path / name, **SOURCES[name])
    copy(source, tmp_path / "out.mp4")
    with Reader(source) as one, Reader(tmp_path / "out.mp4") as other:
        assert one.duration is not None
        assert other.duration is not None
        assert abs(one.duration - other.duration) <= one.spec.time_base
        with av.open(str(source)) as before, av.open(str(tmp_path / "out.mp4")) as after:
            assert abs((before.duration or 0) - (after.duration or 0)) <= 100  # of a microsecond each
        ends = [[f.pts + f.duration for f in r][-1] * r.spec.time_base for r in (one, other)]
    assert abs(ends[0] - ends[1]) <= one.spec.time_base


@pytest.mark.parametrize("codec", ["h264", "h265", "av1", "vp9", "prores", "ffv1"])
@pytest.mark.parametrize("frames", [1, 2, 5, 40])
def test_every_codec_keeps_times_at_every_length(tmp_path: Path, codec: str, frames: int) -> None:
    source = make_clip(tmp_path / "in.mp4", pts=phone_times(frames, TB), size=(64, 64))
    target = tmp_path / ("out.mov" if codec == "prores" else "out.mkv")
    preset = {"av1": "9", "vp9": "8", "h265": "ultrafast"}.get(codec)
    copy(source, target, Encoding(codec=codec, preset=preset, crf=10 if codec in ("av1", "vp9") else None))
    after, found, _ = seen(target)
    assert found == list(range(frames))
    assert max(abs(a - p * TB) for a, p in zip(after, phone_times(frames, TB), strict=True)) <= Fraction(1, 2000)


def test_a_cut_begins_at_zero(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", pts=phone_times(60, TB), gop=20, sound=[Sound()])
    copy(source, tmp_path / "out.mp4", start=Fraction(7, 10), duration=Fraction(1, 2))
    expected = [t * TB for t in phone_times(60, TB) if Fraction(7, 10) <= t * TB < Fraction(6, 5)]
    after, found, _ = seen(tmp_path / "out.mp4")
    assert after == [t - expected[0] for t in expected]
    assert found == list(range(found[0], found[0] + len(expected)))


# --- what the file says of its picture ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "h264"),
        ("a.mov", "h264"),
        ("a.mkv", "h264"),
        ("a.mp4", "h265"),
        ("a.mkv", "ffv1"),
        ("a.mp4", "av1"),
    ],
)
@pytest.mark.parametrize(
    "color",
    [
        ColorSpec("bt601", False, 5, 6, "left", 5),
        ColorSpec("bt709", True, 1, 1, "left", 1),
        ColorSpec("bt2020", False, 9, 16, "topleft", 9),
        ColorSpec("bt601"),
    ],
)
def test_colours_are_always_written(tmp_path: Path, name: str, codec: str, color: ColorSpec) -> None:
    form = spec(color=color, sample_aspect=Fraction(8, 9))
    preset = "12" if codec == "av1" else None
    with Writer(tmp_path / name, form, Encoding(codec=codec, preset=preset)) as writer:
        for number in range(2):
            writer.write(drawn(number, number * 512, form))
    with Reader(tmp_path / name) as reader:
        found = reader.spec.color
        kept = reader.spec.sample_aspect == Fraction(8, 9)
    assert kept != any("pixel aspect" in line for line in writer.facts()["warnings"])
    assert kept == (name != "a.mkv" or codec == "h264")
    assert (found.matrix, found.full_range) == (color.matrix, color.full_range)
    assert found.matrix_code != 2
    if color.matrix_code != 2:
        assert found == color


def test_an_untagged_small_picture_stays_601_when_it_grows(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=2, size=(320, 180))
    with Reader(source) as reader:
        form = reader.spec.scaled(4)
        with Writer(tmp_path / "out.mp4", form) as writer:
            for number in range(2):
                writer.write(drawn(number, number * 512, form))
    with Reader(tmp_path / "out.mp4") as reader:
        assert (reader.spec.width, reader.spec.height) == (1280, 720)
        assert reader.spec.color.matrix == "bt601"


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0, 65536, 0, -65536, 0, 0), "the rotation by 270 degrees"),
        ((-65536, 0, 0, 0, 65536, 0), "how players mirror or turn the picture"),
        ((46341, 46341, 0, -46341, 46341, 0), "how players mirror or turn the picture"),
        ((65536, 0, 0, 0, 65536, 0), ""),
    ],
    ids=["quarter", "mirrored", "slanted", "upright"],
)
def test_a_turn_that_mpegts_cannot_say_is_told(tmp_path: Path, numbers: tuple[int, ...], words: str) -> None:
    plain, source = make_clip(tmp_path / "plain.mp4", frames=2, bframes=0), tmp_path / "in.mp4"
    with av.open(str(plain)) as container, av.open(str(source), "w") as output:
        target = output.add_stream_from_template(container.streams.video[0], opaque=True)
        target.set_display_matrix((*numbers, 0, 0, 1 << 30))
        for packet in container.demux():
            if packet.size:
                packet.stream = target
                output.mux(packet)
    with Reader(source) as reader, Writer(tmp_path / "out.ts", reader.spec, source=reader) as writer:
        for frame in reader:
            writer.write(in_layout(frame, reader.spec, writer.spec))
    assert writer.facts()["warnings"] == ([f"mpegts cannot carry {words}; use .mp4 or .mkv"] if words else [])


def test_a_gap_that_mp4_cannot_hold_is_said(tmp_path: Path) -> None:
    fine = Fraction(1, 90000)
    pts = [3600 * n + (n > 11) * 86400 * 90000 for n in range(20)]
    source = make_clip(tmp_path / "in.nut", codec="ffv1", bframes=0, pts=pts, time_base=fine)
    with pytest.raises(OutputError, match=r"mp4 cannot hold a gap of 86400 s .* in 1/90000 s; write \.mkv"):
        gtasr_video.upscale(source, tmp_path / "out.mp4", model="bicubic", scale=1)
    coarse = make_clip(
        tmp_path / "coarse.mkv", codec="ffv1", bframes=0, pts=[p // 90 for p in pts], time_base=fine * 90
    )
    assert gtasr_video.upscale(coarse, tmp_path / "coarse.mp4", model="bicubic", scale=1).audit["passed"]


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_rotation_is_kept(tmp_path: Path, rotation: int, suffix: str) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=2, picture=Picture(rotation=rotation))
    copy(source, tmp_path / f"out{suffix}")
    assert seen(tmp_path / f"out{suffix}")[2].spec.rotation == rotation


@pytest.mark.parametrize(
    ("suffix", "codec"), [(s, c) for s, form in CONTAINERS.items() for c in form.codecs if s != ".webp"]
)
def test_every_container_takes_every_codec_it_is_said_to(tmp_path: Path, suffix: str, codec: str) -> None:
    form = spec()
    preset = {"av1": "10", "vp9": "8"}.get(codec)
    with Writer(tmp_path / f"a{suffix}", form, Encoding(codec=codec, preset=preset)) as writer:
        for number in range(12):
            writer.write(in_layout(drawn(number, number * 512, form), form, writer.spec))
    assert len(seen(tmp_path / f"a{suffix}")[0]) == 12


@pytest.mark.parametrize("layout", ["yuv420p10le", "yuv422p", "yuv444p", "yuv444p12le", "gray", "gbrp", "gbrp10le"])
@pytest.mark.parametrize("size", [(64, 48), (65, 49)])
def test_a_lossless_codec_returns_every_sample(tmp_path: Path, layout: str, size: tuple[int, int]) -> None:
    form = spec(layout, size)
    frames = [drawn(n, n * 512, form) for n in range(3)]
    with Writer(tmp_path / "a.mkv", form, Encoding(codec="ffv1")) as writer:
        assert writer.spec == form
        for frame in frames:
            writer.write(frame)
    with Reader(tmp_path / "a.mkv") as reader:
        for one, other in zip(frames, reader, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_odd_sizes_are_continued_and_told(tmp_path: Path, codec: str) -> None:
    form = spec(size=(65, 49))
    with Writer(tmp_path / "a.mp4", form, Encoding(codec=codec, crf=1)) as writer:
        writer.write(drawn(3, 0, form))
    with Reader(tmp_path / "a.mp4") as reader:
        (frame,) = reader
    luma = frame.planes[0].float()
    assert luma.shape == (50, 66)
    assert (luma[:49, :65] - drawn(3, 0, form).planes[0].float()).abs().mean() < 2
    assert (luma[:, 65] - luma[:, 64]).abs().mean() < 3
    assert any("65x49 became 66x50" in line for line in writer.facts()["warnings"])


def test_hevc_in_mp4_carries_the_tag_that_all_players_know(tmp_path: Path) -> None:
    form = spec()
    with Writer(tmp_path / "a.mp4", form, Encoding(codec="h265")) as writer:
        writer.write(drawn(0, 0, form))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".ts"])
def test_two_runs_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    tags = {"title": "täst", "creation_time": "2020-01-02T03:04:05.000000Z"}
    source = make_clip(tmp_path / "in.mp4", frames=20, sound=[Sound(language="deu"), Sound("mp3")], metadata=tags)
    encoding = Encoding(preset="8") if suffix == ".webm" else None
    outputs = []
    for run in ("1", "2"):
        target = tmp_path / run / f"out{suffix}"
        target.parent.mkdir()
        copy(source, target, encoding)
        outputs.append(target.read_bytes())
    assert outputs[0] == outputs[1]


# --- frames that do not fit -----------------------------------------------------------------------------------------


def test_frames_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    form = spec()
    good = drawn(0, 100, form)
    wrong = [
        replace(good, planes=good.planes[:1]),
        replace(good, planes=tuple(p.to(torch.int16) for p in good.planes)),
        drawn(0, 100, spec(size=(66, 48))),
        drawn(0, 100, spec("yuv444p")),
    ]
    for frame in wrong:
        with pytest.raises(OutputError, match="frame 0 is Frame"), Writer(tmp_path / "a.mp4", form) as writer:
            writer.write(frame)
    with pytest.raises(OutputError, match="not after 100"), Writer(tmp_path / "a.mp4", form) as writer:
        writer.write(good)
        writer.write(good)
    assert list(tmp_path.iterdir()) == []


def test_planes_may_be_slices_of_larger_tensors(tmp_path: Path) -> None:
    form = spec()
    frame = drawn(5, 0, form)
    sparse = tuple(torch.nn.functional.pad(p, (3, 5, 2, 4))[2:-4, 3:-5] for p in frame.planes)
    with Writer(tmp_path / "a.mkv", form, Encoding(codec="ffv1")) as writer:
        writer.write(replace(frame, planes=sparse))
    with Reader(tmp_path / "a.mkv") as reader:
        assert all(torch.equal(a, b) for a, b in zip(next(iter(reader)).planes, frame.planes, strict=True))


# --- whole or not at all --------------------------------------------------------------------------------------------


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_the_name_appears_only_when_the_file_is_whole(tmp_path: Path) -> None:
    form = spec()
    writer = Writer(tmp_path / "a.mp4", form)
    writer.write(drawn(0, 0, form))
    assert leftovers(tmp_path) == ["a.part.mp4"]
    writer.finish()
    writer.finish()
    writer.abort()
    assert leftovers(tmp_path) == ["a.mp4"]
    with pytest.raises(OutputError, match="after the output was closed"):
        writer.write(drawn(1, 512, form))


def test_leaving_by_an_exception_leaves_nothing(tmp_path: Path) -> None:
    form = spec()
    with pytest.raises(KeyboardInterrupt), Writer(tmp_path / "a.mp4", form) as writer:
        writer.write(drawn(0, 0, form))
        raise KeyboardInterrupt
    writer.abort()
    writer.finish()
    assert leftovers(tmp_path) == []


def test_an_output_without_frames_is_none(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no frame was written"), Writer(tmp_path / "a.mp4", spec()):
        pass
    assert leftovers(tmp_path) == []


def test_what_was_there_is_kept_until_the_new_one_is_whole(tmp_path: Path) -> None:
    old = tmp_path / "a.mp4"
    old.write_bytes(b"old")
    form = spec()
    with pytest.raises(OutputError, match="exists; use -y"):
        Writer(old, form)
    writer = Writer(old, form, overwrite=True)
    writer.write(drawn(0, 0, form))
    assert old.read_bytes() == b"old"
    writer.abort()
    assert old.read_bytes() == b"old"
    with Writer(old, form, overwrite=True) as writer:
        writer.write(drawn(0, 0, form))
    assert seen(old)[1] == [0]


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    form = spec()
    with pytest.raises(OutputError, match="appeared meanwhile"), Writer(tmp_path / "a.mp4", form) as writer:
        writer.write(drawn(0, 0, form))
        (tmp_path / "a.mp4").write_bytes(b"other")
    assert (tmp_path / "a.mp4").read_bytes() == b"other"


def test_two_writers_do_not_share_a_file(tmp_path: Path) -> None:
    first = Writer(tmp_path / "a.mp4", spec())
    with pytest.raises(OutputError, match="another process"):
        Writer(tmp_path / "a.mp4", spec())
    first.abort()
    stale = tmp_path / "a.part.mp4"
    stale.write_bytes(b"left by a crash" * 1000)
    with Writer(tmp_path / "a.mp4", spec()) as writer:
        writer.write(drawn(0, 0, spec()))
    assert leftovers(tmp_path) == ["a.mp4", "a.part-1.mp4"]
    assert (tmp_path / "a.part-1.mp4").read_bytes() == b"left by a crash" * 1000


@pytest.mark.parametrize("how", ["itself", "symlink", "hardlink", "dots"])
def test_the_output_is_never_the_input(tmp_path: Path, how: str) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=2)
    kept = source.read_bytes()
    target = {"itself": source, "dots": tmp_path / "x" / ".." / "in.mp4"}.get(how, tmp_path / "link.mp4")
    (tmp_path / "x").mkdir()
    if how == "symlink":
        target.symlink_to(source)
    elif how == "hardlink":
        os.link(source, target)
    with Reader(source) as reader, pytest.raises(UsageError, match="input itself"):
        Writer(target, reader.spec, source=reader, overwrite=True)
    assert source.read_bytes() == kept
    assert not list(tmp_path.glob("*.part*"))


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    cases = [
        (tmp_path / "missing" / "a.mp4", "no folder"),
        (blocked / "a.mp4", "no folder"),
        (Path("/proc/a.mp4"), "cannot be written"),
        (tmp_path / ("x" * 300 + ".mp4"), "cannot be written"),
    ]
    (tmp_path / "dir.mp4").mkdir()
    cases.append((tmp_path / "dir.mp4", "is a folder"))
    for path, message in cases:
        with pytest.raises(OutputError) as caught:
            Writer(path, spec())
        assert message in describe(caught.value)
        assert "\n" not in describe(caught.value)


def test_a_refused_option_leaves_no_trace(tmp_path: Path) -> None:
    with pytest.raises(GTASRVideoError):
        Writer(tmp_path / "a.mp4", spec(), Encoding(codec="h265", preset="nope"))
    with pytest.raises(GTASRVideoError):
        Writer(tmp_path / "a.mp4", spec(size=(20000, 48)))
    assert leftovers(tmp_path) == []


DISK = """
    import resource, signal, sys
    from pathlib import Path
    import torch
    from gtasr_video.errors import OutputError, describe
    from gtasr_video.frames import Frame
    from gtasr_video.media import Encoding, Writer
    from tests.media.test_writer import spec

    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    form = spec("yuv444p", (320, 240))
    try:
        with Writer(Path(sys.argv[1]), form, Encoding(crf=0, codec=sys.argv[2])) as writer:
            for number in range(40):
                planes = tuple(torch.randint(0, 255, (240, 320), dtype=torch.uint8) for _ in range(3))
                writer.write(Frame(planes, number * 512, 512))
    except OutputError as error:
        print(describe(error))
"""


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "h264"), (".mkv", "h264")])
def test_a_file_that_cannot_grow_ends_in_one_line_and_no_file(tmp_path: Path, suffix: str, codec: str) -> None:
    """A limit on file size makes writes fail in the middle, as a full disk does."""
    assert resource.RLIMIT_FSIZE
    target = tmp_path / f"a{suffix}"
    command = [sys.executable, "-c", textwrap.dedent(DISK), str(target), codec]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "File too large" in done.stdout
    assert str(target) in done.stdout
    assert leftovers(tmp_path) == []


def test_a_full_disk_is_called_by_its_name(tmp_path: Path) -> None:
    form = spec()
    with pytest.raises(OutputError, match="the disk is full"), Writer(tmp_path / "a.mp4", form) as writer:

        def full(_: Any) -> None:
            raise av.OSError(28, "No space left on device")

        writer.write(drawn(0, 0, form))
        writer._container, kept = FullDisk(full), writer._container  # type: ignore[assignment]
        writer.finish()
    assert kept is not None
    assert leftovers(tmp_path) == []


class FullDisk:
    def __init__(self, fail: Any) -> None:
        self.mux = fail

    def close(self) -> None:
        pass


def test_an_encoder_that_fails_midway_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    form = spec()

    def broken(*_: Any, **__: Any) -> Any:
        raise av.ExternalError(542398533, "Generic error in an external library")

    with pytest.raises(OutputError, match="writing failed at frame 1"), Writer(tmp_path / "a.mp4", form) as writer:
        writer.write(drawn(0, 0, form))
        monkeypatch.setattr(writer, "_mux", broken)
        writer.write(drawn(1, 512, form))
    assert leftovers(tmp_path) == []


def test_sound_times_rise_with_the_picture(tmp_path: Path) -> None:
    """Packets are interleaved: no stream runs ahead of the others by much in the file."""
    source = make_clip(tmp_path / "in.mp4", frames=100, sound=[Sound(), Sound("mp3")])
    copy(source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        order = [float(p.dts * p.time_base) for p in container.demux() if p.size and p.dts is not None]
    assert max(a - b for a, b in pairwise(order)) < 0.5
    assert len(sound_of(tmp_path / "out.mkv")) == 2
