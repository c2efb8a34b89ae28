"""Two processes on one file: joined without a seam, each resumable, and none outlives the job."""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
from dataclasses import asdict
from fractions import Fraction
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
import torch

import gtasr_video
from gtasr_video.api import UpscaleConfig, request
from gtasr_video.errors import DeviceError, InputError, UsageError, describe
from gtasr_video.media import Reader
from gtasr_video.runtime.job import workers
from gtasr_video.runtime.job.source import Cutting, Part, PartReader
from gtasr_video.runtime.job.workers import WARM_UP, split
from tests import fakes
from tests.clips import Sound, frame_number, join, make_clip, sound_of
from tests.runtime.job.jobs import film, folder_of, pictures

ROOT = Path(__file__).parents[3]
LONG = {"pts": [3600 * n for n in range(120)]}  # 4.8 s


def test_parts_cover_the_file_and_begin_at_key_pictures(tmp_path: Path) -> None:
    with Reader(film(tmp_path / "in.mp4", **LONG)) as reader:
        parts = split(reader, 2, Fraction(1))
    assert len(parts) == 4
    assert (parts[0].first, parts[-1].end) == (None, None)
    assert [part.end for part in parts[:-1]] == [part.first for part in parts[1:]]
    assert all(part.first is not None and part.first % (12 * 3600) == 0 for part in parts[1:])
    assert [part.warm_up for part in parts] == [0, WARM_UP, WARM_UP, WARM_UP]


