"""``gtasr-video train`` as a user gives it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gtasr_video.config import config_root, load_config
from gtasr_video.models.checkpoint import load_network, read_card
from gtasr_video.training.schedule import schedule
from gtasr_video.training.settings import TrainSettings
from tests.conftest import Outcome

Cli = Callable[..., Outcome]

# What a shipped configuration is shortened by; all else runs as it ships.
SMALL = ["data.crop=16", "data.region=24", "data.codec=model", "validation_clips=1", "workers=0"]


def shortened(config: str, steps: int = 1) -> list[str]:
    phases = load_config(TrainSettings, config).phases
    settings = [*SMALL]
    for number, phase in enumerate(phases):
        batch = min(phase.batch, 2)
        frames = min(phase.frames, 4)
        settings += [f"phases.{number}.{k}={v}" for k, v in {"clips": steps * batch, "batch": batch}.items()]
        settings.append(f"phases.{number}.frames={frames}")
    return [word for setting in settings for word in ("--set", setting)]


def test_two_stages_yields_weights_that_upscale(
    cli: Cli, material: Path, small_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GTASR_VGG", raising=False)
    out = tmp_path / "mine"
    given = ["--config", "train/two_stages", "--data", str(material), "--out", str(out)]
    done = cli("train", *given, *shortened("train/two_stages"))
    assert done.code == 0, done.err
    assert "no VGG16 weights given" in done.err
    stages = [json.loads(line)["stage"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert stages == [1, 1, 1, 1, 2]
    enlarged = cli("upscale", small_clip, tmp_path / "large.mp4", "--model", out / "best.safetensors")
    assert enlarged.code == 0, enlarged.err
    assert (tmp_path / "large.mp4").stat().st_size > 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "not what a run says of itself"),
        ("{}", "not what a run says of itself"),
        ("", "cannot be read"),
        (
            '{"settings": {"gone": 1}, "data": ["."], "found": "", "reason": ""}',
            "gone: unknown key 'gone'; of another version?",
        ),
    ],
)
def test_a_run_whose_description_cannot_be_used_is_told_the_way_out(
    cli: Cli, content: str, reason: str, tmp_path: Path
) -> None:
    """It ended in an error to report, or in an unknown key of no file."""
    (tmp_path / "run.json").write_text(content)
    done = cli("train", "--resume", "--out", tmp_path)
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert f"{tmp_path / 'run.json'}: {reason}" in done.err and "ive --config and --data again" in done.err


@pytest.mark.parametrize("init", [(), ("--init", "s")], ids=["from nothing", "from weights"])
def test_without_a_config_a_run_trains_by_a_shipped_recipe_and_says_which(
    cli: Cli, material: Path, tmp_path: Path, init: tuple[str, ...]
) -> None:
    name = "train/finetune" if init else "train/two_stages"
    done = cli("train", "--data", material, "--out", tmp_path / "run", "--vgg", "none", *init, *shortened(name))
    assert done.code == 0, done.err
    assert f"no --config given: training by {name}" in done.err
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert len(settings["phases"]) == len(load_config(TrainSettings, name).phases)


@pytest.mark.parametrize("by_name", [True, False], ids=["--init s", "--init FILE"])
def test_finetune_starts_from_weights_by_name_or_file(cli: Cli, material: Path, tmp_path: Path, by_name: bool) -> None:
    from gtasr_video.models import weights_path

    shipped = weights_path("s")
    out = tmp_path / "mine"
    given = ["--config", "train/finetune", "--init", "s" if by_name else str(shipped), "--vgg", "none"]
    done = cli("train", *given, "--data", material, "--out", out, *shortened("train/finetune"))
    assert done.code == 0, done.err
    assert "VGG16" not in done.err
    before, after = load_network(shipped).state_dict(), load_network(out / "last.safetensors").state_dict()
    moved = max(float((after[name] - before[name]).abs().max()) for name in after)
    assert 0 < moved < 1e-3
    assert read_card(out / "last.safetensors").architecture == read_card(shipped).architecture


def test_a_smaller_tier_learns_from_a_larger_one(
    cli: Cli, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gtasr_video.models import weights_path

    monkeypatch.chdir(weights_path("m").parent)
    given = ["--config", "train/distil", "--set", "teacher=m.safetensors", "--init", "s", "--data", material, "--vgg"]
    out = tmp_path / "mine"
    done = cli("train", *given, "none", "--out", out, *shortened("train/distil"))
    assert done.code == 0, done.err
    kept = json.loads((out / "run.json").read_text())["settings"]["teacher"]
    assert kept == str(weights_path("m")), "it may go on from another folder"
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert all(line["loss/distil"] > 0 for line in lines)
    assert read_card(out / "last.safetensors").architecture.tier == "s"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["teacher="], "phases.0.weights.distillation needs a teacher: --set teacher=m, or a file"),
        (["teacher=x"], "no model 'x'"),
        (["teacher=none.safetensors"], "none.safetensors: no such weights file"),
        (["noise_scale=0.1"], "trained with noise_scale 0, which the run has at 0.1; a teacher needs the same"),
        (["teacher=s", "scales=[1]", "phases.0.scale=1", "phases.1.scale=1"], "no weights for scale 1"),
    ],
)
def test_a_teacher_that_cannot_teach_is_said_at_once(
    cli: Cli, material: Path, tmp_path: Path, changes: list[str], message: str
) -> None:
    options = [word for change in changes for word in ("--set", change)]
    given = ["--config", "train/distil", "--init", "s", "--data", material, "--vgg", "none", *options]
    done = cli("train", *given, "--out", tmp_path / "mine")
    assert done.code in (1, 2)
    assert message in done.err
    assert done.err.count("\n") <= 2
    assert not list((tmp_path / "mine").glob("*.safetensors"))


def test_a_teacher_that_nothing_is_learned_from_is_said(cli: Cli, material: Path, tmp_path: Path) -> None:
    given = ["--config", "train/smoke", "--data", material, "--vgg", "none", "--set", "teacher=s"]
    done = cli("train", *given, "--out", tmp_path / "mine", *shortened("train/smoke"))
    assert done.code == 0, done.err
    assert "nothing is learned from teacher s" in done.err


def test_vgg_weights_by_option_or_environment(
    cli: Cli, material: Path, vgg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = [*shortened("train/two_stages"), "--set", "vgg_layers=1"]
    given = ["train", "--config", "train/two_stages", "--data", material, *short]
    monkeypatch.setenv("GTASR_VGG", str(vgg))
    assert cli(*given, "--out", tmp_path / "environment").code == 0
    monkeypatch.delenv("GTASR_VGG")
    assert cli(*given, "--out", tmp_path / "option", "--vgg", vgg).code == 0
    last = [(tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1] for name in ("environment", "option")]
    ratios = [json.loads(line)["validation/vgg_ratio"] for line in last]
    assert ratios[0] == ratios[1]


def test_a_run_goes_on_by_its_own_settings_and_data(
    cli: Cli, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    monkeypatch.chdir(material.parent)  # and goes on from another folder
    given = ["--config", "train/smoke", "--data", material.name, "--vgg", "none", "--set", "checkpoint_every=1"]
    done = cli("train", *given, "--out", out, *shortened("train/smoke", steps=2))
    monkeypatch.chdir(tmp_path)
    assert done.code == 0, done.err
    whole = load_network(out / "last.safetensors").state_dict()
    steps = len((out / "metrics.jsonl").read_text().splitlines())
    max((out / "checkpoints").iterdir()).unlink()
    done = cli("train", "--resume", "--out", out)
    assert done.code == 0, done.err
    assert "other settings" not in done.err
    assert len((out / "metrics.jsonl").read_text().splitlines()) == steps
    again = load_network(out / "last.safetensors").state_dict()
    assert all(bool((whole[name] == again[name]).all()) for name in whole)
    done = cli("train", "--resume", "--out", tmp_path / "none")
    assert (done.code, done.err.count("start without --resume")) == (1, 1)


def test_a_wrong_key_in_a_training_file_names_file_line_and_the_nearest(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('extends = "train/two_stages"\nseeed = 3\n')
    given = ["train", "--data", tmp_path, "--out", tmp_path / "run", "--config", file]
    done = cli(*given)
    assert (done.code, done.err) == (
        2,
        f"gtasr-video: error: {file}:2: unknown key 'seeed' (did you mean 'seed'?)\n",
    )
    file.write_text('extends = "train/two_stages"\n[phases.1]\nbatch = "two"\n')
    done = cli(*given)
    assert (done.code, done.err) == (
        2,
        f"gtasr-video: error: {file}:3: 'phases[1].batch' must be a whole number, not 'two'\n",
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("path", sorted((config_root() / "train").glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_configurations_can_be_read(path: Path) -> None:
    settings = load_config(TrainSettings, f"train/{path.stem}")
    assert sum(schedule(settings)) > 0


def test_two_stages_is_the_method(cli: Cli) -> None:
    phases = load_config(TrainSettings, "train/two_stages").phases
    assert [p.stage for p in phases] == sorted(p.stage for p in phases)
    first, second = [[p for p in phases if p.stage == stage] for stage in (1, 2)]
    assert {p.power for p in first} == {2.5}
    assert [p.steps for p in first] == sorted((p.steps for p in first), reverse=True)
    assert (first[0].steps, first[-1].steps) == (4, 3)
    assert [p.frames for p in first] == sorted(p.frames for p in first)
    assert {(p.steps, p.power) for p in second} == {(3, 1.0)}
    assert sum(p.clips // p.batch for p in second) == 2_000


@pytest.mark.parametrize(
    "wrong",
    [
        *("keep=0", "checkpoint_every=0", "validate_every=0", "validation_clips=0", "ema_clips=0", "clip_gradient=0"),
        *(
            "seed=-1",
            f"seed={2**63}",
            "workers=-1",
            "noise_scale=-1",
            "phases.0.batch=0",
            "phases.0.clips=0",
            "phases.0.frames=0",
        ),
        *("phases.2.refresh=0", "phases.0.power=0", "phases.0.learning_rate=nan", "data.crop=34", "data.crop=6"),
        *("data.lead=-1", "data.crops_per_clip=0", "data.degradation.crf=[31, 16]", "data.degradation.high_crf=20"),
        *("data.motion.shutter=[1, 0]", "data.degradation.crf=20"),
    ],
)
def test_a_number_that_cannot_be_is_named_before_the_run(cli: Cli, wrong: str, tmp_path: Path) -> None:
    """`keep=0` deleted every checkpoint, `clip_gradient=0` trained nothing; others were "not to happen"."""
    key = wrong.partition("=")[0]
    given = ["--config", "train/smoke", "--data", tmp_path, "--set", "tier=s", "--set", wrong, "--set", "amp=false"]
    done = cli("train", *given, "--out", tmp_path / "run")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    field = key.replace(".0.", "[0].").replace(".2.", "[2].")
    assert done.err.startswith(f"gtasr-video: error: --set {key}: '{field}' must be ")
    assert not (tmp_path / "run").exists()
