"""Every frame, once, in order, with its exact time."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
import torch

from gtasr_video.errors import InputError, UsageError, describe
from gtasr_video.frames import Frame
from gtasr_video.media import Reader
from gtasr_video.media import source as source_module
from gtasr_video.media.planes import LAYOUTS
from tests.clips import (
    Picture,
    Sound,
    damage_packets,
    frame_number,
    join,
    make_clip,
    phone_times,
    picture_of,
    times,
    truncate,
)


def numbers(reader: Reader) -> list[int]:
    bits = reader.spec.layout.bits
    return [frame_number(frame.planes[0], bits) for frame in reader]


def read(path: Path, **window: Any) -> tuple[list[int], list[int], Reader]:
    """Return (pts, burnt-in numbers, the reader) of a file."""
    with Reader(path, **window) as reader:
        frames = [(f.pts, frame_number(f.planes[0], reader.spec.layout.bits)) for f in reader]
    return [p for p, _ in frames], [n for _, n in frames], reader


# --- exactness ------------------------------------------------------------------------------------------------------

TB = Fraction(1, 12800)
CLIPS: dict[str, dict[str, Any]] = {
    "b_frames.mp4": {"bframes": 3},
    "vfr.mp4": {"pts": phone_times(40, TB), "frames": 40},
    "vfr.mov": {"pts": [0, 1, 2, 5000, 5001, 90000, 90512], "codec": "mpeg4"},
    "offset.mp4": {"pts": [t + 70001 for t in times(24)]},
    "ntsc.mp4": {"time_base": Fraction(1001, 30000), "pts": list(range(30))},
    "ten_bit.mp4": {"pix_fmt": "yuv420p10le"},
    "hevc.mp4": {"codec": "libx265", "pix_fmt": "yuv420p10le"},
    "odd.mp4": {"pix_fmt": "yuv444p", "size": (65, 49)},
    "late_sound_first.mp4": {"sound": [Sound()], "sound_first": True},
    "mpeg4_b.mp4": {"codec": "mpeg4"},
    "one.mp4": {"frames": 1},
    "two.mp4": {"frames": 2},
}


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_comes_with_its_exact_time(tmp_path: Path, name: str) -> None:
    wanted = CLIPS[name]
    path = make_clip(tmp_path / name, **wanted)
    base = wanted.get("time_base", TB)
    ticks = list(wanted.get("pts") or times(wanted.get("frames", 24)))
    pts, found, reader = read(path)
    assert [p * reader.spec.time_base for p in pts] == [t * base for t in ticks]
    assert found == list(range(len(ticks)))
    assert reader.corrupt_packets == 0
    assert reader.facts()["warnings"] == []
    assert reader.frame_count_estimate == len(ticks)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx-vp9"),
        ("a.ts", "mpeg2video"),
        ("a.avi", "mpeg4"),
        ("b.avi", "libx264"),
        ("a.flv", "libx264"),
    ],
)
def test_other_containers_round_times_to_their_own_tick_and_lose_no_frame(
    tmp_path: Path, name: str, codec: str
) -> None:
    rate_base = {"time_base": Fraction(1, 25), "pts": list(range(30))} if name.endswith(".avi") else {"frames": 30}
    path = make_clip(tmp_path / name, codec=codec, sound=() if name == "a.webm" else [Sound("mp3")], **rate_base)
    pts, found, reader = read(path)
    assert found == list(range(30))
    if name.endswith((".mkv", ".webm", ".avi")):
        assert pts[0] == 0
    seconds = [float((p - pts[0]) * reader.spec.time_base) for p in pts]
    assert seconds == pytest.approx([i / 25 for i in range(30)], abs=6e-4)


def test_frames_say_how_long_they_last(tmp_path: Path) -> None:
    ticks = phone_times(30, TB)
    path = make_clip(tmp_path / "a.mp4", pts=ticks)
    with Reader(path) as reader:
        frames = list(reader)
        assert [f.duration for f in frames[:-1]] == [b - a for a, b in pairwise(ticks)]
        assert frames[-1].duration > 0
        stated = reader.duration
    assert stated is not None
    assert frames[-1].pts + frames[-1].duration == stated / TB
    assert [f.cut for f in frames] == [True] + [False] * 29


def test_a_reader_is_iterated_once(tmp_path: Path) -> None:
    with Reader(make_clip(tmp_path / "a.mp4", frames=2)) as reader:
        list(reader)
        with pytest.raises(RuntimeError, match="once"):
            next(iter(reader))


def test_frames_outlive_the_reader(tmp_path: Path) -> None:
    with Reader(make_clip(tmp_path / "a.mp4", frames=3)) as reader:
        frames = list(reader)
    assert [frame_number(f.planes[0]) for f in frames] == [0, 1, 2]


@pytest.mark.parametrize("begun", [False, True])
def test_frames_asked_of_a_closed_reader_are_refused(tmp_path: Path, begun: bool) -> None:
    """As by a loop behind the ``with`` block; FFmpeg would end the whole process."""
    source = make_clip(tmp_path / "a.mp4", frames=60)
    with Reader(source) as reader:
        frames = iter(reader)
        if begun:
            next(frames)
    with pytest.raises(InputError, match=r"a\.mp4: it was closed before all its frames were read"):
        list(frames)


# --- pixel formats --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["yuv420p", "yuv422p", "yuv444p", "gray"])
@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("size", [(64, 48), (65, 49)])
def test_planar_pictures_pass_untouched(tmp_path: Path, family: str, bits: int, size: tuple[int, int]) -> None:
    name = family + ("" if bits == 8 else f"{bits}le")
    path = make_clip(tmp_path / "a.mkv", codec="ffv1", pix_fmt=name, size=size, frames=2)
    with Reader(path) as reader:
        assert reader.spec.layout == LAYOUTS[name]
        for number, frame in enumerate(reader):
            drawn = picture_of(number, *size, name)
            for index, plane in enumerate(frame.planes):
                assert tuple(plane.shape) == reader.spec.layout.plane_size(index, *size)
                assert plane.dtype == reader.spec.layout.dtype
                expected = torch.frombuffer(bytearray(bytes(drawn.planes[index])), dtype=plane.dtype)
                assert torch.equal(plane, expected.view(plane.shape[0], -1)[:, : plane.shape[1]])


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "layout"),
    [
        ("a.mkv", "rawvideo", "nv12", "yuv420p"),
        ("a.mkv", "rawvideo", "yuyv422", "yuv422p"),
        ("a.mkv", "rawvideo", "uyvy422", "yuv422p"),
        ("a.mov", "qtrle", "rgb24", "gbrp"),
        ("a.mkv", "ffv1", "bgr0", "gbrp"),
        ("a.mkv", "ffv1", "gbrp10le", "gbrp10le"),
        ("a.gif", "gif", "rgb8", "gbrp"),
        ("a.mkv", "mjpeg", "yuvj420p", "yuv420p"),
        ("a.mkv", "ffv1", "yuva420p", "yuva420p"),
        ("a.mov", "png", "rgba", "gbrap"),
        ("a.mkv", "ffv1", "yuv440p", "yuv444p"),
        ("a.mkv", "ffv1", "yuv411p", "yuv422p"),
    ],
)
def test_other_pictures_are_converted_once_to_the_nearest(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, layout: str
) -> None:
    path = make_clip(tmp_path / name, codec=codec, pix_fmt=pix_fmt, frames=5, size=(64, 48))
    with Reader(path) as reader:
        assert reader.spec.layout.name == layout
        assert reader.spec.color.full_range == (layout.startswith("gbr") or pix_fmt == "yuvj420p")
        assert (reader.spec.color.matrix == "rgb") == layout.startswith("gbr")
        assert numbers(reader) == list(range(5))


def test_what_is_not_carried_on_is_told(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "b.mp4", pix_fmt="yuv444p", picture=Picture(matrix=8), frames=1)
    with Reader(path) as reader:
        assert [line for line in reader.warnings() if "matrix 8 of H.273" in line]
        assert reader.spec.color.matrix == "bt601"


def test_moving_samples_loses_nothing(tmp_path: Path) -> None:
    """NV12 and packed 4:2:2 hold the same samples as their planar kin, only elsewhere."""
    for pix_fmt, planar in (("nv12", "yuv420p"), ("yuyv422", "yuv422p")):
        path = make_clip(tmp_path / f"{pix_fmt}.mkv", codec="rawvideo", pix_fmt=pix_fmt, frames=1)
        drawn = picture_of(0, 64, 48, pix_fmt).reformat(format=planar)
        with Reader(path) as reader:
            (frame,) = reader
        for plane, other in zip(frame.planes, drawn.planes, strict=True):
            expected = torch.frombuffer(bytearray(bytes(other)), dtype=torch.uint8)
            assert torch.equal(plane, expected.view(plane.shape[0], -1)[:, : plane.shape[1]])


# --- what the numbers mean ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["libx264", "libx265", "ffv1"])
@pytest.mark.parametrize(
    ("said", "matrix"),
    [
        (Picture(matrix=1, primaries=1, transfer=1, full_range=False, siting="left"), "bt709"),
        (Picture(matrix=6, primaries=6, transfer=6, full_range=True, siting="center"), "bt601"),
        (Picture(matrix=5, primaries=5, transfer=6, full_range=False, siting="topleft"), "bt601"),
        (Picture(matrix=9, primaries=9, transfer=16, full_range=False, siting="topleft"), "bt2020"),
    ],
)
def test_colours_are_read_as_they_are_written(tmp_path: Path, codec: str, said: Picture, matrix: str) -> None:
    path = make_clip(tmp_path / "a.mkv", codec=codec, picture=said, frames=2)
    with Reader(path) as reader:
        color = reader.spec.color
    assert (color.matrix, color.full_range, color.chroma_siting) == (matrix, said.full_range, said.siting)
    assert (color.primaries, color.transfer, color.matrix_code) == (said.primaries, said.transfer, said.matrix)


@pytest.mark.parametrize(
    ("size", "matrix"), [((720, 576), "bt601"), ((64, 48), "bt601"), ((1280, 544), "bt709"), ((640, 720), "bt709")]
)
def test_an_untagged_picture_is_judged_by_its_size(tmp_path: Path, size: tuple[int, int], matrix: str) -> None:
    with Reader(make_clip(tmp_path / "a.mp4", size=size, frames=1)) as reader:
        assert reader.spec.color.matrix == matrix
        assert not reader.spec.color.full_range


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_and_pixel_shape_are_read(tmp_path: Path, rotation: int) -> None:
    said = Picture(rotation=rotation, sample_aspect=Fraction(4, 3))
    with Reader(make_clip(tmp_path / "a.mp4", picture=said, frames=2)) as reader:
        assert reader.spec.rotation == rotation
        assert reader.spec.sample_aspect == Fraction(4, 3)
        assert (reader.spec.width, reader.spec.height) == (64, 48)


def test_interlacing_is_noticed(tmp_path: Path) -> None:
    options = {"x264-params": "tff=1"}
    with Reader(make_clip(tmp_path / "i.mp4", picture=Picture(options=options)), deinterlace="never") as reader:
        assert reader.spec.interlaced
        assert any("is interlaced" in line for line in reader.warnings())
    with Reader(make_clip(tmp_path / "p.mp4")) as reader:
        assert not reader.spec.interlaced


# --- a part of a file -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[tuple[int, Frame]]]]:
    """Files with few key frames and references across them, and all their frames."""
    folder = tmp_path_factory.mktemp("long")
    open_gop = Picture(options={"x264-params": "open-gop=1:scenecut=0"})
    paths = {
        "mp4": make_clip(folder / "a.mp4", frames=60, gop=20, bframes=3, picture=open_gop),
        "vfr": make_clip(folder / "v.mp4", pts=phone_times(60, TB), gop=15),
        "hevc": make_clip(folder / "h.mkv", codec="libx265", frames=60, gop=20),
        "ts": make_clip(folder / "a.ts", frames=60, gop=20, sound=[Sound("mp3")]),
        "offset": make_clip(folder / "o.mp4", pts=[t + 99_999 for t in times(60)], gop=30),
    }
    found = {}
    for name, path in paths.items():
        with Reader(path) as reader:
            found[name] = (path, list(enumerate(reader)))
    return found


@pytest.mark.parametrize("name", ["mp4", "vfr", "hevc", "ts", "offset"])
@pytest.mark.parametrize(
    ("start", "duration", "frames"),
    [
        ("0", "0.5", None),
        ("0.001", None, 3),
        ("0.4", "0.4", None),
        ("0.79", "0.3", None),
        ("0.8", None, 5),
        ("1.21", "0.2", None),
        ("1.6", None, None),
        (None, None, 7),
        (None, "1.111", None),
    ],
)
def test_a_cut_is_exact_to_the_frame_and_bit(
    long_clips: dict[str, tuple[Path, list[tuple[int, Frame]]]],
    name: str,
    start: str | None,
    duration: str | None,
    frames: int | None,
) -> None:
    path, whole = long_clips[name]
    begin = None if start is None else Fraction(start)
    length = None if duration is None else Fraction(duration)
    with Reader(path, start=begin, duration=length, frames=frames) as reader:
        cut = list(reader)
        unit = reader.spec.time_base
    zero = min(f.pts for _, f in whole) * unit
    if name == "ts":  # a player's 0 is where the sound begins
        with av.open(str(path)) as container:
            zero = Fraction(container.start_time, av.time_base)
    expected = [f for _, f in whole if f.pts * unit - zero >= (begin or 0) - Fraction(1, 10**6)]
    if length is not None:
        end = (begin or 0) + length - Fraction(1, 10**6)
        expected = [f for f in expected if f.pts * unit - zero < end]
    expected = expected[:frames]
    assert [f.pts for f in cut] == [f.pts for f in expected]
    for one, other in zip(cut, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize(
    ("start", "duration", "found"),
    [
        ("5", "3", [(5, 3, 0)]),
        ("5", None, [(5, 5, 0), (10, 10, 1), (20, 10, 2)]),
        ("9.5", "0.25", [(9.5, 0.25, 0)]),
        ("10", "3", [(10, 10, 1)]),
        ("12", "9", [(12, 8, 1), (20, 10, 2)]),
        ("25", "4", [(25, 4, 2)]),
        ("26", None, [(26, 4, 2)]),
    ],
)
def test_a_cut_begins_with_the_picture_that_is_on(
    tmp_path: Path, name: str, start: str, duration: str | None, found: list[tuple[float, float, int]]
) -> None:
    path = make_clip(tmp_path / name, pts=[0, 10, 20], time_base=Fraction(1), fps=Fraction(1, 10), bframes=0)
    with Reader(path, start=Fraction(start), duration=None if duration is None else Fraction(duration)) as reader:
        unit = reader.spec.time_base
        frames = [(f.pts * unit, f.duration * unit, frame_number(f.planes[0])) for f in reader]
        assert reader.origin == Fraction(start)
        assert reader.facts()["truncated_at_s"] is None
    assert frames == found


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "mpeg4"), ("a.m2v", "mpeg2video"), ("intra.avi", "mjpeg")])
def test_a_cut_is_exact_where_key_frames_have_decoding_times_only(tmp_path: Path, name: str, codec: str) -> None:
    """A key frame is decoded before it is shown, by as much as pictures are reordered."""
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    clip = {"codec": codec, "pix_fmt": pix_fmt, "pts": list(range(60)), "time_base": Fraction(1, 25)}
    path = make_clip(tmp_path / name, **clip)
    pts, found, whole = read(path)
    assert found == list(range(60))
    for start in (12, 13, 24, 47):
        cut, numbers_of_cut, reader = read(path, start=Fraction(start, 25))
        assert numbers_of_cut == found[start:]
        assert cut == pts[start:]
        assert reader.spec.time_base == whole.spec.time_base


def test_neighbouring_cuts_share_no_frame_and_lose_none(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", pts=phone_times(60, TB), gop=16)
    whole = read(path)[0]
    parts = []
    for index in range(7):
        window = {"start": index * Fraction(3, 10), "duration": Fraction(3, 10)}
        parts += read(path, **window)[0]
    assert parts == whole


def test_the_estimate_of_a_cut_is_close(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", frames=50)
    with Reader(path, start=Fraction(1), duration=Fraction(1, 2)) as reader:
        assert reader.duration == Fraction(1, 2)
        assert abs((reader.frame_count_estimate or 0) - len(list(reader))) <= 1
    with Reader(path, frames=9) as reader:
        assert reader.frame_count_estimate == 9


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({"start": Fraction(5)}, "past its end"),
        ({"start": Fraction(99, 100), "duration": Fraction(1, 1000)}, "no frame"),
    ],
)
def test_a_cut_without_frames_is_refused(tmp_path: Path, window: dict[str, Any], message: str) -> None:
    path = make_clip(tmp_path / "a.mp4", frames=25)
    with pytest.raises(InputError, match=message):
        Reader(path, **window)


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.flv"])
@pytest.mark.parametrize("threads", [1, 4])
def test_a_file_cut_off_yields_what_is_there_and_says_so(
    tmp_path: Path, name: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(threads)))
    options = {"movflags": "+faststart"} if name == "a.mp4" else {}
    whole = make_clip(tmp_path / name, frames=60, sound=[Sound("mp3")], options=options)
    cut = truncate(whole, 0.6, tmp_path / f"cut_{name}")
    with Reader(cut) as reader:
        found = numbers(reader)
        facts = reader.facts()
    assert 15 < len(found) < 58
    assert found == list(range(len(found)))
    assert facts["truncated_at_s"] == pytest.approx(len(found) / 25, abs=0.1)
    assert any("cut off" in line for line in facts["warnings"])


def test_frames_of_a_whole_file_are_not_called_cut_off(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", frames=20, sound=[Sound()], sound_seconds=3)
    with Reader(path) as reader:
        list(reader)
        assert reader.facts()["truncated_at_s"] is None
    with Reader(path, frames=5) as reader:
        list(reader)
        assert reader.facts()["truncated_at_s"] is None


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mkv", "libx264"), ("a.flv", "libx264"), ("a.wmv", "wmv2"), ("a.avi", "mpeg4"), ("a.ts", "libx264")],
)
def test_longer_sound_is_no_missing_picture(tmp_path: Path, name: str, codec: str) -> None:
    rate = {"pts": list(range(25)), "time_base": Fraction(1, 25)} if name == "a.avi" else {"frames": 25}
    path = make_clip(tmp_path / name, codec=codec, sound=[Sound("mp3")], sound_seconds=3, **rate)
    _, found, reader = read(path)
    assert found == list(range(25))
    assert reader.facts()["truncated_at_s"] is None
    assert reader.facts()["warnings"] == []


def test_longer_sound_beside_one_picture_is_no_missing_picture(tmp_path: Path) -> None:
    """FFmpeg gives the length of the file as that of a stream of which it sees one packet."""
    path = make_clip(tmp_path / "a.mkv", frames=1, sound=[Sound()], sound_seconds=8)
    _, found, reader = read(path)
    assert found == [0]
    assert reader.facts()["warnings"] == []


@pytest.mark.parametrize("name", ["a.mkv", "a.flv", "a.mp4"])
def test_a_file_that_begins_late_is_as_long_as_it_lasts(tmp_path: Path, name: str) -> None:
    """Some formats say when they end, which is not how long they are."""
    late = [t + 100 * 12800 for t in times(25)]
    path = make_clip(tmp_path / name, pts=late, sound=[Sound("mp3", start=Fraction(100))], sound_seconds=1)
    _, found, reader = read(path)
    assert found == list(range(25))
    assert float(reader.duration or 0) == pytest.approx(1, abs=0.12)
    assert reader.facts()["truncated_at_s"] is None
    cut = truncate(path, 0.6, tmp_path / f"cut_{name}")
    if name != "a.mp4":
        _, found, reader = read(cut)
        assert reader.facts()["truncated_at_s"] == pytest.approx(len(found) / 25, abs=0.1)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("which", [[7], [20, 21], [46, 47], [47]])
def test_damaged_packets_are_counted_and_decoding_goes_on(
    tmp_path: Path, which: list[int], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(threads)))
    whole = make_clip(tmp_path / "a.mp4", frames=48, gop=12, codec="mpeg4", bframes=0)
    path = damage_packets(whole, which, tmp_path / "d.mp4")
    with Reader(path) as reader:
        pts = [f.pts for f in reader]
        assert reader.corrupt_packets > 0
        assert any("damaged" in line for line in reader.facts()["warnings"])
    assert len(pts) >= 48 - len(which)
    assert set(pts) <= set(times(48))


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_no_good_frame_is_lost_beside_a_damaged_end(
    tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames that wait in a threaded decoder survive an error in the packet after them."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(threads)))
    whole = make_clip(tmp_path / "a.mp4", frames=36, gop=12, bframes=2)
    found = read(blank_packets(whole, tmp_path / "d.mp4", slice(-1, None)))[1]
    assert len(found) >= 35
    assert found == sorted(found)


def test_a_change_of_size_is_brought_to_the_first_and_told(tmp_path: Path) -> None:
    small = make_clip(tmp_path / "1.ts", frames=12, size=(64, 48))
    later = [t + 12 * 512 for t in times(12)]
    large = make_clip(tmp_path / "2.ts", size=(128, 96), pts=later, first_number=12)
    path = join([small, large], tmp_path / "both.ts")
    with Reader(path) as reader:
        frames = list(reader)
        facts = reader.facts()
    assert {tuple(f.planes[0].shape) for f in frames} == {(48, 64)}
    assert [frame_number(f.planes[0]) for f in frames] == list(range(24))
    assert facts["size_changes"] == 12
    assert any("size changes" in line for line in facts["warnings"])
    assert frames[12].cut


def test_a_change_of_format_is_brought_to_the_first(tmp_path: Path) -> None:
    first = make_clip(tmp_path / "1.ts", frames=10, pix_fmt="yuv420p")
    second = make_clip(
        tmp_path / "2.ts", frames=10, pix_fmt="yuv444p", pts=[t + 5120 for t in times(10)], first_number=10
    )
    with Reader(join([first, second], tmp_path / "both.ts")) as reader:
        assert numbers(reader) == list(range(20))


def test_a_clock_that_starts_again_is_joined(tmp_path: Path) -> None:
    late = [t + 12800 * 30 for t in times(15)]
    first = make_clip(tmp_path / "1.ts", codec="mpeg2video", pts=late)
    second = make_clip(tmp_path / "2.ts", codec="mpeg2video", frames=15, first_number=15)
    with Reader(join([first, second], tmp_path / "both.ts")) as reader:
        frames = list(reader)
    assert [frame_number(f.planes[0]) for f in frames] == list(range(30))
    gaps = {b.pts - a.pts for a, b in pairwise(frames)}
    assert gaps == {3600}


# --- what is refused ------------------------------------------------------------------------------------------------


def refusals(folder: Path) -> Iterator[tuple[Path, str]]:
    text = folder / "text.mp4"
    text.write_text("this is no video\n" * 100)
    noise = folder / "noise.mkv"
    noise.write_bytes(bytes(range(256)) * 64)
    empty = folder / "empty.mp4"
    empty.touch()
    tail = folder / "index_at_end.mp4"
    truncate(make_clip(folder / "whole.mp4"), 0.7, tail)
    nothing = blank_packets(make_clip(folder / "n.mp4", frames=3), folder / "nothing.mp4")
    playlist = folder / "list.m3u8"
    make_clip(folder / "part.ts")
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\npart.ts\n#EXT-X-ENDLIST\n")
    script = folder / "list.mp4"
    script.write_text(f"ffconcat version 1.0\nfile '{folder / 'part.ts'}'\n")
    yield folder / "missing.mp4", "no such file"
    yield folder, "folder"
    yield text, "not a media file"
    yield noise, "not a media file"
    yield empty, "empty"
    yield tail, "without its index"
    yield make_clip(folder / "song.mp4", frames=0, sound=[Sound()]), "sound but no picture"
    yield make_clip(folder / "song.wav", frames=0, sound=[Sound("pcm_s16le")]), "sound but no picture"
    yield nothing, "not one frame"
    yield playlist, "playlist"
    yield script, "concat"
    yield Path("/dev/null"), "not a regular file"


def blank_packets(path: Path, to: Path, only: slice = slice(None)) -> Path:
    """Write `path` into `to` with zeros for the payload of its video packets."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        spots = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    for position, size in spots[only]:
        assert position is not None
        data[position : position + size] = bytes(size)
    to.write_bytes(data)
    return to


