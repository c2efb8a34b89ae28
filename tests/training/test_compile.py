"""torch.compile is slow to start: all that needs it is here, on the smallest run."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor import config

from gtasr_video.errors import TrainingError
from gtasr_video.models.checkpoint import load_network
from gtasr_video.training.loop import train
from tests.training.test_loop import CPU, STAGE_ONE, losses, settings

PLAN = settings(dataclasses.replace(STAGE_ONE, clips=4), validate_every=100, validation_clips=1, checkpoint_every=1)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing compiled before counts, here or in a cache; one thread needs no processes beside this one."""
    torch._dynamo.reset()
    counters.clear()
    with config.patch(force_disable_caches=True, compile_threads=1):
        yield
    torch._dynamo.reset()


@pytest.mark.timeout(400)
def test_compiled_training_is_the_same_training(material: Path, tmp_path: Path) -> None:
    if shutil.which("g++") is None:  # what inductor looks for on a CPU; without it the test below is what holds
        pytest.skip("no C++ compiler")
    train(PLAN, [material], tmp_path / "plain", device=CPU)
    assert counters["stats"]["unique_graphs"] == 0
    train(dataclasses.replace(PLAN, compile=True), [material], tmp_path / "compiled", device=CPU)
    # Twice: with gradient, and without for the target.
    assert counters["stats"]["unique_graphs"] == 2
    for plain, compiled in zip(losses(tmp_path / "plain"), losses(tmp_path / "compiled"), strict=True):
        for name in plain:
            assert compiled[name] == pytest.approx(plain[name], rel=1e-4), name
    one, other = (load_network(tmp_path / name / "last.safetensors").state_dict() for name in ("plain", "compiled"))
    assert list(one) == list(other)
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 1e-4


def test_without_a_compiler_it_says_what_to_leave_out(material: Path, tmp_path: Path) -> None:
    missing = config.patch({"cpp.cxx": (None, str(tmp_path / "no-such-compiler"))})
    with (
        missing,
        pytest.raises(TrainingError, match=r"torch.compile failed \(.*ompiler.*; --set compile=false") as caught,
    ):
        train(dataclasses.replace(PLAN, compile=True), [material], tmp_path / "run", device=CPU)
    assert "\n" not in str(caught.value)
