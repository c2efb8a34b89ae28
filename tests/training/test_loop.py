from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from gtasr_video.device import choose
from gtasr_video.errors import ModelError, TrainingError
from gtasr_video.models import load_model, read_card
from gtasr_video.models.checkpoint import load_network, read_tensors, save_model
from gtasr_video.models.gtasr import TIERS, GTASRVideo
from gtasr_video.ops.degrade import DegradationSettings
from gtasr_video.training.clips import Batch, ClipSource, DataSettings
from gtasr_video.training.loop import train
from gtasr_video.training.run import read_metrics
from gtasr_video.training.schedule import learning_rate, locate, schedule
from gtasr_video.training.settings import Phase, TrainSettings, Weights
from gtasr_video.training.start import network
from gtasr_video.training.state import RunState

CPU = choose("cpu", torch.float32)
RUN_SEED = 3
SILENT = Weights(perceptual=0.0)
STAGE_ONE = Phase(clips=8, batch=2, frames=1, end_share=0.5, warm_up=2, weights=SILENT)


def settings(*phases: Phase, **changes: Any) -> TrainSettings:
    base = TrainSettings(
        phases=phases or (STAGE_ONE,),
        scales=changes.pop("scales", (4,)),
        data=DataSettings(crop=16, region=24, codec="model", degradation=DegradationSettings(other_codec=0.0)),
        checkpoint_every=2,
        validate_every=2,
        validation_clips=4,
        workers=0,
    )
    return dataclasses.replace(base, **changes)


class Killed(BaseException):
    """Stands for a kill: nothing of the loop may catch it."""


def losses(folder: Path) -> list[dict[str, float]]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [{k: v for k, v in line.items() if not k.startswith("perf/")} for line in lines]


