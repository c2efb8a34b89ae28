"""Streams by the one-call door: what is asked for is done, or refused in one line before anything is opened."""

from __future__ import annotations

import itertools
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import gtasr_video
from gtasr_video.errors import OutputError, UsageError
from gtasr_video.media import Reader
from gtasr_video.media.streams import receivers, send_queue
from gtasr_video.media.streams.child import Child
from gtasr_video.media.streams.config import StreamConfig
from gtasr_video.runtime.live.config import LiveConfig
from tests import fakes
from tests.clips import frame_number, make_clip
from tests.fakes import Nearest
from tests.media.streams.web_film import WebFilm, served
from tests.runtime.test_pictures import two_pictures


def upscale(source: Path | str, output: Path | str, **options: Any) -> Any:
    return gtasr_video.upscale(source, output, model=Nearest(2), device="cpu", **options)


def test_one_of_several_pictures_is_chosen_from_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = two_pictures(tmp_path)
    with source.open() as pipe:
        monkeypatch.setattr(sys, "stdin", pipe)
        report = upscale("-", tmp_path / "out.mkv", video_stream=1)
    with Reader(tmp_path / "out.mkv") as reader:
        assert [frame_number(frame.planes[0]) for frame in reader] == [100, 101, 102]
    assert [(s["index"], s["action"]) for s in report.output["streams"]] == [(0, "left out")]


def test_one_of_several_pictures_is_chosen_for_a_list(tmp_path: Path) -> None:
    source = two_pictures(tmp_path)
    upscale(source, tmp_path / "out.m3u8", video_stream=1)
    with Reader(tmp_path / "out-00000.ts") as reader:
        assert [frame_number(frame.planes[0]) for frame in reader] == [100, 101, 102]
    with pytest.raises(UsageError, match="has no video stream 2; its video streams are 0"):
        upscale(source, tmp_path / "more.m3u8", video_stream=2)


