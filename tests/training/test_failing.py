"""What goes wrong in a run ends it with one line that says the way out, and costs nothing that was saved."""

from __future__ import annotations

import dataclasses
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gtasr_video.errors import TrainingError
from gtasr_video.models.checkpoint import read_tensors, save_model
from gtasr_video.training import losses as equations
from gtasr_video.training.loop import train
from gtasr_video.training.objective import Objective, Pictures
from gtasr_video.training.run import Run
from gtasr_video.training.settings import Weights
from tests.models.networks import tiny
from tests.runtime.limited import ENVIRONMENT
from tests.training.test_loop import CPU, STAGE_ONE, losses, settings

ROOT = Path(__file__).parent.parent.parent
OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB"


def failure(action: Callable[[], object]) -> str:
    with pytest.raises(TrainingError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def checkpoints(run: Path) -> list[Path]:
    found = sorted((run / "checkpoints").iterdir())
    assert all(path.suffix == ".safetensors" for path in found), "half a file was left"
    return found


# Material that is not enough


def test_clips_longer_than_any_video_are_refused_before_the_first_step(material: Path, tmp_path: Path) -> None:
    """The phase that wants them may be hours away. `data.frames` is no wish: each phase has its own."""
    (videos := tmp_path / "videos").mkdir()
    shutil.copy(material / "b.mp4", videos)
    short = dataclasses.replace(settings().data, frames=100)
    train(settings(data=short), [videos], tmp_path / "enough", device=CPU)
    long = settings(STAGE_ONE, dataclasses.replace(STAGE_ONE, frames=9))
    assert "no video has the 9 frames" in failure(lambda: train(long, [videos], tmp_path / "run", device=CPU))
    assert not (tmp_path / "run").exists(), "an empty folder was left"


# A loss that is no number


def test_bad_weights_are_not_the_last_checkpoint_and_the_run_goes_on_from_the_good_one(
    material: Path, tmp_path: Path
) -> None:
    run, wild = tmp_path / "run", dataclasses.replace(STAGE_ONE, learning_rate=1e30, final_learning_rate=1e30)
    # The first step is taken at rate 0, so that its checkpoint is good; the second ruins the weights.
    plan = settings(STAGE_ONE, wild, checkpoint_every=1, validate_every=100)
    message = failure(lambda: train(plan, [material], run, device=CPU))
    good = checkpoints(run)[-1]
    assert "loss/" in message
    assert f"is not a finite number at step 6; the last good checkpoint is {good}" in message
    assert "lower phases.1.learning_rate, or --resume" in message
    assert good.stem == "step-00000004"
    train(settings(STAGE_ONE, STAGE_ONE, checkpoint_every=1), [material], run, device=CPU, resume=True)
    assert [line["step"] for line in losses(run)] == list(range(1, 9))


def test_bad_weights_that_are_validated_end_in_the_same_line(material: Path, tmp_path: Path) -> None:
    wild = dataclasses.replace(STAGE_ONE, frames=2, learning_rate=1e30, final_learning_rate=1e30)
    plan = settings(wild, checkpoint_every=1, validate_every=1)
    message = failure(lambda: train(plan, [material], tmp_path / "run", device=CPU))
    assert "is not a finite number at step" in message


def test_a_gradient_that_is_no_number_names_its_term_and_moves_nothing(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = equations.guide
    count = 0

    def guide(edges: Tensor, texture: Tensor, truth: Tensor) -> Tensor:
        nonlocal count
        count += 1
        value = whole(edges, texture, truth)
        # The square root of nothing is nothing, and has a slope without end.
        return value + (0 * value).sqrt() if count > 2 else value

    monkeypatch.setattr(equations, "guide", guide)
    message = failure(lambda: train(settings(checkpoint_every=1), [material], tmp_path / "run", device=CPU))
    assert message.startswith("the gradient of loss/guide is not a finite number at step 3")
    tensors, _ = read_tensors(checkpoints(tmp_path / "run")[-1])
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())


# Memory


@pytest.mark.parametrize(
    ("limit", "way_out"),
    [
        (2 * 16 * 16, "; this fits when tried: --set phases.1.batch=2 --set phases.1.perceptual_crops=2"),
        (16 * 16, "; this fits when tried: --set phases.1.batch=1 --set phases.1.perceptual_crops=1"),
        (
            0,
            f", and nothing smaller fits either: something else holds the memory ({OUT_OF_MEMORY})",
        ),
    ],
)
def test_out_of_memory_says_what_size_fits(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, way_out: str
) -> None:
    whole = Objective.terms

    def terms(self: Objective, pictures: Pictures, draw: Any) -> Any:
        pixels = pictures.y[:, 0, 0].numel()
        if self.phase.frames == 2 and pixels > limit:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)
        return whole(self, pictures, draw)

    monkeypatch.setattr(Objective, "terms", terms)
    first = dataclasses.replace(STAGE_ONE, clips=2)
    large = dataclasses.replace(STAGE_ONE, batch=8, frames=2, perceptual_crops=8, weights=Weights(perceptual=0.02))
    plan = settings(first, large, vgg="none", validate_every=100, checkpoint_every=1)
    message = failure(lambda: train(plan, [material], tmp_path / "run", device=CPU))
    assert message == f"out of memory at step 2 with batch 8 of 2 x 16 x 16 LR pixels{way_out}"
    assert [path.stem for path in checkpoints(tmp_path / "run")] == ["step-00000001"]