def test_a_killed_and_resumed_run_prints_the_same_losses(material: Path, tmp_path: Path) -> None:
    with_judge = dataclasses.replace(SILENT, adversarial=0.01)
    two = dataclasses.replace(STAGE_ONE, frames=2, clips=6, weights=with_judge)
    plan = settings(STAGE_ONE, two)
    train(plan, [material], tmp_path / "whole", device=CPU)

    def kill(line: dict[str, Any]) -> None:
        if line["step"] == 5:
            raise Killed

    with pytest.raises(Killed):
        train(plan, [material], tmp_path / "cut", device=CPU, on_step=kill)
    train(plan, [material], tmp_path / "cut", device=CPU, resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == sum(schedule(plan)) == 7


def test_the_discriminator_learns_where_it_is_asked_and_does_not_ship(material: Path, tmp_path: Path) -> None:
    asked = dataclasses.replace(STAGE_ONE, frames=2, weights=dataclasses.replace(SILENT, adversarial=0.01))
    train(settings(STAGE_ONE, asked), [material], tmp_path, device=CPU)
    kept = [read_tensors(path)[0] for path in sorted((tmp_path / "checkpoints").glob("*.safetensors"))]
    of_judge = [{k: v for k, v in tensors.items() if k.startswith("discriminator.")} for tensors in kept]
    assert kept[0].keys() >= of_judge[0].keys() != set(), "it is there from the start"
    begun, at_end = of_judge[0], of_judge[-1]
    assert any(not begun[name].equal(at_end[name]) for name in begun)
    assert not any("discriminator" in name for name in read_tensors(tmp_path / "last.safetensors")[0])
    asked_about = ["loss/adversarial" in line for line in losses(tmp_path)]
    assert asked_about == [False] * 4 + [True] * 4


def test_no_clip_of_a_run_is_drawn_twice(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    whole = ClipSource.batch

    def batch(source: ClipSource, indices: Sequence[int]) -> Batch:
        if source.seed == RUN_SEED:  # the others are held out
            drawn.extend(indices)
        return whole(source, indices)

    monkeypatch.setattr(ClipSource, "batch", batch)
    plan = settings(STAGE_ONE, dataclasses.replace(STAGE_ONE, batch=3, clips=9), seed=RUN_SEED)
    train(plan, [material], tmp_path / "run", device=CPU)
    assert len(drawn) >= 17
    assert len(set(drawn)) == len(drawn)


def test_a_resumed_run_says_what_it_changes_and_is_judged_by_the_same_clips(
    material: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    silent = dataclasses.replace(STAGE_ONE, learning_rate=0.0, final_learning_rate=0.0)
    train(settings(silent, vgg="none"), [material], tmp_path / "run", device=CPU)
    caplog.clear()
    more = dataclasses.replace(silent, clips=12)
    train(settings(more, vgg="none", seed=5), [material], tmp_path / "run", device=CPU, resume=True)
    assert f"{tmp_path / 'run'}: goes on with other settings than it began with: phases, seed" in caplog.text
    scores = [line["validation/psnr_gain"] for line in losses(tmp_path / "run") if "validation/psnr_gain" in line]
    assert len(scores) == 3
    assert scores[1:] == pytest.approx(scores[:1] * 2, abs=1e-6)
    caplog.clear()
    train(settings(more, vgg="none", seed=5), [material], tmp_path / "run", device=CPU, resume=True)
    assert "other settings" not in caplog.text


def test_a_run_of_pictures_alone_learns_to_hold_nothing(material: Path, tmp_path: Path) -> None:
    train(settings(), [material], tmp_path / "run", device=CPU)
    hold = load_network(tmp_path / "run" / "last.safetensors").adapter.hold
    assert hold.bias is not None
    assert float(hold.bias.detach().max()) < -40


def test_both_stages_run_and_leave_weights_that_upscale(material: Path, vgg: Path, tmp_path: Path) -> None:
    loud = Weights(perceptual=0.02)
    first = dataclasses.replace(STAGE_ONE, clips=4, weights=loud, perceptual_crops=1, perceptual_size=32)
    second = dataclasses.replace(first, stage=2, frames=3, steps=3, power=1.0, refresh=1)
    plan = settings(first, second, vgg=str(vgg), vgg_layers=1, noise_scale=0.1, licence="Apache-2.0")
    best = train(plan, [material], tmp_path / "run", device=CPU)
    lines = losses(tmp_path / "run")
    names = [{k for k in line if k.startswith("loss/")} for line in lines]
    assert names[0] == {"loss/ct", "loss/ta", "loss/guide"}
    assert names[-1] == {"loss/ct", "loss/guide", "loss/dtm", "loss/rect", "loss/tta", "loss/trect"}
    assert [line["stage"] for line in lines] == [1, 1, 2, 2]
    assert all(torch.isfinite(torch.tensor(line[k])) for line in lines for k in line if k.startswith("loss/"))
    card = read_card(best)
    assert card.architecture.tier == "s"
    assert card.licence == "Apache-2.0"
    assert card.noise_scale == 0.1
    model = load_model(str(best))
    y, _ = model.step(torch.zeros(1, 3, 16, 16), model.initial(1, 16, 16))
    assert y.shape == (1, 3, 64, 64)


def test_without_vgg_weights_charbonnier_stands_in_and_it_is_said(
    material: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loud = dataclasses.replace(STAGE_ONE, clips=2, weights=Weights(perceptual=0.02))
    train(settings(loud), [material], tmp_path / "unset", device=CPU)
    assert "no VGG16 weights given" in caplog.text
    caplog.clear()
    train(settings(loud, vgg="none"), [material], tmp_path / "none", device=CPU)
    assert "VGG16" not in caplog.text
    assert losses(tmp_path / "none") == losses(tmp_path / "unset")
    assert all("validation/vgg_ratio" not in line for line in losses(tmp_path / "none"))
    with pytest.raises(ModelError, match=r"gone\.npz: no such file of VGG16 weights"):
        train(settings(loud, vgg="gone.npz"), [material], tmp_path / "gone", device=CPU)


def test_tier_and_noise_follow_the_weights_a_run_starts_from(material: Path, tmp_path: Path) -> None:
    train(settings(tier="m", noise_scale=0.25), [material], tmp_path / "first", device=CPU)
    init = tmp_path / "first" / "last.safetensors"
    train(settings(), [material], tmp_path / "second", device=CPU, init=init)
    train(settings(), [material], tmp_path / "second", device=CPU, resume=True)
    card = read_card(tmp_path / "second" / "last.safetensors")
    assert (card.architecture.tier, card.noise_scale) == ("m", 0.25)
    assert json.loads((tmp_path / "second" / "run.json").read_text())["settings"]["tier"] == "m"


def test_a_larger_tier_goes_on_from_a_smaller_one(
    material: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(settings(), [material], tmp_path / "small", device=CPU)
    init = tmp_path / "small" / "last.safetensors"
    plan = settings(dataclasses.replace(STAGE_ONE, learning_rate=0.0, final_learning_rate=0.0, clips=1), tier="m")
    train(plan, [material], tmp_path / "large", device=CPU, init=init)
    assert "holds tier 's'; tier 'm' is grown from it" in caplog.text
    small, large = load_network(init), load_network(tmp_path / "large" / "last.safetensors")
    assert large.architecture.tier == "m"
    clip = torch.rand(1, 2, 3, 16, 16) * 2 - 1
    with torch.inference_mode():
        assert torch.allclose(large(clip), small(clip), atol=1e-5)


def test_a_new_scale_beside_old_weights_is_said(
    material: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(settings(), [material], tmp_path / "four", device=CPU)
    two = dataclasses.replace(STAGE_ONE, scale=2, clips=2)
    train(settings(two, scales=(2,)), [material], tmp_path / "two", device=CPU, init=tmp_path / "four/last.safetensors")
    assert "has weights for x4 only; what is particular to x2 is derived from them" in caplog.text


def test_a_phase_of_another_scale_can_learn_its_adapter_alone(material: Path, tmp_path: Path) -> None:
    train(settings(scales=(4, 2)), [material], tmp_path / "four", device=CPU)
    plan = settings(dataclasses.replace(STAGE_ONE, scale=2, learn="adapter", frames=2), scales=(4, 2))
    init = tmp_path / "four" / "last.safetensors"
    train(plan, [material], tmp_path / "two", device=CPU, init=init)
    before = load_network(init).state_dict()
    after = load_network(tmp_path / "two" / "last.safetensors").state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("adapters.x2.") for name in changed)
    assert "adapters.x2.head.weight" in changed
    model = load_model(str(tmp_path / "two" / "best.safetensors"), scale=2)
    y, _ = model.step(torch.zeros(1, 3, 16, 16), model.initial(1, 16, 16))
    assert y.shape == (1, 3, 32, 32)


def test_a_path_without_a_step_between_is_refused() -> None:
    with pytest.raises(ValueError, match="steps must be 2 at least, not 1"):
        dataclasses.replace(STAGE_ONE, steps=1)


def test_moments_come_back_in_the_memory_layout_of_their_weights() -> None:
    """Where one differs, AdamW on a GPU takes all tensors one by one, and rounds otherwise."""

    def state_after_a_step() -> RunState:
        plan = settings().settled("s", 0.0)
        model = network(plan, None, CPU)
        state = RunState.new(model, plan)
        sum(p.square().sum() for p in model.parameters()).backward()
        state.optimizer.step()
        return state

    def layouts(state: RunState) -> list[tuple[tuple[int, ...], ...]]:
        held = state.optimizer.state
        return [(p.stride(), held[p]["exp_avg"].stride(), held[p]["exp_avg_sq"].stride()) for p in held]

    before, after = state_after_a_step(), state_after_a_step()
    after.restore(before.tensors())
    assert layouts(after) == layouts(before)
    assert all(len(set(one)) == 1 for one in layouts(after))
    for one, other in zip(before.optimizer.state.values(), after.optimizer.state.values(), strict=True):
        assert torch.equal(one["exp_avg"], other["exp_avg"])


def test_a_phase_of_a_scale_the_run_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a phase trains scale 2, which scales = \[4\] leaves out"):
        settings(dataclasses.replace(STAGE_ONE, scale=2))


def test_training_lowers_the_loss(material: Path, tmp_path: Path) -> None:
    phase = dataclasses.replace(STAGE_ONE, clips=80, batch=2, end_share=1.0, learning_rate=1e-3, warm_up=4)
    plan = settings(phase, validate_every=1000, checkpoint_every=1000)
    train(plan, [material], tmp_path / "run", device=CPU)
    # The guide learns within few steps; the rest needs thousands, and differs more between clips than it falls.
    guide = [line["loss/guide"] for line in losses(tmp_path / "run")]
    assert sum(guide[-10:]) < 0.9 * sum(guide[:10])


def test_a_damaged_checkpoint_makes_way_for_the_one_before(material: Path, tmp_path: Path) -> None:
    train(settings(), [material], tmp_path / "run", device=CPU)
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    newest.write_bytes(b"half a file")
    train(settings(), [material], tmp_path / "run", device=CPU, resume=True)
    assert [line["step"] for line in losses(tmp_path / "run")] == [1, 2, 3, 4]


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoints(material: Path, tmp_path: Path) -> None:
    broken = dataclasses.replace(STAGE_ONE, learning_rate=1e30, final_learning_rate=1e30, clips=20)
    with pytest.raises(TrainingError, match=r"loss/\w+ is not a finite number at step"):
        train(settings(broken, checkpoint_every=1), [material], tmp_path / "run", device=CPU)
    assert list((tmp_path / "run" / "checkpoints").glob("step-*.safetensors"))


def test_old_checkpoints_are_dropped_and_nothing_half_written_stays(material: Path, tmp_path: Path) -> None:
    train(settings(checkpoint_every=1, keep=2), [material], tmp_path / "run", device=CPU)
    names = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["step-00000003.safetensors", "step-00000004.safetensors"]
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["settings"]["tier"] == "s"


def test_requests_that_cannot_be_met_are_refused_in_one_line(material: Path, vgg: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(settings(), [material], run, device=CPU)
    larger = tmp_path / "m.safetensors"
    save_model(larger, GTASRVideo(TIERS["m"], (4,)))
    cases: list[tuple[str, dict[str, Any]]] = [
        ("already holds a run", {"plan": settings(), "data": material, "out": run}),
        ("no checkpoint to resume", {"plan": settings(), "data": material, "out": tmp_path / "n", "resume": True}),
        (
            "a checkpoint of tier s, the run trains tier m",
            {"plan": settings(tier="m"), "data": material, "out": run, "resume": True},
        ),
        (
            "a checkpoint of scale 4, the run trains scale 4,2",
            {"plan": settings(scales=(4, 2)), "data": material, "out": run, "resume": True},
        ),
        (
            "a checkpoint of noise_scale 0.0, the run trains noise_scale 0.5",
            {"plan": settings(noise_scale=0.5), "data": material, "out": run, "resume": True},
        ),
        (
            "a checkpoint of a run; give --init its best.safetensors",
            {
                "plan": settings(),
                "data": material,
                "out": tmp_path / "c",
                "init": next((run / "checkpoints").iterdir()),
            },
        ),
        (
            "holds tier 'm', the run trains 's'",
            {"plan": settings(tier="s"), "data": material, "out": tmp_path / "i", "init": larger},
        ),
        ("no training data at", {"plan": settings(), "data": tmp_path / "nothing", "out": tmp_path / "e"}),
    ]
    for message, case in cases:
        plan, data, out = case.pop("plan"), case.pop("data"), case.pop("out")
        with pytest.raises(TrainingError, match=message) as caught:
            train(plan, [data], out, device=CPU, **case)
        assert "\n" not in str(caught.value)


def test_progress_is_counted_in_clips() -> None:
    plan = settings(dataclasses.replace(STAGE_ONE, clips=10, batch=4), dataclasses.replace(STAGE_ONE, clips=4, batch=2))
    assert schedule(plan) == [3, 2]
    assert [locate(plan, s).phase for s in range(6)] == [0, 0, 0, 1, 1, 2]
    assert locate(plan, 4).clips == 14


def test_the_learning_rate_rises_then_falls() -> None:
    phase = Phase(clips=1000, batch=10, warm_up=100, learning_rate=1e-3, final_learning_rate=1e-5)
    rates = [learning_rate(phase, c) for c in range(0, 1001, 10)]
    assert rates[0] == pytest.approx(1e-4, rel=0.01)
    assert max(rates) == pytest.approx(1e-3, rel=0.05)
    assert rates[-1] == pytest.approx(1e-5)
    assert rates[9:] == sorted(rates[9:], reverse=True)
