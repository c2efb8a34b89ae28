"""What a file says and what it is called cannot make the program open, take or run anything else."""

from __future__ import annotations

import json
import os
import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gtasr_video.media import Reader
from tests import fakes
from tests.clips import frame_number, make_clip
from tests.conftest import Outcome
from tests.test_bad_input import frames_of, refused

Cli = Callable[..., Outcome]
MODEL = ("--model", "bicubic", "--scale", "2", "--progress", "none")
GIB = 2**30


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A video that nobody asked for."""
    return make_clip(tmp_path / "secret.ts", frames=5)


PLAYLISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{name}\n#EXT-X-ENDLIST\n",
    "list.ts": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{path}\n#EXT-X-ENDLIST\n",
    "list.mp4": "ffconcat version 1.0\nfile '{path}'\n",
    "list.mkv": '<?xml version="1.0"?><MPD><BaseURL>{path}</BaseURL></MPD>',
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "list.pls": "[playlist]\nFile1={path}\n",
    "list.txt": "file '{path}'\n",
    "list.bik": "\n\n  #EXTM3U\n{path}\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_playlist_does_not_lead_to_another_file(name: str, secret: Path, tmp_path: Path, cli: Cli) -> None:
    playlist, out = tmp_path / name, tmp_path / "out.mp4"
    playlist.write_text(PLAYLISTS[name].format(name=secret.name, path=secret))
    refused(cli("upscale", playlist, out, *MODEL), 1, str(playlist))
    assert not out.exists()


def test_a_movie_does_not_fetch_its_samples_from_another_file(secret: Path, tmp_path: Path) -> None:
    """QuickTime can say that the samples lie elsewhere, by an alias with a path."""
    clip = make_clip(tmp_path / "in.mov", frames=5)
    data = clip.read_bytes()
    at = data.index(b"dref") - 4
    path = str(secret).encode()
    alias = bytes(150) + struct.pack(">HH", 18, len(path)) + path + bytes(len(path) % 2) + struct.pack(">hH", -1, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    dref = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    old = struct.unpack(">I", data[at : at + 4])[0]
    changed = bytearray(data[:at] + dref + data[at + old :])
    for box in (b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        spot = changed.index(box) - 4
        size = struct.unpack(">I", changed[spot : spot + 4])[0]
        changed[spot : spot + 4] = struct.pack(">I", size + len(dref) - old)
    clip.write_bytes(changed)
    with Reader(clip) as reader:
        numbers = [frame_number(frame.planes[0]) for frame in reader]
    assert numbers == list(range(5))  # its own samples, at the offsets that it says


def patched(path: Path, mark: bytes, offset: int, value: bytes) -> Path:
    """Overwrite what lies `offset` bytes after the first `mark`."""
    data = bytearray(path.read_bytes())
    at = data.index(mark) + offset
    data[at : at + len(value)] = value
    path.write_bytes(data)
    return path


LIES = {
    "size": (b"avc1", 28, b"\xff\xff\xff\xff"),  # 65535 x 65535 pixels
    "frames": (b"stsz", 12, b"\x3b\x9a\xca\x00"),  # a billion of them
    "times": (b"stts", 12, b"\x3b\x9a\xca\x00"),
    "length": (b"mdhd", 20, b"\xff\xff\xff\xff"),
}


def test_headers_that_claim_too_much(tmp_path: Path) -> None:
    """Each ends in frames or in one line, within the memory that loading takes and some."""
    clips = [patched(make_clip(tmp_path / f"{name}.mp4"), *lie) for name, lie in LIES.items()]
    large = make_clip(tmp_path / "large.avi", codec="ffv1", bframes=0, frames=3)
    # FFV1 says in its container alone how large its pictures are: nothing within contradicts it.
    clips.append(patched(large, b"strf", 12, struct.pack("<II", 65535, 65535)))
    done = limited([["upscale", str(clip), f"{clip}.out.mp4", *MODEL] for clip in clips])
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) <= {0, 1}
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert all(line.startswith("gtasr-video: ") for line in lines), lines
    (refusal,) = [line for line in lines if "large.avi" in line]
    assert "beyond 268 million pixels" in refusal


def limited(commands: list[list[str]]) -> subprocess.CompletedProcess[str]:
    """Run the program with each of `commands`, in one process that may take only so much; print the exit codes."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (12 * GIB, 12 * GIB))
        resource.setrlimit(resource.RLIMIT_CPU, (100, 100))

    code = "import json, sys; from gtasr_video.cli import invoke; print([invoke(c) for c in json.loads(sys.argv[1])])"
    return subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        preexec_fn=limit,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


NAMES = [
    b"new\nline.mp4",
    b"quo'te\".mp4",
    b"-y.mp4",
    b"--help.mp4",
    b"\xff\xfe.mp4",
    b"a:b?c*[d].mp4",
    b"%d %s.mp4",
    b" .mp4",
]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_whatever_a_file_is_called(name: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.chdir(tmp_path)
    odd = Path(os.fsdecode(name))
    os.rename(fakes.clip(tmp_path / "in.mp4", 2), odd)  # noqa: PTH104
    out = Path("out") / odd
    out.parent.mkdir()
    done = cli("upscale", *MODEL, "--report", "report.json", "--", odd, out)
    assert done.code == 0, done.err
    assert frames_of(out.absolute()) == 2
    done = cli("upscale", *MODEL, "--", odd, out)
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert cli("verify", "--", odd, out).code == 0
    many = cli("upscale", *MODEL, "--", ".", "many/")
    assert many.code == 0, many.err
    assert frames_of((Path("many") / odd).absolute()) == 2
