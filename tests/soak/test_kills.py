"""`kill -9` at random moments: the same command goes on, and the bytes are those of a run that nobody killed."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clips import Sound, make_clip, phone_times
from tests.conftest import Outcome
from tests.soak.sizes import size

KILLS = size(3, 200)
ARGUMENTS = ("--model", "bicubic", "--scale", "2", "--preset", "ultrafast", "--progress", "none")

Cli = Callable[..., Outcome]
# A server that has loaded everything once gives birth to what will be killed: loading takes longer than the work.
FORKS: Any = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["gtasr_video.api", "gtasr_video.cli.upscale"])


def attempt(source: str, out: str) -> None:
    """Run the command, in a process of its own."""
    from gtasr_video.cli import invoke

    sys.exit(invoke(["upscale", source, out, *ARGUMENTS]))


def _duration(source: Path, out: Path) -> float:
    """Return the seconds of an attempt that nobody kills, in a process like those that will be killed."""
    began = time.monotonic()
    process = FORKS.Process(target=attempt, args=(str(source), str(out)))
    process.start()
    process.join()
    assert process.exitcode == 0
    out.unlink()
    return time.monotonic() - began


@pytest.mark.timeout(7200)
def test_killed_at_random_moments(tmp_path: Path, cli: Cli, capfd: pytest.CaptureFixture[str]) -> None:
    ticks = [tick // 90 for tick in phone_times(480)]
    source = make_clip(tmp_path / "in.mkv", pts=ticks, time_base=Fraction(1, 1000), sound=[Sound()])
    whole, out = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    assert cli("upscale", source, whole, *ARGUMENTS).code == 0
    # The first starts the server that gives birth to the others, which takes longer than the work.
    _, usual = (_duration(source, tmp_path / "timed.mp4") for _ in range(2))
    generator = np.random.default_rng(6)
    kills = finished = 0
    named = False
    while kills < KILLS or not finished:
        process = FORKS.Process(target=attempt, args=(str(source), str(out)))
        process.start()
        process.join(generator.uniform(0.2, 1.1) * usual if kills < KILLS else None)
        if process.exitcode is None:
            os.kill(process.pid, 9)
            process.join()
            kills += 1
            named = out.exists()
            assert not named or out.read_bytes() == whole.read_bytes()
            continue
        # A kill after the output got its name: the next run finds it, and says that it exists.
        assert process.exitcode == 0 or (process.exitcode == 1 and named)
        assert out.read_bytes() == whole.read_bytes()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv", "out.mp4", "whole.mp4"]
        out.unlink()
        finished, named = finished + 1, False
    resumed = capfd.readouterr().err.count("going on after")
    with capfd.disabled():
        print(f"\n{kills} kills at random moments, {resumed} of them gone on from, {finished} outputs, all identical")
