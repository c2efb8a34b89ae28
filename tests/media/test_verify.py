"""`verify` tells a good copy from a bad one; an output that fails its audit never gets its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
import torch

import gtasr_video
from gtasr_video.audit import AuditError
from gtasr_video.media import Encoding, Reader, Writer
from gtasr_video.media.audit import Expected, audit_file
from gtasr_video.media.writer import Writer as JoinedBy
from gtasr_video.runtime.report import Report
from tests import fakes
from tests.clips import Picture, Sound, add_words, damage_packets, join, make_clip, phone_times, times
from tests.conftest import Outcome
from tests.media.test_writer import copy, in_layout

Cli = Callable[..., Outcome]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    sound = [Sound("aac", "eng"), Sound("aac", "deu")]
    return make_clip(tmp_path / "in.mp4", pts=phone_times(30), time_base=Fraction(1, 90000), sound=sound)


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv", "out.ts"])
def test_what_upscale_makes_is_as_it_should_be(name: str, source: Path, tmp_path: Path) -> None:
    report = gtasr_video.upscale(source, tmp_path / name, model="bicubic", scale=2)
    assert report.audit["passed"]
    assert report.audit["frames"] == report.audit["frames_decoded"] == 30
    assert report.audit["sound_packets"] > 80
    audit = gtasr_video.verify(source, tmp_path / name)
    assert audit.faults == []
    assert audit.facts["scale"] == 2.0
    assert (audit.facts["frames"], audit.facts["sound_tracks"]) == (30, 2)


def test_what_is_made_of_a_part(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    gtasr_video.upscale(source, out, model="bicubic", scale=2, start="0.3", frames=12)
    assert gtasr_video.verify(source, out, start="0.3", frames=12).passed
    assert not gtasr_video.verify(source, out).passed


@pytest.mark.parametrize(("form", "full"), [("yuv420p10le", None), ("yuv444p", True), ("gray", None)])
def test_other_formats_are_not_mistaken_for_other_pictures(form: str, full: bool | None, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", codec="ffv1", pix_fmt=form, bframes=0, picture=Picture(full_range=full))
    copy(source, tmp_path / "out.mp4")
    assert gtasr_video.verify(source, tmp_path / "out.mp4").faults == []


def rewritten(source: Path, target: Path, change: Callable[[int, Any], Any]) -> Path:
    """Copy `source` with each frame as `change` makes it, or left out where that is None."""
    with Reader(source) as reader, Writer(target, reader.spec, Encoding(crf=10), source=reader) as writer:
        for number, frame in enumerate(reader):
            changed = change(number, in_layout(frame, reader.spec, writer.spec))
            if changed is not None:
                writer.write(changed)
    return target


def black(frame: Any) -> Any:
    return replace(frame, planes=tuple(torch.full_like(p, 16 if i == 0 else 128) for i, p in enumerate(frame.planes)))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda n, f: None if n == 7 else f, "1 of 30 frames are missing (at 0."),
        (lambda n, f: None if n > 20 else f, "9 of 30 frames are missing"),
        (lambda n, f: replace(f, pts=f.pts + 700) if n == 7 else f, "at times that the source does not have"),
        (lambda n, f: black(f) if n == 7 else f, "1 frames have lost their picture"),
    ],
    ids=["one", "end", "late", "black"],
)
def test_pictures_that_are_not_right(change: Any, fault: str, source: Path, tmp_path: Path) -> None:
    out = rewritten(source, tmp_path / "out.mp4", change)
    audit = gtasr_video.verify(source, out)
    assert not audit.passed
    assert fault in "; ".join(audit.faults)


def test_tracks_that_are_not_there(source: Path, tmp_path: Path) -> None:
    short = make_clip(
        tmp_path / "out.mp4",
        pts=phone_times(30),
        time_base=Fraction(1, 90000),
        sound=[Sound("aac", "eng")],
        sound_seconds=0.5,
    )
    faults = gtasr_video.verify(source, short).faults
    assert "audio stream 2 (deu) is missing" in faults
    assert any("sound track 0 ends 0." in fault and "earlier" in fault for fault in faults)


@pytest.mark.parametrize(
    ("one", "other", "fault"),
    [
        (Picture(sample_aspect=Fraction(4, 3)), Picture(), "changed from 85x48 to 64x48"),
        (Picture(rotation=90), Picture(), "changed from 48x64 to 64x48"),
        (Picture(rotation=180), Picture(), ""),
        (Picture(transfer=16, matrix=9), Picture(matrix=9), "the picture is no longer PQ"),
    ],
)
def test_how_players_show_the_picture(one: Picture, other: Picture, fault: str, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=3, picture=one)
    out = make_clip(tmp_path / "out.mp4", frames=3, picture=other)
    audit = gtasr_video.verify(source, out)
    assert bool(audit.faults) == bool(fault)
    assert fault in "; ".join(audit.faults)
    assert any("turn" in note for note in audit.notes) == (one.rotation == 180)


@pytest.mark.parametrize(("size", "rotation"), [((128, 72), 0), ((48, 64), 90)])
def test_a_picture_that_is_shown_the_same_has_its_shape(size: tuple[int, int], rotation: int, tmp_path: Path) -> None:
    """Square pixels in place of wide ones, and a picture that was turned in place of one that is to be."""
    aspect = None if rotation else Fraction(4, 3)
    source = make_clip(tmp_path / "in.mp4", frames=3, picture=Picture(sample_aspect=aspect, rotation=rotation))
    out = make_clip(tmp_path / "out.mp4", frames=3, size=size)
    assert gtasr_video.verify(source, out).faults == []


def test_transparency_that_is_gone(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=3, codec="ffv1", pix_fmt="yuva420p", bframes=0)
    gtasr_video.upscale(source, tmp_path / "out.mkv", model="bicubic", scale=2, drop_unsupported=True)
    assert gtasr_video.verify(source, tmp_path / "out.mkv").faults == ["the picture is no longer transparent"]


def test_channels_and_sound_in_between_that_are_gone(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.ts", frames=75, sound=[Sound("ac3", layout="5.1")])
    fewer = make_clip(tmp_path / "out.ts", frames=75, sound=[Sound("ac3")])
    assert gtasr_video.verify(source, fewer).faults == ["audio stream 1 has 2 channels in place of 6"]
    with av.open(str(source)) as container, av.open(str(tmp_path / "holes.mkv"), "w") as output:
        copies = [output.add_stream_from_template(stream, opaque=True) for stream in container.streams]
        for packet in container.demux():
            seconds = (packet.pts or 0) * packet.time_base
            if packet.size and not (packet.stream_index == 1 and 2 <= seconds < 3):
                packet.stream = copies[packet.stream_index]
                output.mux(packet)
    (fault,) = gtasr_video.verify(source, tmp_path / "holes.mkv").faults
    assert fault.startswith(("sound track 0 lacks 0.9", "sound track 0 lacks 1.0"))


def test_what_lies_beside_and_is_gone(tmp_path: Path) -> None:
    chapters = [{"id": 1, "start": 0, "end": 100, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}]
    bare, full = make_clip(tmp_path / "bare.mkv", frames=5), tmp_path / "full.mkv"
    with av.open(str(bare)) as container, av.open(str(full), "w") as output:
        (picture,) = container.streams
        copies = [output.add_stream_from_template(picture, opaque=True) for _ in range(2)]
        output.add_attachment("font.ttf", "font/ttf", b"not really a font" * 50)
        output.add_attachment("cover.png", "image/png", b"not really a picture")
        output.set_chapters(chapters)
        for packet in container.demux():
            for copy_ in copies if packet.size else []:
                packet.stream = copy_
                output.mux(packet)
    assert gtasr_video.verify(full, full).faults == []
    assert gtasr_video.verify(full, bare).faults == [
        "video stream 1 is missing",
        "attachment stream 2 is missing",
        "cover stream 3 is missing",
        "0 chapters in place of 1",
    ]


def trimmed(path: Path, seconds: int) -> Path:
    """Hide the beginning of the MP4 `path` as phones do: each track's edit list begins later, nothing is cut."""
    data, at = bytearray(path.read_bytes()), 0

    def add(where: int, box: bytes, near: int, sign: int) -> None:
        """Add the seconds, in the ticks of the next `box`, to the number that lies at `where`."""
        clock = data.index(box, near) + 16
        ticks = int.from_bytes(data[clock : clock + 4], "big")
        number = int.from_bytes(data[where : where + 4], "big") + sign * seconds * ticks
        data[where : where + 4] = number.to_bytes(4, "big")

    while (at := data.find(b"elst", at + 1)) > 0:
        add(at + 12, b"mvhd", 0, -1)
        add(at + 16, b"mdhd", at, 1)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_sound_that_an_edit_list_hides_does_not_count(suffix: str, tmp_path: Path) -> None:
    source = trimmed(make_clip(tmp_path / "in.mp4", frames=75, gop=75, sound=[Sound()]), 2)
    out = tmp_path / f"out{suffix}"
    assert gtasr_video.upscale(source, out, model="bicubic", scale=2).frames_out == 25
    assert gtasr_video.verify(source, out).faults == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_what_an_encoder_begins_with_does_not_count(suffix: str, tmp_path: Path) -> None:
    """AAC begins with 1024 samples of silence, an eighth of a second at 8 kHz; MP4 hides them, the others do not."""
    source = make_clip(tmp_path / "in.mp4", frames=25, sound=[Sound("aac", rate=8000)])
    out = tmp_path / f"out{suffix}"
    gtasr_video.upscale(source, out, model="bicubic", scale=2)
    assert gtasr_video.verify(source, out).faults == []
    assert gtasr_video.verify(out, source).faults == []


