"""Files whose clock starts again: picture and sound stay together, whatever the parts are and however they are read."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from gtasr_video.media import Encoding, Reader
from gtasr_video.media.joints import Followers, Joints
from tests.clips import Sound, join, make_clip, sound_of, times
from tests.media.test_remux import clicks, copy
from tests.media.test_writer import seen

FAST = Encoding(preset="ultrafast")
PICTURE, SOUND, WORDS = 0, 1, 2


@dataclass
class Stamped:
    """What of a packet counts here; a second has a hundred ticks."""

    stream_index: int
    pts: int | None
    dts: int | None
    duration: int = 4
    time_base: Fraction = Fraction(1, 100)


def shown(*pts: int) -> list[Any]:
    """Return pictures in decoding order, each decoded one after the other up to the first that is shown."""
    begin = min(pts) - 4
    return [Stamped(PICTURE, at, begin + 4 * number) for number, at in enumerate(pts)]


def heard(*dts: int, track: int = SOUND) -> list[Any]:
    return [Stamped(track, at, at) for at in dts]


def joined(packets: list[Any]) -> tuple[list[int | None], Joints]:
    joints = Joints()
    ready = [packet for given in packets for packet in joints.push(given)] + joints.drain()
    assert ready == packets
    return [packet.pts for packet in ready], joints


def followed(packets: list[Any]) -> tuple[list[int], Followers]:
    followers = Followers(PICTURE)
    return [packet.dts for packet in followers.moved(packets)], followers


def test_what_is_shown_first_comes_one_step_after_what_was_shown_last() -> None:
    times, joints = joined([*shown(1000, 1012, 1004, 1008), *shown(8, 0, 4, 12)])
    assert times == [1000, 1012, 1004, 1008, 1024, 1016, 1020, 1028]
    assert (joints.count, joints.shift) == (1, 1016)
    assert joints.starts_between(1012, 1016) and not joints.starts_between(1016, 1020)


def test_a_small_step_back_is_no_joint() -> None:
    packets = [*shown(1000, 1004, 1008, 1012), *shown(950, 954, 958)]
    assert joined(packets)[0] == [1000, 1004, 1008, 1012, 950, 954, 958]


def test_joints_follow_one_another() -> None:
    times, joints = joined([*shown(1000, 1004), *shown(500, 504), *shown(0, 4)])
    assert times == [1000, 1004, 1008, 1012, 1016, 1020]
    assert joints.count == 2


def test_a_picture_without_times_stays_without() -> None:
    assert joined([Stamped(PICTURE, None, None)])[0] == [None]


def test_times_that_no_packet_can_hold_are_let_be() -> None:
    far = 2**62
    packets = [Stamped(PICTURE, far * (-1) ** n, far * (-1) ** n) for n in range(6)]
    assert [abs(at or 0) for at in joined(packets)[0]] == 6 * [far]


def test_sound_that_starts_again_before_the_picture_waits_for_it() -> None:
    before, after = shown(1000, 1004, 1008, 1012), shown(0, 4, 8, 12)
    packets = [*heard(1000, 1004), *before[:3], *heard(1008, 0, 4), before[3], *after, *heard(8)]
    assert followed(packets)[0] == [1000, 1004, 1008, 1016, 1020, 1024]


def test_the_rest_of_the_sound_may_come_behind_the_joint() -> None:
    packets = [*heard(1000), *shown(1000, 1004, 1008, 1012), *shown(0, 4, 8, 12), *heard(1004, 1008, 0, 4)]
    assert followed(packets)[0] == [1000, 1004, 1008, 1016, 1020]


def test_a_sparse_stream_goes_with_the_picture_around_it() -> None:
    """By its own times alone nothing has started again."""
    first, second = shown(*range(0, 1000, 4)), shown(*range(0, 1000, 4))
    packets = [*first[:75], *heard(300, track=WORDS), *first[75:], *second[:150], *heard(600, track=WORDS)]
    assert followed(packets)[0] == [300, 1600]


def test_sound_alone_that_starts_again_goes_on_and_is_counted() -> None:
    packets = [*shown(*range(0, 1000, 4)), *heard(*range(0, 1000, 4)), *shown(*range(1000, 1100, 4)), *heard(0, 4, 8)]
    times, followers = followed(packets)
    assert times[-4:] == [996, 1000, 1004, 1008]
    assert followers.strays == {SOUND: 1}


def test_sound_that_overlaps_itself_beside_a_picture_that_does_not_is_left_alone() -> None:
    packets = [*shown(*range(0, 500, 4)), *heard(*range(0, 500, 4)), *heard(*range(380, 600, 4))]
    times, followers = followed(packets)
    assert times[125:] == list(range(380, 600, 4))
    assert not followers.strays


# --- files ----------------------------------------------------------------------------------------------------------


def recording(path: Path, begin: int, number: int, **more: Any) -> Path:
    """Write 50 frames that begin at the second `begin`, numbered from `number`, and sound beside them."""
    pts = [t + 12800 * begin for t in times(50)]
    # Packets of MP3 are the same bytes in every container.
    sound = [Sound("mp3", tone=300 + number, start=Fraction(begin))]
    return make_clip(path, pts=pts, first_number=number, sound=sound, sound_seconds=2, container="mpegts", **more)


def both(folder: Path, first: dict[str, Any], second: dict[str, Any]) -> tuple[list[Path], Path]:
    """Return two recordings, and a file of both."""
    parts = [recording(folder / f"{n}.ts", number=100 * n, **one) for n, one in enumerate((first, second))]
    return parts, join(parts, folder / "both.ts")


def placed(path: Path) -> tuple[dict[int, Fraction], dict[bytes, Fraction]]:
    """Return at which second each picture (by its number) and each packet of sound (by its bytes) comes."""
    at, numbers, _ = seen(path)
    return dict(zip(numbers, at, strict=True)), {data: pts for pts, _, data in sound_of(path)[0]}


def away(part: Path, output: Path) -> list[Fraction]:
    """Return by how many seconds each packet of sound of `part` is off its place beside the pictures of `part`."""
    pictures, sounds = placed(output)
    own_pictures, own_sounds = placed(part)
    moved = [pictures[number] - at for number, at in own_pictures.items() if number in pictures]
    assert max(moved) - min(moved) <= Fraction(1, 900)
    return [sounds[data] - at - moved[0] for data, at in own_sounds.items() if data in sounds]


def in_step(part: Path, output: Path) -> int:
    """Assert that the sound of `part` is where it belongs; return how many packets of it there are."""
    off = away(part, output)
    # The first may overlap the end of the sound before them.
    assert sum(abs(one) > Fraction(1, 400) for one in off) <= 2
    assert max(map(abs, off), default=0) < Fraction(1, 10)
    return len(off)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"begin": 20}, {"begin": 0}),
        ({"begin": 20}, {"begin": 20}),
        ({"begin": 20}, {"begin": 0, "bframes": 0}),
        ({"begin": 20, "bframes": 0}, {"begin": 0}),
    ],
    ids=["back", "the same", "no delay behind", "no delay before"],
)
def test_sound_stays_beside_its_picture(tmp_path: Path, suffix: str, first: Any, second: Any) -> None:
    parts, source = both(tmp_path, first, second)
    facts = copy(source, tmp_path / f"out{suffix}", FAST)
    assert all(in_step(part, tmp_path / f"out{suffix}") > 80 for part in parts)
    assert not any("starts again" in line for line in facts["warnings"])


def test_sound_that_is_encoded_anew_stays_there_too(tmp_path: Path) -> None:
    _, source = both(tmp_path, {"begin": 20}, {"begin": 0})
    copy(source, tmp_path / "out.webm", Encoding(preset="8"))
    heard_at = clicks(tmp_path / "out.webm")
    # Clicks lie at 0 and 1 s of either part, the second of which begins 2 s after the first.
    assert [round(at, 1) for at in heard_at] == [20, 21, 22, 23]


def test_program_streams_are_joined_as_well(tmp_path: Path) -> None:
    parts = [
        make_clip(tmp_path / f"{n}.mpg", frames=50, codec="mpeg2video", sound=[Sound("mp2", tone=300 + n)])
        for n in range(2)
    ]
    copy(join(parts, tmp_path / "both.mpg"), tmp_path / "out.mkv", FAST)
    sounds = {data: pts for pts, _, data in sound_of(tmp_path / "out.mkv")[0]}
    begins = [sounds[data] for part in parts for _, _, data in sound_of(part)[0][20:21]]
    assert abs(begins[1] - begins[0] - 2) < Fraction(1, 10)


@pytest.mark.parametrize("start", [1, 3])
def test_a_part_of_it_is_found_where_it_is_played(tmp_path: Path, start: int) -> None:
    """Also where the time that was asked for lies in both recordings."""
    parts, source = both(tmp_path, {"begin": 0}, {"begin": 0})
    copy(source, tmp_path / "out.mp4", FAST, start=Fraction(start))
    numbers = [*range(50), *range(100, 150)]
    assert seen(tmp_path / "out.mp4")[1] == numbers[25 * start :]
    assert in_step(parts[1], tmp_path / "out.mp4") > 30
    with Reader(source, start=Fraction(start)) as reader:
        assert [frame.cut for frame in reader].count(True) == (2 if start == 1 else 1)


def test_slides_in_another_order_than_they_are_shown_are_no_joint(tmp_path: Path) -> None:
    """Matroska does not say when the first packets are decoded, and these are shown many seconds apart."""
    source = make_clip(tmp_path / "slides.mkv", fps=Fraction(1, 5), frames=12, bframes=3)
    with Reader(source) as reader:
        found = [frame.pts * reader.spec.time_base for frame in reader]
        assert list(reader.warnings()) == []
    assert found == [5 * number for number in range(12)]


def test_parts_of_other_codecs_are_decoded_and_their_sound_is_told(tmp_path: Path) -> None:
    unit = Fraction(1, 90000)
    first = make_clip(tmp_path / "first.ts", frames=25, sound=[Sound("ac3")], time_base=unit)
    other = make_clip(tmp_path / "other.ts", frames=25, sound=[Sound("mp2")], codec="mpeg2video", bframes=0)
    whole = join([first, other], tmp_path / "whole.ts")
    with Reader(whole) as reader:
        # FFmpeg lets go of what its parser holds where the codec changes.
        assert sum(1 for _ in reader) >= 2 * 25 - 2
        assert reader.corrupt_packets == 0
        assert any("goes on in mpeg2video" in line for line in reader.warnings())
    output = tmp_path / "out.mkv"
    warnings = copy(whole, output)["warnings"]
    assert any("audio stream 1: it changes its codec" in line for line in warnings)
    assert {data for *_, data in sound_of(output)[0]} <= {data for *_, data in sound_of(first)[0]}