@pytest.mark.parametrize(
    ("name", "how", "options", "reason"),
    [
        ("in.mp4", LONG, {"frames": 50}, "frames that are counted (--frames)"),
        (
            "in.avi",
            {"codec": "mpeg4", "pts": list(range(120)), "time_base": Fraction(1, 25), "sound": ()},
            {},
            "no times of their own",
        ),
        (
            "in.mpg",
            {"codec": "mpeg2video", "pts": list(range(250)), "time_base": Fraction(1, 25), "sound": ()},
            {},
            "no times of their own",
        ),
        ("one.mp4", {**LONG, "gop": 500}, {}, "no key picture"),
        ("short.mp4", {"frames": 10}, {}, "no shorter than 1 s"),
    ],
    ids=["counted", "without times", "with few times", "one group", "short"],
)
def test_what_cannot_be_split_is_told(
    name: str,
    how: dict[str, Any],
    options: dict[str, Any],
    reason: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    logging.getLogger("gtasr_video").propagate = True
    with Reader(film(tmp_path / name, **how), **options) as reader:
        assert split(reader, 1, Fraction(1)) == [Part()]
        assert not caplog.records
        assert split(reader, 4, Fraction(1)) == [Part()]
    assert f"{name}: one process does it instead of 4: " in caplog.text and reason in caplog.text


def test_a_part_is_warmed_up_and_ends_where_the_next_begins(tmp_path: Path) -> None:
    with Reader(film(tmp_path / "in.mp4", **LONG, size=(96, 64))) as reader:
        part = PartReader(reader, Part(48 * 3600, 72 * 3600, 5), None, Cutting())
        frames = list(part)
        numbers = [frame_number(frame.planes[0]) for frame in frames]
        assert numbers == list(range(43, 72))
        assert [frame.cut for frame in frames] == [True] + 28 * [False]
        assert sorted(part.boundaries) == [48 * 3600]
        assert frames[-1].duration == 3600


@pytest.fixture
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SHORTEST_S", Fraction(1))


OPTIONS: dict[str, Any] = {"scale": 2, "device": "cpu", "codec": "ffv1"}


@pytest.mark.usefixtures("short_parts")
def test_two_workers_make_what_one_makes(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mp4", **LONG, sound=[Sound()])
    one, two = tmp_path / "one.mkv", tmp_path / "two.mkv"
    gtasr_video.upscale(source, one, model="bicubic", **OPTIONS)
    report = gtasr_video.upscale(source, two, model="bicubic", workers=2, **OPTIONS)
    assert report.device == "cpu x2"
    assert report.audit["passed"]
    assert (report.frames_in, report.frames_out) == (120, 120)
    assert report.media_seconds == pytest.approx(4.8)
    assert report.limited_by and all(report.stages[name]["busy_s"] > 0 for name in ("decode", "compute", "encode"))
    # Without memory there is nothing to warm up: the very same pictures.
    assert pictures(one) == pictures(two)
    assert not folder_of(two).exists()


@pytest.mark.usefixtures("short_parts")
def test_a_network_that_remembers_differs_only_where_it_warms_up(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mp4", size=(48, 32), pts=[3600 * n for n in range(60)], sound=())
    one, two = tmp_path / "one.mkv", tmp_path / "two.mkv"
    options = {**OPTIONS, "config": UpscaleConfig(backend="torch")}
    gtasr_video.upscale(source, one, model="s", **options)
    report = gtasr_video.upscale(source, two, model="s", workers=2, **options)
    assert report.device == "cpu x2"
    with Reader(one) as a, Reader(two) as b:
        away = [float((x.planes[0].float() - y.planes[0].float()).abs().mean()) for x, y in zip(a, b, strict=True)]
    assert away[:24] == 24 * [0.0]
    assert max(away) < 1.5


@pytest.mark.usefixtures("short_parts")
def test_recordings_that_were_joined_are_made_whole(tmp_path: Path) -> None:
    """Their times overlap: what is sought by time alone may be found in either."""
    halves = [
        film(tmp_path / f"{n}.ts", pts=[3600 * t for t in range(90)], first_number=90 * n, sound=[Sound()])
        for n in range(2)
    ]
    source, one, two = join(halves, tmp_path / "in.ts"), tmp_path / "one.mkv", tmp_path / "two.mkv"
    gtasr_video.upscale(source, one, model="bicubic", **OPTIONS)
    report = gtasr_video.upscale(source, two, model="bicubic", workers=2, **OPTIONS)
    assert report.device == "cpu x2" and report.frames_out == 180
    assert pictures(one) == pictures(two)
    assert sound_of(one) == sound_of(two)
    assert len(sound_of(two)[0]) > 2 * 160 and sound_of(two)[0][-1][0] > Fraction(71, 10)


@pytest.mark.usefixtures("short_parts")
def test_what_workers_find_wrong_with_the_source_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("gtasr_video").propagate = True
    source = film(tmp_path / "in.mkv", **LONG, sound=(), codec="ffv1", gop=12)
    data = source.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) * 3 // 4])
    one = gtasr_video.upscale(cut, tmp_path / "one.mkv", model="bicubic", **OPTIONS)
    caplog.clear()
    two = gtasr_video.upscale(cut, tmp_path / "two.mkv", model="bicubic", workers=2, **OPTIONS)
    assert two.device == "cpu x2" and "is cut off or damaged: its picture ends at" in caplog.text
    differing = {"seconds", "fps", "device", "stages", "limited_by", "peak_rss_bytes", "output", "media_seconds"}
    a, b = ({k: v for k, v in asdict(report).items() if k not in differing} for report in (one, two))
    assert a == b
    assert two.media_seconds == pytest.approx(one.media_seconds)


@pytest.mark.usefixtures("short_parts")
def test_workers_go_on_where_they_were_killed(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mp4", **LONG, size=(160, 128), sound=())
    one, out = tmp_path / "one.mkv", tmp_path / "out.mkv"
    gtasr_video.upscale(source, one, model="bicubic", **OPTIONS)
    hire, killed = workers.hire, []

    def dies(work: Any, *arguments: Any, threads: int) -> Any:
        helper = hire(work, *arguments, threads=threads)
        if not killed:
            killed.append(helper.process.pid)
            os.kill(helper.process.pid, signal.SIGKILL)
        return helper

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request, "hire", dies)
        with pytest.raises(DeviceError, match="a worker process died"):
            gtasr_video.upscale(source, out, model="bicubic", workers=2, **OPTIONS)
    assert not out.exists()
    # The parts are those the job was begun with, also for one process.
    report = gtasr_video.upscale(source, out, model="bicubic", **OPTIONS)
    assert report.frames_out == 120
    made = 120 - report.frames_resumed
    assert report.fps * report.seconds == pytest.approx(made)
    assert report.media_seconds == pytest.approx(made / 25)
    assert pictures(out) == pictures(one)


@pytest.mark.usefixtures("short_parts")
def test_what_goes_wrong_in_a_worker_is_said_as_if_it_were_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = [[3600 * (t + 55 * n) for t in range(60)] for n in (0, 1)]
    halves = [film(tmp_path / f"{n}.ts", pts=pts, first_number=60 * n, sound=()) for n, pts in enumerate(late)]
    source = join(halves, tmp_path / "in.ts")  # which overlap a little
    with pytest.raises(InputError, match=r"times that must be repaired.*--workers 1 --restart") as caught:
        gtasr_video.upscale(source, tmp_path / "out.mp4", model="bicubic", workers=2, **{**OPTIONS, "codec": "h264"})
    assert "goes on" not in describe(caught.value), "which the same command does not"
    with pytest.raises(UsageError, match="by its name or file"):
        gtasr_video.upscale(source, tmp_path / "out.mp4", model=fakes.Nearest(2), workers=2)


def test_a_worker_whose_leader_is_gone_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nobody to say it to, and the terminal is for who comes next."""
    here, there = Pipe(duplex=False)
    here.close()
    monkeypatch.setattr(workers.signal, "signal", lambda *_: None)
    monkeypatch.setattr(workers, "_end_with_parent", lambda: None)

    def ends() -> None:
        raise KeyboardInterrupt

    workers._run(there, torch.get_num_threads(), ends, ())


def test_workers_end_with_the_one_that_leads(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=750, size=(160, 128))
    command = [sys.executable, "-m", "gtasr_video", "upscale", str(source), str(tmp_path / "out.mp4")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    more = ["--model", "bicubic", "--workers", "2", "--progress", "json"]
    process = subprocess.Popen([*command, *more], stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    process.stderr.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
    ends = [os.pidfd_open(int(child)) for child in children]
    assert len(ends) >= 2
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    for end in ends:
        assert select.select([end], [], [], 30)[0], "a worker is still there"
        os.close(end)
