"""Live pipelines as a user runs them: between real programs and a real server, on this machine alone."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import imageio_ffmpeg
import pytest

from tests.clips import Sound, make_clip
from tests.media.streams.peers import Publisher, free_port, is_listening, nginx
from tests.test_layers import ROOT

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
SECRET = "s3cret"
BICUBIC = ("--set", "model=bicubic", "--set", "scale=2")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Five seconds with sound, a key frame every second."""
    return make_clip(tmp_path / "in.mp4", frames=125, size=(64, 48), sound=(Sound("aac", "eng"),), gop=25)


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "FFMPEG": FFMPEG} | more


def streams(path: Path) -> tuple[int, tuple[int, int], int]:
    """Return frames, picture size and packets of sound of a file."""
    with av.open(str(path)) as container:
        frames = [(frame.width, frame.height) for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        sound = sum(1 for packet in container.demux(audio=0) if packet.size)
    return len(frames), frames[0], sound


def test_ffmpeg_pipe(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    program = shlex.join([sys.executable, "-m", "gtasr_video"])
    command = [
        "bash",
        "pipelines/ffmpeg_pipe.sh",
        clip,
        out,
        "--model",
        "bicubic",
        "--scale",
        "2",
        "--progress",
        "none",
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(GTASR_VIDEO=program),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    frames, size, sound = streams(out)
    assert (frames, size) == (125, (128, 96))
    assert sound == streams(clip)[2]


def test_ffmpeg_pipe_says_how_it_is_called_and_fails_where_a_part_of_it_does(tmp_path: Path) -> None:
    told = subprocess.run(["bash", "pipelines/ffmpeg_pipe.sh"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert "INPUT OUTPUT" in told.stderr
    program = shlex.join([sys.executable, "-m", "gtasr_video"])
    failed = subprocess.run(
        ["bash", "pipelines/ffmpeg_pipe.sh", tmp_path / "none.mp4", tmp_path / "out.mkv"],
        cwd=ROOT,
        env=environment(GTASR_VIDEO=program),
        capture_output=True,
        text=True,
        check=False,
    )
    assert failed.returncode != 0
    assert "none.mp4" in failed.stderr
    assert "Traceback" not in failed.stderr


class Recipe:
    """A running pipeline; what it says on standard error is kept."""

    def __init__(self, name: str, *words: object, **more: str) -> None:
        command = [sys.executable, f"pipelines/{name}.py", *map(str, words)]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""

    def wait_for(self, text: str) -> None:
        """Read what it says until `text` comes."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if text in line:
                return
        raise AssertionError(f"it never said '{text}' but {self.said}")

    def end(self, number: signal.Signals | None = None) -> int:
        """Return its exit code, after `number` if one is to be sent."""
        if number is not None:
            self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=60)
        self.said += said
        return self.process.returncode

    def __enter__(self) -> Recipe:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert SECRET not in self.said


def publish(clip: Path, url: str) -> Publisher:
    """Send `clip` again and again at playback speed."""
    return Publisher(clip, url, "flv", options=("-stream_loop", "-1"))


def recorded(url: str, path: Path, relay: Recipe) -> tuple[int, tuple[int, int], int]:
    """Play two seconds of `url` as soon as `relay` has got there; return what came, as `streams` does."""
    command = [FFMPEG, "-v", "error", "-nostdin", "-i", url, "-t", "2", "-c", "copy", "-y", str(path)]
    while subprocess.run(command, stderr=subprocess.DEVNULL, timeout=60, check=False).returncode:
        assert relay.process.poll() is None, relay.end()
    return streams(path)


def test_rtmp_to_rtmp(clip: Path, tmp_path: Path) -> None:
    with nginx(tmp_path / "nginx") as server, publish(clip, f"{server.url}/{SECRET}"):
        out, other = f"{server.url}/large{SECRET}", tmp_path / "other.m3u8"
        words = (f"{server.url}/{SECRET}", out, "--latency", "5s", "--also", other, *BICUBIC)
        with Recipe("rtmp_to_rtmp", *words) as relay:
            relay.wait_for('"frame": ')
            frames, size, sound = recorded(out, tmp_path / "out.mkv", relay)
            assert relay.end(signal.SIGTERM) == 0, relay.said
    assert size == (128, 96)
    assert frames >= 10  # fewer than came, where the machine is busy
    assert sound >= 40
    assert streams(other)[1] == (128, 96)


def test_rtmp_to_hls(clip: Path, tmp_path: Path) -> None:
    index = tmp_path / "site" / "index.m3u8"
    with nginx(tmp_path / "nginx") as server, publish(clip, f"{server.url}/{SECRET}"):
        words = (f"{server.url}/{SECRET}", index, "--segments", "0", *BICUBIC, "--set", "live.latency=5s")
        with Recipe("rtmp_to_hls", *words) as recipe:
            while not index.exists():
                assert recipe.process.poll() is None, recipe.end()
                time.sleep(0.05)
            assert recipe.end(signal.SIGTERM) == 0, recipe.said
    assert "#EXT-X-ENDLIST" in index.read_text()
    frames, size, sound = streams(index)
    assert size == (128, 96)
    assert frames >= 10  # fewer than came, where the machine is busy
    assert sound >= 40


def test_camera_to_file(clip: Path, tmp_path: Path) -> None:
    """A camera that speaks MPEG-TS over TCP; it goes on, and the recording ends by itself."""
    out, port = tmp_path / "out.mkv", free_port()
    address = f"tcp://127.0.0.1:{port}"
    with Publisher(clip, f"{address}?listen=1", "mpegts", times=9, options=("-stream_loop", "-1")):
        while not is_listening(port):
            pass
        with Recipe("camera_to_file", address, out, "--seconds", "2", *BICUBIC, "--set", "live.latency=5s") as recipe:
            assert recipe.end() == 0, recipe.said
    assert "the camera was away for" in recipe.said
    frames, size, sound = streams(out)
    assert size == (128, 96)
    assert 20 <= frames <= 50
    assert sound > 80


def test_obs_publish(clip: Path, tmp_path: Path) -> None:
    out, port = tmp_path / "out.mkv", free_port()
    words = (out, "--port", port, "--once", *BICUBIC, "--set", "live.latency=5s")
    with Recipe("obs_publish", *words, STREAM_KEY=SECRET) as recipe:
        recipe.wait_for("in OBS: Server rtmp://127.0.0.1:")
        with Publisher(clip, f"rtmp://127.0.0.1:{port}/live/{SECRET}", "flv"):
            assert recipe.end() == 0, recipe.said
    frames, size, sound = streams(out)
    assert size == (128, 96)
    assert frames >= 50
    assert sound >= 150
