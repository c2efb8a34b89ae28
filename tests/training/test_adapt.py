"""Adapting shipped weights to one video, without truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gtasr_video.config import load_config
from gtasr_video.models import load_model, weights_path
from gtasr_video.models.checkpoint import load_network
from gtasr_video.training.settings import TrainSettings
from tests.conftest import Outcome
from tests.training.material import panning, save_video

SHORT = ("phases.0.clips=2", "phases.0.batch=1", "phases.0.warm_up=1", "validation_clips=1", "workers=0")


def short() -> list[str]:
    return [word for setting in SHORT for word in ("--set", setting)]


def test_one_command_turns_a_video_into_weights_for_it(tmp_path: Path, cli: Callable[..., Outcome]) -> None:
    clip = save_video(tmp_path / "clip.mp4", panning(6, 160, 192))
    done = cli("train", "--config", "train/adapt", "--data", clip, "--out", tmp_path / "run", "--vgg", "none", *short())
    assert done.code == 0, done.err
    adapted = load_network(tmp_path / "run" / "last.safetensors").state_dict()
    shipped = load_network(weights_path("s"), (4,)).state_dict()
    steps = [(adapted[name] - shipped[name]).abs().max().item() for name in shipped]
    assert 0 < max(steps) < 1e-3, "two optimiser steps away from the shipped weights, not from nothing"
    assert load_model(str(tmp_path / "run" / "best.safetensors")).facts.scale == 4


def test_a_video_too_small_to_be_shrunk_is_named(tmp_path: Path, cli: Callable[..., Outcome]) -> None:
    clip = save_video(tmp_path / "clip.mp4", panning(6, 96, 120))
    done = cli("train", "--config", "train/adapt", "--data", clip, "--out", tmp_path / "run", "--vgg", "none")
    assert done.code == 1
    assert done.err.splitlines()[-1].endswith("clip.mp4: 120x96 is smaller than a crop of 128x128")


def test_what_the_command_line_names_goes_before_the_configuration(tmp_path: Path, cli: Callable[..., Outcome]) -> None:
    assert load_config(TrainSettings, "train/adapt", section="train").init == "s"
    clip = save_video(tmp_path / "clip.mp4", panning(6, 160, 192))
    arguments = ("--config", "train/adapt", "--data", clip, "--out", tmp_path / "run", "--init", "none.safetensors")
    done = cli("train", *arguments)
    assert done.code == 1
    assert "none.safetensors: no such weights file" in done.err