def test_a_list_gets_every_picture_however_fast_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file can wait for the program that writes the list, which is far behind before it has begun."""

    def slow(*arguments: Any, **options: Any) -> Child:
        time.sleep(0.5)
        return Child(*arguments, **options)

    monkeypatch.setattr(send_queue, "MOST_SECONDS", 0.2)
    monkeypatch.setattr(receivers, "Child", slow)
    source = make_clip(tmp_path / "in.mp4", frames=75)
    report = upscale(source, tmp_path / "out.m3u8")
    assert report.output["outputs"][0]["dropped"] == 0
    with Reader(tmp_path / "out-00000.ts") as first, Reader(tmp_path / "out-00001.ts") as second:
        assert [frame_number(frame.planes[0]) for frame in itertools.chain(first, second)] == list(range(75))


def test_a_file_is_sent_at_playback_speed_beside_a_list_too(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        config = gtasr_video.UpscaleConfig(stream=StreamConfig(also=(f"udp://127.0.0.1:{receiver.getsockname()[1]}",)))
        report = upscale(fakes.clip(tmp_path / "in.mp4", 26), tmp_path / "out.m3u8", config=config)
    assert report.seconds >= 1.0


@pytest.mark.parametrize("target", ["out.mp4", "-", "out.png"])
def test_what_has_no_others_beside_it_is_refused(target: str, tmp_path: Path) -> None:
    """Also where a configuration names them: they would not be sent to."""
    config = gtasr_video.UpscaleConfig(stream=StreamConfig(also=("rtmp://h/app/key",)))
    with pytest.raises(UsageError, match="can have others beside it"):
        upscale("none.mp4", target if target == "-" else tmp_path / target, config=config)


def test_others_that_cannot_be_sent_to_are_refused_before_anything_is_opened(tmp_path: Path) -> None:
    config = gtasr_video.UpscaleConfig(stream=StreamConfig(also=("https://h/list",)))
    with pytest.raises(UsageError, match="nothing can be sent to https:// addresses"):
        upscale("none.mp4", tmp_path / "out.m3u8", config=config)


@pytest.mark.parametrize("target", ["out.m3u8", "out.png", "-"])
def test_what_only_jobs_of_files_do_is_refused(target: str, tmp_path: Path) -> None:
    output = target if target == "-" else tmp_path / target
    with pytest.raises(UsageError, match="--workers is for video files, not for"):
        upscale("none.mp4", output, workers=2)
    with pytest.raises(UsageError, match="--wait-for-space is for video files, not for"):
        upscale("none.mp4", output, wait_for_space=True)


@pytest.mark.parametrize("option", ["crf", "preset"])
def test_raw_pictures_take_nothing_for_an_encoder(
    option: str, small_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = {"crf": 20, "preset": "fast"}[option]
    raw = StreamConfig(output_format="y4m")
    with (tmp_path / "out").open("wb") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(UsageError, match=f"raw, without --{option}; leave it out, or give --codec"):
            upscale(small_clip, "-", config=gtasr_video.UpscaleConfig(stream=raw), **{option: value})
    assert not (tmp_path / "out").stat().st_size
    # A configuration says it for whatever the output may be.
    with (tmp_path / "out").open("wb") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        report = upscale(small_clip, "-", config=gtasr_video.UpscaleConfig(stream=raw, **{option: value}))
    assert report.output["codec"] == "rawvideo"


def test_of_an_address_no_picture_can_be_chosen(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--video-stream is for files and pipes"):
        upscale("tcp://127.0.0.1:1", tmp_path / "out.mkv", video_stream=0)


@pytest.mark.parametrize("wrong", [{"codec": "vp9"}, {"crf": 99}, {"video_stream": 7}])
def test_a_run_that_is_refused_leaves_the_old_list(wrong: dict[str, Any], small_clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "live.m3u8"
    upscale(small_clip, target)
    before = {path: path.read_bytes() for path in target.parent.iterdir()}
    with pytest.raises(UsageError):
        upscale(small_clip, target, overwrite=True, **wrong)
    assert {path: path.read_bytes() for path in target.parent.iterdir()} == before


def test_what_is_taken_is_told_before_a_publisher_is_waited_for(tmp_path: Path) -> None:
    """Neither a place for figures nor a list that exists needs a stream to be known."""
    source = "tcp://127.0.0.1:1?listen=1"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        live = LiveConfig(metrics=f":{taken.getsockname()[1]}")
        with pytest.raises(UsageError, match=r"--metrics :\d+: cannot listen there"):
            upscale(source, tmp_path / "out.m3u8", config=gtasr_video.UpscaleConfig(live=live))
    (tmp_path / "out.m3u8").touch()
    with pytest.raises(OutputError, match=r"out.m3u8 exists; use -y"):
        upscale(source, tmp_path / "out.m3u8")


def test_a_film_over_http_waits_and_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = fakes.clip(tmp_path / "in.mkv", 150)
    with served(WebFilm(source.read_bytes())) as film:
        report = upscale(film.url, tmp_path / "out.mkv")
        assert (report.frames_in, report.frames_out, report.live["budget_ms"]) == (150, 150, None)
        # With a limit it comes at playback speed: at its own it would be lost for the most part.
        config = gtasr_video.UpscaleConfig(live=LiveConfig(latency="1s"))
        report = upscale(film.url, tmp_path / "live.mkv", config=config, duration=1)
        assert report.seconds > 0.8
        assert report.frames_dropped == 0
    assert "left out" not in caplog.text


def test_where_most_of_a_stream_is_left_out_the_way_out_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = fakes.clip(tmp_path / "in.mkv", 150)
    with served(WebFilm(source.read_bytes(), sized=False)) as film:
        config = gtasr_video.UpscaleConfig(live=LiveConfig(latency="1ms"))
        report = upscale(film.url, tmp_path / "out.mkv", config=config, frames=140)
    assert report.frames_dropped > 70
    assert f"{report.frames_dropped} of 140 frames were left out" in caplog.text
    assert "--latency none leaves out none, a cheaper --model fewer" in caplog.text