def test_the_command(source: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "out.mp4"
    assert cli("upscale", source, out, "--model", "bicubic", "--scale", "2").code == 0
    done = cli("verify", source, out)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == f"{out}: as it should be"
    bad = rewritten(source, tmp_path / "bad.mp4", lambda n, f: None if n == 7 else f)
    done = cli("verify", source, bad)
    assert (done.code, done.err) == (1, "")
    assert "FAULT" in done.out
    assert json.loads(cli("verify", source, bad, "--json").out)["passed"] is False
    assert cli("verify", source, tmp_path / "none.mp4").err.startswith("gtasr-video: error: no such file")


class Blackens(fakes.Nearest):
    """Loses the picture of one frame."""

    def step(self, x: Any, state: Any, *, seed: int = 0) -> Any:
        y, state = super().step(x, state, seed=seed)
        return (torch.full_like(y, -0.98) if len(self.seen) == 8 else y), state


def test_a_frame_that_turned_black_makes_the_output_suspect(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    with pytest.raises(AuditError, match=r"out\.mp4: the frame at 0\.\d+ s .* lost its picture; .* out\.suspect\.mp4"):
        gtasr_video.upscale(source, out, model=Blackens(2), device="cpu")
    kept = (tmp_path / "out.suspect.mp4").read_bytes()
    with pytest.raises(AuditError, match=r"out\.suspect-1\.mp4"):
        gtasr_video.upscale(source, out, model=Blackens(2), device="cpu")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.suspect-1.mp4", "out.suspect.mp4"]
    assert (tmp_path / "out.suspect.mp4").read_bytes() == kept


def test_what_is_wrong_with_the_source_is_said_of_a_suspect_output_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = make_clip(tmp_path / "whole.mp4", frames=24, gop=12, codec="mpeg4", bframes=0)
    spoiled = damage_packets(whole, [20], tmp_path / "in.mp4")
    with pytest.raises(AuditError, match="lost its picture"):
        gtasr_video.upscale(spoiled, tmp_path / "out.mp4", model=Blackens(2), device="cpu")
    assert any("damaged" in record.getMessage() for record in caplog.records)


def test_a_black_frame_that_was_black_is_none(tmp_path: Path) -> None:
    clip = fakes.clip(tmp_path / "in.mkv", 12, encoding=Encoding(codec="ffv1"))
    dark = rewritten(clip, tmp_path / "dark.mkv", lambda n, f: black(f) if n == 7 else f)
    report: Report = gtasr_video.upscale(dark, tmp_path / "out.mp4", model="bicubic", scale=2)
    assert report.audit["passed"]


def test_a_picture_that_got_lost_on_its_way_into_the_file(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    write, numbers = JoinedBy.copy, iter(range(1000))

    def loses(self: JoinedBy, packets: list[Any]) -> None:
        if next(numbers) != 29:
            write(self, packets)

    monkeypatch.setattr(JoinedBy, "copy", loses)
    out = tmp_path / "out.mp4"
    done = cli("upscale", source, out, "--model", "bicubic", "--scale", "2", "--progress", "none")
    assert done.code == 1
    assert "1 of 30 frames are missing" in done.err
    assert "kept as out.suspect.mp4" in done.err
    assert not out.exists()
    assert not (tmp_path / "out.mp4.job").exists()


def test_sound_that_got_lost(source: Path) -> None:
    expected = Expected(
        shown=(Fraction(t, 90000) for t in phone_times(30)), picture=0, sound={1: 40, 2: 400}, subtitles=1
    )
    faults = audit_file(source, expected).faults
    assert any("2 sound and 0 subtitle streams instead of 2 and 1" in fault for fault in faults)
    assert any("sound stream 2 has" in fault for fault in faults)


def test_sound_that_ends_elsewhere(source: Path) -> None:
    shown = [Fraction(t, 90000) for t in phone_times(30)]
    for end, fault in ((shown[-1], False), (shown[-1] + 2, True), (shown[-1] - 2, True)):
        expected = Expected(shown=iter(shown), picture=0, sound={1: 40, 2: 40}, subtitles=0, sound_ends={2: end})
        assert any("sound stream 2 ends at" in line for line in audit_file(source, expected).faults) == fault


def test_recordings_that_were_joined_are_compared_as_they_are_played(tmp_path: Path) -> None:
    halves = [make_clip(tmp_path / f"{n}.ts", frames=50, first_number=50 * n, sound=[Sound()]) for n in range(2)]
    source, out = join(halves, tmp_path / "in.ts"), tmp_path / "out.mkv"
    report = gtasr_video.upscale(source, out, model="bicubic", scale=2, preset="ultrafast")
    assert report.audit["passed"]
    assert gtasr_video.verify(source, out).faults == []


def test_subtitles_are_compared_by_their_times(tmp_path: Path) -> None:
    bare = make_clip(tmp_path / "bare.mkv", frames=100, bframes=0)
    cues = [(0.5, 2.5, "sign"), (1.0, 0.5, "one"), (2.0, 1.5, "two")]
    source = add_words(bare, tmp_path / "in.mkv", cues)
    for name in ("out.mkv", "out.mp4"):  # which holds them in pieces
        copy(source, tmp_path / name)
        assert gtasr_video.verify(source, tmp_path / name).faults == []
    late = add_words(bare, tmp_path / "late.mkv", [*cues[:2], (3.0, 0.5, "two")])
    assert gtasr_video.verify(source, late).faults == [
        "1 times at which subtitle track 0 changes are missing, first at 2.000 s"
    ]
    more = add_words(bare, tmp_path / "more.mkv", [*cues, (3.7, 0.2, "three")])
    assert gtasr_video.verify(source, more).faults == [
        "2 times at which subtitle track 0 changes are not the source's, first at 3.700 s"
    ]


def test_sound_that_has_no_place_left_fails_the_audit(tmp_path: Path) -> None:
    """A little of it is stamped half a minute ahead, behind which all that follows would have to lie."""

    def part(name: str, begin: int, frames: int) -> Path:
        pts = [t + 12800 * begin for t in times(frames)]
        sound = [Sound(start=Fraction(begin))]
        return make_clip(tmp_path / name, pts=pts, sound=sound, sound_seconds=2 if frames else 0.1, sound_first=True)

    source = join([part("1.ts", 0, 50), part("2.ts", 30, 0), part("3.ts", 2, 50)], tmp_path / "in.ts")
    with pytest.raises(AuditError, match=r"sound stream 0 ends at 30\.\d+ s instead of 4"):
        gtasr_video.upscale(source, tmp_path / "out.mp4", model="bicubic", scale=2)
    assert not (tmp_path / "out.mp4").exists()
