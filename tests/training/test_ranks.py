"""Two processes against one: the same batch, the same draws, the same step."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gtasr_video.device import choose
from gtasr_video.errors import TrainingError
from gtasr_video.models.checkpoint import load_network
from gtasr_video.ops.degrade import DegradationSettings
from gtasr_video.training.clips import DataSettings
from gtasr_video.training.draw import Draw
from gtasr_video.training.loop import train
from gtasr_video.training.ranks import Ranks
from gtasr_video.training.run import read_metrics
from gtasr_video.training.settings import Phase, TrainSettings, Weights
from gtasr_video.training.start import network

ROOT = Path(__file__).parent.parent.parent
CPU = choose("cpu", torch.float32)


def plan(vgg: Path, **changes: Any) -> TrainSettings:
    """Both stages, clips, noise, and windows for the perceptual distance: all that is drawn has to be shared."""
    first = Phase(
        clips=16,
        frames=2,
        batch=4,
        end_share=0.5,
        learning_rate=1e-3,
        warm_up=1,
        perceptual_crops=2,
        perceptual_size=32,
        weights=Weights(perceptual=0.02, adversarial=0.01),
    )
    second = dataclasses.replace(first, stage=2, steps=3, power=1.0, refresh=2, clips=12)
    base = TrainSettings(
        tier="s",
        noise_scale=0.1,
        phases=(first, second),
        data=DataSettings(
            crop=16, region=24, crops_per_clip=1, codec="model", degradation=DegradationSettings(other_codec=0.0)
        ),
        vgg=str(vgg),
        vgg_layers=1,
        checkpoint_every=3,
        validate_every=4,
        validation_clips=2,
        workers=0,
    )
    return dataclasses.replace(base, **changes)


SCRIPT = """
import sys, torch
from pathlib import Path
from gtasr_video.device import choose
from gtasr_video.training.draw import Draw
from gtasr_video.training.loop import train
from tests.training.test_ranks import plan
material, out, vgg, resume = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] == "resume"
train(plan(vgg), [material], out, device=choose("cpu", torch.float32), resume=resume)
"""


def torchrun(processes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110, check=False
    )


@pytest.fixture(scope="module")
def runs(material: Path, vgg: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same run twice: by ``one`` process and by ``two``."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "script.py").write_text(SCRIPT)
    train(plan(vgg), [material], folder / "one", device=CPU)
    trained_by_two(folder, "two", material, vgg, "start")
    return folder


def trained_by_two(folder: Path, name: str, material: Path, vgg: Path, how: str) -> None:
    done = torchrun(2, str(folder / "script.py"), str(material), str(folder / name), str(vgg), how)
    assert done.returncode == 0, done.stderr[-2000:]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_network(folder / "last.safetensors").state_dict()


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float((one[name] - other[name]).square().sum()) for name in one))


def test_two_processes_take_the_steps_that_one_takes(runs: Path, vgg: Path) -> None:
    one, two = weights(runs / "one"), weights(runs / "two")
    begun = network(plan(vgg), None, CPU).state_dict()
    # Not weight by weight: where a gradient is next to nothing Adam makes whole steps of what rounding makes of it.
    assert distance(one, two) < 0.01 * distance(one, begun)
    lines = [read_metrics(runs / name / "metrics.jsonl") for name in ("one", "two")]
    assert len(lines[0]) == len(lines[1]) == 7
    for ours, theirs in zip(*lines, strict=True):
        for name, value in ours.items():
            if name.startswith(("loss", "validation/", "gradient")):
                # A discriminator finds small differences: it tells rounding apart, too.
                rel = 0.05 if name in ("loss", "loss/adversarial", "loss/discriminator") else 2e-3
                assert theirs[name] == pytest.approx(value, rel=rel, abs=1e-5), (ours["step"], name)


def test_a_run_of_one_process_goes_on_with_two(runs: Path, material: Path, vgg: Path) -> None:
    shutil.copytree(runs / "one", runs / "resumed")
    for late in (6, 7):
        (runs / "resumed" / "checkpoints" / f"step-{late:08d}.safetensors").unlink()
    trained_by_two(runs, "resumed", material, vgg, "resume")
    assert apart(weights(runs / "resumed"), weights(runs / "one")) < 1e-4
    assert [line["step"] for line in read_metrics(runs / "resumed" / "metrics.jsonl")] == list(range(1, 8))


def test_the_command_works_under_torchrun_and_only_the_first_process_speaks(material: Path, tmp_path: Path) -> None:
    given = ["--config", "train/smoke", "--data", str(material), "--out", str(tmp_path / "run"), "--device", "cpu"]
    small = ["data.crop=16", "data.region=24", "data.codec=model", "validation_clips=1", "workers=0"]
    phases = [f"phases.{n}.{k}=2" for n in range(3) for k in ("clips", "batch", "frames")]
    settings = [word for setting in (*small, *phases) for word in ("--set", setting)]
    done = torchrun(2, "-m", "gtasr_video", "train", *given, *settings)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("weights are in") == 1
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 3
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["tier"] == "s"


def test_each_process_keeps_its_part_of_the_same_draws() -> None:
    phase = Phase(steps=4, end_share=0.5)
    parts = [Ranks(rank, 2) for rank in range(2)]

    def drawn(ranks: Ranks) -> list[Tensor]:
        draw, share = Draw.of(3, 17, ranks), 8 // ranks.count
        first = 0 if ranks.count == 1 else ranks.rank * share
        which = torch.tensor(draw.spread(share, share // 2)) + first
        steps = draw.path_steps(share, phase, torch.device("cpu"))
        places = draw.places(share, torch.device("cpu"))
        return [which, steps, places, torch.tensor(draw.integers(9, share)), draw.normal(torch.zeros(share, 3, 2, 2))]

    whole = drawn(Ranks())
    for one, *both in zip(whole, *(drawn(ranks) for ranks in parts), strict=True):
        assert torch.equal(one, torch.cat(both))


def test_windows_are_spread_over_the_clips() -> None:
    draws = [Draw.of(0, step).spread(6, 3) for step in range(200)]
    assert all(0 <= a < 2 <= b < 4 <= c < 6 for a, b, c in draws)
    assert {number for draw in draws for number in draw} == set(range(6))
    assert Draw.of(0, 0).spread(2, 4) == [0, 0, 1, 1]


def test_a_batch_that_cannot_be_shared_equally_is_refused_with_one_that_can() -> None:
    settings = TrainSettings(
        phases=(Phase(batch=4, weights=Weights(perceptual=0.0)), Phase(batch=6, perceptual_crops=3))
    )
    with pytest.raises(
        TrainingError, match=r"2 processes cannot share perceptual_crops = 3 .*phases.1.perceptual_crops=4"
    ):
        Ranks(0, 2).check(settings, 0, torch.device("cpu"))
    with pytest.raises(TrainingError, match=r"4 processes cannot share batch = 6 equally; --set phases.1.batch=8"):
        Ranks(0, 4).check(settings, 0, torch.device("cpu"))
