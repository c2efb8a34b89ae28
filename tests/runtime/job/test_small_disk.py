"""A disk that really is too small for joining the segments: a mount of its own, and the whole program on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clips import make_clip

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).with_name("small_disk.sh")
OPTIONS = ["--model", "bicubic", "--scale", "2", "--device", "cpu", "--crf", "1"]


@pytest.fixture(scope="module")
def mounts() -> None:
    found = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True)
    if found.returncode:
        assert "GTASR_REQUIRE_PEERS" not in os.environ, found.stderr
        pytest.skip("no disk can be mounted here: unshare -rm and mount are needed")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a clip and what becomes of it where there is room enough."""
    folder = tmp_path_factory.mktemp("room")
    source, whole = make_clip(folder / "in.mp4", frames=100, size=(160, 120)), folder / "whole.mp4"
    command = [sys.executable, "-m", "gtasr_video", "upscale", str(source), str(whole), *OPTIONS]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return source, whole


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(
    ("how", "told"),
    [("stop", "(the disk is full) (100 frames are kept in"), ("wait", "the disk is full; waiting until")],
)
def test_nothing_is_lost_where_the_join_finds_no_room(
    how: str, told: str, clip: tuple[Path, Path], tmp_path: Path
) -> None:
    source, whole = clip
    # Room for the segments and half of the file that is made of them.
    room = str(whole.stat().st_size * 3 // 2 // 1024)
    command = ["unshare", "-rm", "bash", str(SCRIPT), str(source), room, how, str(tmp_path), sys.executable]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    said = (tmp_path / "said").read_text(encoding="utf-8")
    assert done.returncode == 0, said + done.stderr
    assert told in said and "Traceback" not in said
    assert ("going on after 100 frames" in said) == (how == "stop")
    assert (tmp_path / "out.mp4").read_bytes() == whole.read_bytes()