def test_bad_input_is_refused_in_one_line_that_names_it(tmp_path: Path) -> None:
    for path, message in refusals(tmp_path):
        with pytest.raises(InputError) as caught:
            Reader(path)
        line = describe(caught.value)
        assert message in line, line
        assert str(path) in line
        assert "\n" not in line


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip(tmp_path / "a.mp4", frames=1)

    def forbidden(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(InputError, match="Permission denied"):
        Reader(path)


def test_ffmpeg_itself_refuses_playlists_and_other_protocols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look at the first bytes is for a clear message; the whitelist is what holds."""
    monkeypatch.setattr(source_module, "check_file", lambda _: None)
    make_clip(tmp_path / "part.ts")
    playlist = tmp_path / "list.m3u8"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\npart.ts\n#EXT-X-ENDLIST\n")
    with av.open(str(playlist)) as opened:
        assert opened.format.name == "hls"  # FFmpeg would follow it if it were let
    with pytest.raises(InputError, match="not a media file"):
        Reader(playlist)
    for address in ("concat:a.ts|b.ts", "subfile,,start,0,end,9,,:a.mp4"):
        with pytest.raises(InputError):
            Reader(address)


def test_addresses_are_refused_without_repeating_their_keys() -> None:
    for address in ("rtmp://host/live/secret", "https://user:secret@host/a.mp4"):
        with pytest.raises(UsageError) as caught:
            Reader(address)
        assert "secret" not in describe(caught.value)


def test_odd_names_are_only_names(tmp_path: Path) -> None:
    for name in ("-y.mp4", "a:b.mp4", 'it\'s "100%05d".mp4', "new\nline.mp4", "pipe:0.mp4", "\udcff.mp4"):
        path = tmp_path / name
        make_clip(tmp_path / "plain.mp4", frames=3).rename(path)
        assert read(path)[1] == [0, 1, 2]


def test_the_picture_need_not_be_the_first_stream(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mkv", sound=[Sound(), Sound("mp3")], sound_first=True, frames=5)
    _, found, reader = read(path)
    assert found == list(range(5))
    assert reader.stream_index == 2


def test_cover_art_is_not_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as output:
        cover: Any = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        film: Any = output.add_stream("libx264", rate=25)
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        still = picture_of(99, 32, 32, "yuvj420p")
        still.pts = 0
        output.mux(cover.encode(still))
        for number in range(5):
            frame = picture_of(number, 64, 48, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(film.encode(frame))
        output.mux(film.encode(None))
    assert read(path)[1] == list(range(5))
