"""The command as an operator runs it: a live source at playback speed, figures on the way, and SIGTERM."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import ffmpeg
import imageio_ffmpeg
import pytest

from tests.conftest import Outcome
from tests.test_layers import ROOT

Cli = Callable[..., Outcome]


def camera(rate: int = 25) -> subprocess.Popen[bytes]:
    """Return a program that writes moving pictures and a tone as NUT, at playback speed and without end."""
    picture = ffmpeg.input(f"testsrc2=size=64x48:rate={rate}", f="lavfi", re=None)
    tone = ffmpeg.input("sine=frequency=440", f="lavfi", re=None)
    made = ffmpeg.output(picture, tone, "pipe:", format="nut", vcodec="rawvideo", acodec="pcm_s16le", pix_fmt="yuv420p")
    return made.run_async(cmd=imageio_ffmpeg.get_ffmpeg_exe(), pipe_stdout=True, quiet=True)  # type: ignore[no-any-return]


@contextmanager
def recorder(out: Path, *more: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Record a camera into `out` until it is killed or told to end."""
    command = [sys.executable, "-m", "gtasr_video", "upscale", "-", out, "--model", "bicubic", "--scale", "2"]
    command += ["--progress", "json", *more]
    with camera() as source:
        try:
            with subprocess.Popen(command, stdin=source.stdout, stderr=subprocess.PIPE, cwd=ROOT, text=True) as process:
                yield process
        finally:
            source.kill()


def test_sigterm_finishes_a_recording_and_the_figures_were_there_all_along(tmp_path: Path) -> None:
    out, report = tmp_path / "out.mkv", tmp_path / "report.json"
    with recorder(out, "-v", "--latency", "2s", "--metrics", ":0", "--report", report) as process:
        said, line = watch(process)
        served = urllib.request.urlopen(said["metrics"], timeout=20).read().decode()
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        rest = process.stderr.read()
        assert process.wait(60) == 0, rest
    assert "bicubic" in said["latency"]
    assert line["tier"] == "bicubic"
    assert line["latency_p95_ms"] > 0
    assert "gtasr_video_frames_out_total" in served
    facts = json.loads(report.read_text())
    assert facts["frames_in"] == facts["frames_out"] + facts["frames_dropped"]
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == facts["frames_out"] > 0
        assert len(container.streams.audio) == 1


def watch(process: subprocess.Popen[str]) -> tuple[dict[str, str], dict[str, object]]:
    """Return what was said, by subject, until the first figures of frames that went out, and these."""
    said: dict[str, str] = {}
    assert process.stderr is not None
    for text in process.stderr:
        if text.startswith("{") and (line := json.loads(text))["frame"] > 0:
            return said, line
        _, subject, *rest = text.strip().split(": ", 2)
        said[subject] = rest[0] if rest else ""
    raise AssertionError(f"it ended early: {said}")


def frames_of(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_recording_that_was_killed_outlives_the_next(tmp_path: Path) -> None:
    """As a supervisor does it: the same command again."""
    out, part, kept = (tmp_path / f"out{name}.ts" for name in ("", ".part", ".part-1"))
    with recorder(out) as process:
        assert process.stderr is not None
        # A second's figures a line: until some of them are on the disk.
        assert any(part.exists() and part.stat().st_size > 20_000 for _ in process.stderr)
        process.kill()
    data = part.read_bytes()
    with recorder(out) as process:
        assert process.stderr is not None
        said, _ = watch(process)
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(60) == 0, rest
    assert said["warning"].startswith(
        f"{part} was left by a run that was killed, or is yours: it is now {kept}; it plays"
    )
    assert kept.read_bytes() == data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.part-1.ts", "out.ts"]
    assert frames_of(out) > 0
    # The way out that it names.
    whole = tmp_path / "whole.ts"
    again = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", kept, "-map", "0", "-c", "copy", whole]
    subprocess.run(again, check=True)
    assert frames_of(whole) == frames_of(kept) > 0


@pytest.mark.parametrize("option", [("--latency", "1s"), ("--late", "drop"), ("--metrics", ":0")])
def test_options_for_streams_are_refused_for_files(
    option: tuple[str, str], cli: Cli, small_clip: Path, tmp_path: Path
) -> None:
    done = cli("upscale", small_clip, tmp_path / "out.mp4", *option)
    assert done.code == 2
    assert done.err == f"gtasr-video: error: {option[0]} is for streams; files wait until they are done\n"
    assert list(tmp_path.iterdir()) == []


def test_settings_reach_the_run_by_name_too(cli: Cli, small_clip: Path, tmp_path: Path) -> None:
    done = cli("upscale", "-", tmp_path / "out.mkv", "--set", "live.latency=soon")
    assert done.code == 2
    assert "--latency 'soon' is not a time such as 500ms" in done.err
    assert cli("upscale", small_clip, tmp_path / "out.mp4", "--set", "live.late=never").code == 2
