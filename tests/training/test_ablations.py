"""An ablation leaves out what it says, and nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from gtasr_video.config import load_config
from gtasr_video.models.checkpoint import load_network
from gtasr_video.training.loop import train
from gtasr_video.training.run import read_metrics
from gtasr_video.training.settings import TrainSettings, Weights
from tests.training.test_loop import CPU, STAGE_ONE, settings

STAGE_I = {"ct", "ta", "guide", "tta", "trect"}
STAGE_II = {"ct", "rect", "dtm", "guide", "tta", "trect"}


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("ablation", set()),
        ("no_ta", {"ta", "tta"}),
        ("no_drsr", {"guide", "dtm", "rect"}),
        ("no_temporal", {"tta", "trect"}),
        ("plain_consistency", {"ta", "guide", "dtm", "rect", "tta", "trect"}),
    ],
)
def test_each_leaves_out_its_terms_and_keeps_the_rest(
    material: Path, tmp_path: Path, name: str, left_out: set[str]
) -> None:
    plan = load_config(TrainSettings, f"train/{name}")
    full = load_config(TrainSettings, "train/ablation")
    assert dataclasses.replace(plan, without=()) == full
    small = [dataclasses.replace(p, clips=1, batch=1) for p in plan.phases[1:]]
    train(settings(*small, without=plan.without, vgg="none"), [material], tmp_path / "run", device=CPU)
    first, second = read_metrics(tmp_path / "run" / "metrics.jsonl")
    for line, terms in ((first, STAGE_I), (second, STAGE_II)):
        assert {k.removeprefix("loss/") for k in line if k.startswith("loss/")} == terms - left_out


def test_without_memory_clips_are_learned_from_and_nothing_is_remembered(material: Path, tmp_path: Path) -> None:
    weights = Weights(perceptual=0.0, temporal_trajectory=0.0, temporal_rectification=0.0)
    clips = dataclasses.replace(STAGE_ONE, frames=3, clips=8, learning_rate=1e-3, weights=weights, end_share=1.0)
    outputs = {}
    for name, without in (("with", ()), ("without", ("memory",))):
        train(settings(clips, without=without, noise_scale=0.1), [material], tmp_path / name, device=CPU)
        model = load_network(tmp_path / name / "last.safetensors").eval()
        model.noise_scale = 0.0
        frame = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
        with torch.inference_mode():
            outputs[name] = model(torch.stack([frame, frame, frame], dim=1))
    first, second, third = outputs["without"].unbind(1)
    assert torch.equal(first, second)
    assert torch.equal(first, third)
    assert not torch.equal(*outputs["with"].unbind(1)[:2])
