"""A process that may not have the memory of a whole frame makes it in parts, and it is the same frame."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.runtime import limited

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole() -> dict[str, torch.Tensor]:
    upscaler = limited.upscaler_for()
    upscaler.start(limited.SPEC)
    return limited.enlarge(upscaler)


@pytest.mark.parametrize(("when", "mib", "begins"), [("before", 620, False), ("after", 380, True)])
def test_within_a_limit_frames_are_made_in_parts(
    when: str, mib: int, begins: bool, whole: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """`begins` tells whether the first try is the whole frame: the limit is known before, or met on the way."""
    out = tmp_path / "planes.safetensors"
    command = [sys.executable, "-m", limited.__name__, when, str(mib), str(out)]
    environment = os.environ | limited.ENVIRONMENT
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    grids = json.loads(done.stdout)
    assert (grids["begun"] == "1x1") == begins and grids["ended"] != "1x1", done.stderr
    parted = load_file(out)
    assert parted.keys() == whole.keys()
    for name, plane in whole.items():
        assert int((plane.int() - parted[name].int()).abs().max()) <= 1, name
