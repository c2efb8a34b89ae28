"""However a job ends, the same command goes on, and the result is the one it would have been."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
import torch

import gtasr_video
from gtasr_video.errors import InputError, OutputError, UsageError, describe
from gtasr_video.frames import Frame
from gtasr_video.media import Encoding, Reader
from gtasr_video.media.picture import PictureEncoder
from gtasr_video.models.cascade import Cascade
from gtasr_video.models.facts import VideoModel
from gtasr_video.runtime import job as jobs
from gtasr_video.runtime.job import NOTICE, memory, records
from gtasr_video.runtime.job import journal as journals
from tests.clips import add_words, join, make_clip, see_through, sound_of
from tests.media.test_streams import texts
from tests.models.networks import tiny
from tests.runtime.job.jobs import Echo, Ended, do, ends_at, film, folder_of, pictures


def network() -> VideoModel:
    """A network with every kind of memory, noise too."""
    torch.manual_seed(3)
    return tiny(noise_scale=0.1).eval()


def cascade() -> VideoModel:
    return Cascade(network(), Echo(2))


@pytest.mark.parametrize("make", [Echo, network, cascade], ids=lambda make: make.__name__)
def test_the_same_bytes_as_without_the_end(make: Callable[[], VideoModel], tmp_path: Path) -> None:
    source = film(tmp_path / "in.mp4", 48, size=(32, 32))
    whole, resumed = tmp_path / "whole.mp4", tmp_path / "resumed.mp4"
    assert do(source, whole, make()).frames_resumed == 0
    with pytest.raises(Ended):
        do(source, resumed, make(), before_step=ends_at(40))
    assert not resumed.exists()
    report = do(source, resumed, make())
    assert report.frames_resumed >= 16
    assert (report.frames_in, report.frames_out) == (48, 48)
    assert resumed.read_bytes() == whole.read_bytes()
    assert not folder_of(resumed).exists()


def test_a_network_that_forgot_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: without its memory the network makes other pictures."""
    source = film(tmp_path / "in.mp4")
    whole, resumed = tmp_path / "whole.mp4", tmp_path / "resumed.mp4"
    do(source, whole)
    with pytest.raises(Ended):
        do(source, resumed, before_step=ends_at(70))
    (state,) = folder_of(resumed).glob("part-0/*.state")
    changed = memory.load_state(state)
    assert changed is not None
    forgot = changed._replace(frame=torch.zeros_like(changed.frame))
    monkeypatch.setattr(records, "load_state", lambda _: forgot)
    do(source, resumed)
    assert resumed.read_bytes() != whole.read_bytes()


