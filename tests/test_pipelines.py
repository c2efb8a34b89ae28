"""Pipelines that no other test runs, as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from gtasr_video import Reader
from tests.clips import make_clip
from tests.training.test_command import shortened

ROOT = Path(__file__).parent.parent


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "pipelines" / "train_two_stages.py"), *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=110, check=False)


def test_two_stages_are_trained_and_a_video_is_enlarged_with_the_weights(tmp_path: Path) -> None:
    videos = tmp_path / "my_videos"
    videos.mkdir()
    clip = make_clip(videos / "one.mp4", frames=12, size=(160, 128))
    given = [videos, tmp_path / "run", *shortened("train/two_stages")]
    done = run(*given, "--try", clip)
    assert done.returncode == 0, done.stderr
    assert f"weights  {tmp_path / 'run' / 'best.safetensors'}" in done.stdout
    with Reader(tmp_path / "run" / "one_x4.mp4") as reader:
        assert (reader.spec.width, reader.spec.height) == (640, 512)
        assert sum(1 for _ in reader) == 12
    again = run(*given)
    assert again.returncode == 0, again.stderr
    bad = run(tmp_path / "nothing", tmp_path / "other")
    assert bad.returncode == 1
    assert "no training data at" in bad.stderr
    assert "Traceback" not in bad.stderr