def test_out_of_memory_cuts_crops_where_one_clip_does_not_fit(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Objective.terms

    def terms(self: Objective, pictures: Pictures, draw: Any) -> Any:
        if pictures.y.shape[-1] > 16:
            raise MemoryError
        return whole(self, pictures, draw)

    monkeypatch.setattr(Objective, "terms", terms)
    plan = settings()
    plan = dataclasses.replace(plan, data=dataclasses.replace(plan.data, crop=32, region=32))
    message = failure(lambda: train(plan, [material], tmp_path / "run", device=CPU))
    assert message.endswith("this fits when tried: --set phases.0.batch=1 --set data.crop=16")


# Data is limited once everything is loaded, to what is in use and a little more. Not the address space: there the stack
# of the main thread counts, and where it cannot grow the process dies without a word.
SHORT_OF_MEMORY = """
import dataclasses, sys
from pathlib import Path
from tests.runtime.limited import limit
from tests.training.test_loop import CPU, STAGE_ONE, settings
from gtasr_video.cli import invoke
from gtasr_video.training import loop
from gtasr_video.training.loop import train

material, out = Path(sys.argv[1]), Path(sys.argv[2])
plan = settings(dataclasses.replace(STAGE_ONE, clips=2048, batch=1024), validation_clips=1)
train(settings(dataclasses.replace(STAGE_ONE, clips=2)), [material], out / "warm", device=CPU)

def limited(*arguments, whole=loop.steps, **named):
    limit(400)
    return whole(*arguments, **named)

loop.steps = limited
try:
    train(plan, [material], out / "run", device=CPU)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


def test_a_process_that_is_really_short_of_memory_says_what_fits(material: Path, tmp_path: Path) -> None:
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SHORT_OF_MEMORY, str(material), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110, check=False)
    last = done.stdout.splitlines()[-1] if done.stdout else done.stderr
    assert last.startswith("TrainingError: out of memory at step 1 with batch 1024 of 1 x 16 x 16 LR pixels; "), last
    fits = int(last.rpartition("--set phases.0.batch=")[2])
    assert 1 <= fits <= 512


# A full disk


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes: writing fails in its middle, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_no_checkpoint_and_the_run_goes_on_once_there_is_room(material: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    plan = settings(dataclasses.replace(STAGE_ONE, clips=10), checkpoint_every=2, validate_every=100, keep=1)
    limits = []

    def fill(line: dict[str, Any]) -> None:
        if line["step"] == 3:
            limits.append(files_of_at_most(1 << 20))
            limits[0].__enter__()

    try:
        message = failure(lambda: train(plan, [material], run, device=CPU, on_step=fill))
    finally:
        limits[0].__exit__(None, None, None)
    assert message.startswith(f"{run / 'checkpoints' / 'step-00000004.safetensors'}: cannot be written (")
    assert message.endswith("make room and go on with --resume from step-00000002.safetensors")
    assert [path.stem for path in checkpoints(run)] == ["step-00000002"]
    read_tensors(checkpoints(run)[0])
    train(plan, [material], run, device=CPU, resume=True)
    assert [line["step"] for line in losses(run)] == [1, 2, 3, 4, 5]


def test_metrics_that_cannot_be_written_end_the_run(material: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def fill(line: dict[str, Any]) -> None:
        if line["step"] == 2:
            (run / "metrics.jsonl").rename(run / "kept.jsonl")
            (run / "metrics.jsonl").symlink_to("/dev/full")

    plan = settings(validate_every=100)
    message = failure(lambda: train(plan, [material], run, device=CPU, on_step=fill))
    assert message.startswith(f"{run / 'metrics.jsonl'}: cannot be written (No space left on device)")
    assert [path.stem for path in checkpoints(run)] == ["step-00000002"]


# A run that is told to end


def test_a_run_that_is_told_to_end_loses_no_step(material: Path, tmp_path: Path) -> None:
    """A checkpoint may be hours away, and there may be none yet."""

    def told(line: dict[str, Any]) -> None:
        if line["step"] == 1:
            signal.raise_signal(signal.SIGINT)

    plan = settings(checkpoint_every=100)
    train(plan, [material], tmp_path / "whole", device=CPU)
    with pytest.raises(KeyboardInterrupt):
        train(plan, [material], tmp_path / "run", device=CPU, on_step=told)
    assert len(checkpoints(tmp_path / "run")) == 1
    assert len(losses(tmp_path / "run")) < 4
    train(plan, [material], tmp_path / "run", device=CPU, resume=True)
    assert [line["loss"] for line in losses(tmp_path / "run")] == [line["loss"] for line in losses(tmp_path / "whole")]


def test_a_signal_to_the_whole_group_does_not_end_the_step_either(material: Path, tmp_path: Path) -> None:
    """As service managers and batch systems send it: to the data processes, too."""
    out = tmp_path / "run"
    small = ["data.crop=32", "validation_clips=1", "checkpoint_every=999", "phases.0.clips=9999", "phases.0.batch=2"]
    given = [
        "train",
        "--config",
        "train/smoke",
        "--data",
        material,
        "--out",
        out,
        *(w for s in small for w in ("--set", s)),
    ]
    command = [sys.executable, "-m", "gtasr_video", *map(str, given)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (out / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"train --resume --out {out} goes on" in err
    assert len(checkpoints(out)) == 1


def test_weights_among_checkpoints_are_named_as_such(tmp_path: Path) -> None:
    file = tmp_path / "run" / "checkpoints" / "step-00000001.safetensors"
    file.parent.mkdir(parents=True)
    save_model(file, tiny())
    said = failure(lambda: Run(tmp_path / "run", resume=True).last_kind())
    assert said == f"{file}: no checkpoint, but a file of weights or the like; move it elsewhere"


def test_a_run_killed_before_its_first_checkpoint_can_be_begun_anew(material: Path, tmp_path: Path) -> None:
    plan, run = settings(), tmp_path / "run"
    train(plan, [material], run, device=CPU)
    whole = losses(run)
    for path in (*checkpoints(run), run / "best.safetensors", run / "last.safetensors"):
        path.unlink()
    assert "start without --resume" in failure(lambda: train(plan, [material], run, device=CPU, resume=True))
    train(plan, [material], run, device=CPU)
    assert [line["loss"] for line in losses(run)] == [line["loss"] for line in whole]


@pytest.mark.parametrize("resume", [True, False])
def test_weights_whose_checkpoints_are_gone_are_not_replaced(material: Path, tmp_path: Path, resume: bool) -> None:
    run = tmp_path / "run"
    train(settings(), [material], run, device=CPU)
    for path in checkpoints(run):
        path.unlink()
    said = failure(lambda: train(settings(), [material], run, device=CPU, resume=resume))
    assert f"--init {run / 'best.safetensors'}" in said