SOURCES: dict[str, dict[str, Any]] = {
    "open.mkv": {"codec": "libx265", "gop": 10},
    "key.mkv": {"codec": "ffv1", "gop": 1, "bframes": 0},
    "long.mp4": {"gop": 250},
    "old.avi": {"codec": "mpeg4", "pts": list(range(90)), "time_base": Fraction(1, 25)},
    "late.mp4": {"pts": [40_000 + 3600 * n for n in range(90)]},
    "tele.ts": {"codec": "mpeg2video", "pts": [3600 * n for n in range(90)]},
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("window", [{}, {"start": Fraction(1, 2), "frames": 60}], ids=["whole", "cut"])
def test_whatever_the_source(name: str, window: dict[str, Any], tmp_path: Path) -> None:
    source = film(tmp_path / name, **{"sound": (), **SOURCES[name]})
    whole, resumed = tmp_path / "whole.mkv", tmp_path / "resumed.mkv"
    do(source, whole, **window)
    for number in (40, 20):
        with pytest.raises(Ended):
            do(source, resumed, before_step=ends_at(number), **window)
    assert do(source, resumed, **window).frames_resumed >= 20
    assert resumed.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("number", [40, 80, None], ids=["before the joint", "behind it", "when all is made"])
def test_a_clock_that_starts_again(number: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halves = [film(tmp_path / f"{n}.ts", 45, first_number=45 * n) for n in range(2)]
    source = join(halves, tmp_path / "in.ts")
    whole, resumed = tmp_path / "whole.mp4", tmp_path / "resumed.mp4"
    do(source, whole)
    with monkeypatch.context() as patch, pytest.raises(Ended):
        if number is None:
            patch.setattr("gtasr_video.runtime.job.join", ends)
        do(source, resumed, before_step=None if number is None else ends_at(number))
    report = do(source, resumed)
    assert report.frames_resumed > (10 if number == 40 else 48)
    assert report.input["clock_restarts"] == (0 if number is None else 1)
    assert resumed.read_bytes() == whole.read_bytes()
    assert abs(sound_of(whole)[0][-1][0] - pictures(whole)[-1][0]) < Fraction(1, 10)


def ends(*_: Any) -> None:
    raise Ended


def test_ended_again_and_again(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mp4", 120)
    whole, resumed = tmp_path / "whole.mp4", tmp_path / "resumed.mp4"
    do(source, whole)
    before = 0
    for _ in range(30):
        try:
            report = do(source, resumed, before_step=ends_at(41, KeyboardInterrupt()))
            break
        except KeyboardInterrupt:
            done = sum(len(records.Done.read(p).segment.packets) for p in folder_of(resumed).glob("part-0/*.json"))
            assert done > before
            before = done
    assert report.frames_resumed == before
    assert resumed.read_bytes() == whole.read_bytes()


def test_it_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("gtasr_video"), "propagate", True)
    caplog.set_level(NOTICE, "gtasr_video")
    source, out = film(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    with pytest.raises(Ended) as caught:
        do(source, out, before_step=ends_at(60))
    (kept,) = [note for note in caught.value.__notes__ if "kept" in note]
    assert kept.endswith(f"frames are kept in {folder_of(out)}; the same command goes on from there")
    frames = int(kept.split()[0])
    assert do(source, out).frames_resumed == frames
    assert f"{out}: going on after {frames} frames that are done" in caplog.text


def test_a_name_does_not_pass_for_advice_to_begin_anew(tmp_path: Path) -> None:
    out = tmp_path / "out --restart.mp4"
    with pytest.raises(OutputError) as caught:
        do(film(tmp_path / "in.mp4"), out, before_step=ends_at(60, OutputError(f"{out}: cannot be written")))
    assert "frames are kept in" in describe(caught.value)


def test_damage_met_before_the_end_is_told_by_who_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("gtasr_video").propagate = True
    source = film(tmp_path / "in.mkv", codec="ffv1", sound=())
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        places = [(packet.pos, bytes(packet)) for packet in (packets[4], packets[80])]
    data = bytearray(source.read_bytes())
    for near, payload in places:
        data[data.index(payload, near) + len(payload) // 2] ^= 0xFF
    source.write_bytes(data)
    whole = do(source, tmp_path / "whole.mp4")
    assert whole.corrupt_packets == whole.input["corrupt_packets"] == 2
    with pytest.raises(Ended):
        do(source, tmp_path / "out.mp4", before_step=ends_at(70))
    caplog.clear()
    report = do(source, tmp_path / "out.mp4")
    assert report.corrupt_packets == report.input["corrupt_packets"] == 2
    assert "2 damaged packets" in caplog.text


def test_what_ends_before_the_first_segment_leaves_nothing(tmp_path: Path) -> None:
    source, out = film(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    with pytest.raises(Ended):
        do(source, out, before_step=ends_at(3))
    assert list(tmp_path.iterdir()) == [source]


def unfinished(tmp_path: Path) -> tuple[Path, Path]:
    source, out = film(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    with pytest.raises(Ended):
        do(source, out, before_step=ends_at(70))
    return source, out


def test_other_settings_are_refused_with_the_reason(tmp_path: Path) -> None:
    source, out = unfinished(tmp_path)
    with pytest.raises(UsageError, match=r"begun with crf 30, not 31; .* --restart"):
        do(source, out, encoding=Encoding(preset="ultrafast", crf=31))
    with pytest.raises(UsageError, match="begun with window"):
        do(source, out, start=Fraction(1))
    with pytest.raises(UsageError, match="begun with scale 1, not 2"):
        do(source, out, Echo(2))
    assert do(source, out).frames_resumed > 0


def test_another_source_is_refused(tmp_path: Path) -> None:
    source, out = unfinished(tmp_path)
    film(source, 91)
    with pytest.raises(InputError, match="another source, or the source has changed; --restart"):
        do(source, out)
    assert do(source, out, restart=True).frames_resumed == 0
    assert not folder_of(out).exists()


def test_a_source_that_may_be_touched_and_moved(tmp_path: Path) -> None:
    source, out = unfinished(tmp_path)
    moved = source.rename(tmp_path / "moved.mp4")
    os.utime(moved, (1, 1))
    assert do(moved, out).frames_resumed > 0


def test_a_source_that_goes_away_while_it_is_read(tmp_path: Path) -> None:
    """As a share does that drops out: reading ends early, which must not pass for the end of the film."""
    source = film(tmp_path / "in.mkv", 200, size=(160, 120), codec="ffv1", bframes=0, sound=())
    whole, out = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    do(source, whole)
    data = source.read_bytes()

    def goes_away(number: int, _: Frame) -> None:
        if number == 60:
            os.truncate(source, len(data) * 2 // 3)

    with pytest.raises(InputError, match=r"in\.mkv changed while it was read") as caught:
        do(source, out, before_step=goes_away)
    assert "frames are kept" in describe(caught.value)
    assert not out.exists()
    source.unlink()
    with pytest.raises(InputError, match="no such file"):
        do(source, out)
    source.write_bytes(data)
    assert do(source, out).frames_resumed >= 48
    assert out.read_bytes() == whole.read_bytes()


def test_an_encoder_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out, whole = film(tmp_path / "in.mp4"), tmp_path / "out.mp4", tmp_path / "whole.mp4"
    do(source, whole)
    encode, numbers = PictureEncoder.encode, iter(range(1000))

    def dies(self: PictureEncoder, frame: Frame, pts: int) -> Any:
        if next(numbers) == 60:
            raise av.ExternalError(-542398533, "Generic error in an external library")
        return encode(self, frame, pts)

    with monkeypatch.context() as patch:
        patch.setattr(PictureEncoder, "encode", dies)
        with pytest.raises(OutputError, match=r"out\.mp4: writing failed \(Generic error"):
            do(source, out)
    assert do(source, out).frames_resumed > 0
    assert out.read_bytes() == whole.read_bytes()


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def _swap(one: Path, other: Path) -> None:
    """Give two segments each other's place."""
    for a, b in ((one, other), (one.with_suffix(".packets"), other.with_suffix(".packets"))):
        aside = a.rename(a.with_name("aside"))
        b.rename(a)
        aside.rename(b)


@pytest.mark.parametrize(
    ("what", "spoil"),
    [
        ("*1.packets", damage),
        ("*1.packets", Path.unlink),
        ("*1.json", lambda path: path.write_text('{"packets": [[1]]}')),
        ("*1.json", Path.unlink),
        ("*.state", Path.unlink),
        ("*.state", lambda path: path.write_bytes(b"")),
        ("*.state", damage),
        ("*1.json", lambda path: path.write_text(path.read_text().replace('"before": 12', '"before": 13'))),
        ("*1.json", lambda path: path.write_text(path.read_text().replace(", true, 0], [", ", false, 0], ["))),
        ("*1.json", lambda path: _swap(path, path.with_name("000000.json"))),
        ("../job.json", lambda path: path.write_text("{")),
        ("../job.json", lambda path: path.write_text(path.read_text().replace('"warm_up": 0', '"warm_up": 7'))),
    ],
    ids=(
        "packets damaged",
        "no packets",
        "other packets",
        "no list",
        "no state",
        "empty state",
        "state damaged",
        "other count",
        "other pictures",
        "two swapped",
        "half a job",
        "other job",
    ),
)
def test_a_spoiled_journal_costs_time_but_not_the_result(
    what: str, spoil: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("gtasr_video").propagate = True
    source, out = unfinished(tmp_path)
    do(source, tmp_path / "whole.mp4")
    (spoiled,) = (folder_of(out) / "part-0").glob(what)
    spoil(spoiled)
    do(source, out)
    assert "damaged" in caplog.text or what == "*1.json"
    assert out.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_what_ends_while_joining_only_joins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = film(tmp_path / "in.mp4"), tmp_path / "out.mp4"

    def ends(*_: object) -> None:
        raise Ended

    with monkeypatch.context() as patch:
        patch.setattr("gtasr_video.runtime.job.join", ends)
        with pytest.raises(Ended):
            do(source, out)
    report = do(source, out, before_step=ends_at(0, AssertionError("a frame was enlarged again")))
    assert report.frames_resumed == report.frames_out == 90
    do(source, tmp_path / "whole.mp4")
    assert out.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


@pytest.mark.parametrize("joined_later", [False, True])
def test_counted_frames_of_a_variable_rate_keep_their_texts(
    joined_later: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifteen frames last 3 s, not the 0.6 s of the mean rate; who only joins has not read one of them."""
    slow = [200 * n for n in range(20)] + [4000 + 20 * n for n in range(30)]
    plain = make_clip(tmp_path / "plain.mkv", pts=slow, time_base=Fraction(1, 1000), bframes=0)
    source = add_words(plain, tmp_path / "in.mkv", [(0.5, 0.5, "one"), (2.0, 5.0, "two"), (3.5, 0.5, "three")])
    out = tmp_path / "out.mkv"
    options: dict[str, Any] = {"model": "bicubic", "scale": 2, "device": "cpu", "frames": 15}
    if joined_later:
        with monkeypatch.context() as patch, pytest.raises(Ended):
            patch.setattr(jobs, "join", ends)
            gtasr_video.upscale(source, out, **options)
    gtasr_video.upscale(source, out, **options)
    assert [(float(begin), float(length)) for begin, length, _ in texts(out)] == [(0.5, 0.5), (2.0, 1.0)]


def test_what_a_kill_while_joining_left_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, out = unfinished(tmp_path)
    logging.getLogger("gtasr_video").propagate = True
    (folder_of(out) / "out.part.mp4").write_bytes(b"half of it")
    do(source, out)
    do(source, tmp_path / "whole.mp4")
    assert out.read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4", "whole.mp4"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_output_is_made_where_nobody_elses_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: while it is joined, the output does lie there."""
    source, out = film(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    joined, seen = jobs.join, []

    def looks(segments: Any, writer: Any) -> None:
        joined(segments, writer)
        seen.extend(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.part.*"))

    monkeypatch.setattr(jobs, "join", looks)
    do(source, out)
    assert seen == ["out.mp4.job/out.part.mp4"]


def test_two_at_once_do_not_mix(tmp_path: Path) -> None:
    source, out = film(tmp_path / "in.mp4"), tmp_path / "out.mp4"

    def second(number: int, _: Frame) -> None:
        if number == 50:
            with pytest.raises(OutputError, match=r"out\.mp4 is being made by another process"):
                do(source, out)

    assert do(source, out, before_step=second).frames_out == 90


def test_workers_of_a_run_that_was_killed_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They end later than who led them, and still finish a segment meanwhile."""
    source, out = unfinished(tmp_path)
    part = folder_of(out) / "part-0"
    held = [records.take_lock(part, out)]
    before = sorted(part.iterdir())
    monkeypatch.setattr(journals, "_WORKERS_END_S", 0.0)
    for restart in (False, True):
        with pytest.raises(OutputError, match="is being made by another process"):
            do(source, out, restart=restart)
    assert sorted(part.iterdir()) == before
    monkeypatch.setattr(journals, "_WORKERS_END_S", 60.0)
    monkeypatch.setattr(journals.time, "sleep", lambda _: os.close(held.pop()) if held else None)
    assert do(source, out).frames_resumed > 0


def test_the_journal_is_small_and_says_what_it_is(tmp_path: Path) -> None:
    _, out = unfinished(tmp_path)
    folder = folder_of(out)
    known = json.loads((folder / "job.json").read_text())
    assert known["settings"]["encoder"] == "libx264"
    assert len(list(folder.glob("part-0/*.state"))) == 1
    assert not list(folder.rglob("*.part"))


def test_what_ends_after_the_output_has_its_name_is_tidied_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = film(tmp_path / "in.mp4"), tmp_path / "out.mp4"

    def ends(_: object) -> None:
        raise Ended

    with monkeypatch.context() as patch:
        patch.setattr(journals.Journal, "remove", ends)
        with pytest.raises(Ended):
            do(source, out)
    assert folder_of(out).exists()
    assert out.exists()
    with pytest.raises(OutputError, match="exists; use -y"):
        do(source, out)
    assert not folder_of(out).exists()


def test_transparency_beside_the_packets_goes_on_too(tmp_path: Path) -> None:
    source = see_through(tmp_path / "in.mkv", "ffv1", "yuva420p", 40)
    whole, resumed = tmp_path / "whole.webm", tmp_path / "resumed.webm"
    options: dict[str, Any] = {"encoding": Encoding(codec="vp9", preset="8")}
    do(source, whole, **options)
    with pytest.raises(Ended):
        do(source, resumed, before_step=ends_at(36), **options)
    report = do(source, resumed, **options)
    assert report.frames_resumed > 0
    assert report.audit["passed"]
    assert resumed.read_bytes() == whole.read_bytes()
    with Reader(source) as before, Reader(resumed) as after:
        for one, other in zip(before, after, strict=True):
            assert (one.planes[3].float() - other.planes[3].float()).abs().mean() < 12
            assert other.planes[3].float().std() > 40
