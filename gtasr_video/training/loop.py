"""The training loop.

A run is a list of phases. Each optimiser step draws a batch of clips by number, unrolls the network over their frames,
sums the terms of the phase's stage, and moves the weights by AdamW; an exponential average of the weights is what is
validated and shipped. Progress is counted in clips seen. Everything random follows from (seed, step), so that the
state of a run is: weights, average, the optimiser's moments, and the number of the step. A killed run goes on exactly
where its last checkpoint was.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gtasr_video.device import Device
from gtasr_video.errors import TrainingError
from gtasr_video.models.checkpoint import load_network, save_model
from gtasr_video.models.gtasr import TIERS, GTASRVideo
from gtasr_video.models.vgg import VGGDistance
from gtasr_video.training.clips import ClipSource, Loader
from gtasr_video.training.objective import Draw, Objective, Pictures
from gtasr_video.training.run import Run, RunState
from gtasr_video.training.settings import Phase, TrainSettings
from gtasr_video.training.validation import Validation


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a run an optimiser step is: phase number, step within it, clips it has seen."""

    phase: int
    step_in_phase: int
    clips: int


def schedule(settings: TrainSettings) -> list[int]:
    """Return the number of optimiser steps of each phase."""
    return [max(1, math.ceil(p.clips / p.batch)) for p in settings.phases]


def locate(settings: TrainSettings, step: int) -> Place:
    """Return the place of global step `step` (from 0)."""
    clips = 0
    for number, (phase, count) in enumerate(zip(settings.phases, schedule(settings), strict=True)):
        if step < count:
            return Place(number, step, clips + step * phase.batch)
        step -= count
        clips += count * phase.batch
    return Place(len(settings.phases), 0, clips)


def learning_rate(phase: Phase, clips: float) -> float:
    """Return the learning rate after `clips` clips of `phase`: linear warm-up, then a cosine."""
    rising = min(1.0, (clips + phase.batch) / max(phase.warm_up, 1))
    falling = 0.5 * (1 + math.cos(math.pi * min(1.0, clips / phase.clips)))
    low = phase.final_learning_rate
    return rising * (low + (phase.learning_rate - low) * falling)


def train(
    settings: TrainSettings,
    data: Sequence[Path],
    out: Path,
    *,
    device: Device,
    init: Path | None = None,
    resume: bool = False,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Train by `settings` on the pictures and videos in `data`; write checkpoints, metrics and weights to `out`.

    init     weights to start from (a .safetensors file of the same tier)
    resume   go on from the last checkpoint in `out`, exactly
    on_step  called with each line of ``metrics.jsonl`` as it is written
    Returns the path of the best weights. Raises TrainingError.
    """
    run = Run(out, resume=resume)
    model = _network(settings, init).to(device.torch_device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = RunState.new(model, settings)
    if resume:
        run.load(state, settings)
    largest = dataclasses.replace(settings.data, scale=max(p.scale for p in settings.phases))
    source = ClipSource(data, largest, settings.seed)
    perceptual = _perceptual(settings, device)
    judges: dict[int, Validation] = {}
    run.describe(settings, data, source.summary(), device)
    total = sum(schedule(settings))
    while state.step < total:
        place = locate(settings, state.step)
        scale = settings.phases[place.phase].scale
        if scale not in judges:
            judges[scale] = Validation(settings, scale, source, perceptual, device)
        objective = _objective(settings, place, state, perceptual)
        for line in _phase(settings, place, objective, state, source, device, run, judges[scale], total):
            run.log(line)
            if on_step:
                on_step(line)
    return run.finish(state, settings, locate(settings, state.step).clips)


def _network(settings: TrainSettings, init: Path | None) -> GTASRVideo:
    torch.manual_seed(settings.seed)
    model = GTASRVideo(TIERS[settings.tier], settings.scales, settings.noise_scale)
    if init is not None:
        start = load_network(init)
        if start.architecture != model.architecture:
            raise TrainingError(f"{init}: holds tier '{start.architecture.tier}', the run trains '{settings.tier}'")
        model.load_state_dict(start.state_dict(), strict=False)
    return model.train()


def _perceptual(settings: TrainSettings, device: Device) -> VGGDistance | None:
    if not any(p.weights.perceptual for p in settings.phases):
        return None
    if settings.vgg is None:
        raise TrainingError(
            "the perceptual loss needs VGG16 weights: --set vgg=FILE, or set every phase's weights.perceptual to 0"
        )
    return VGGDistance(settings.vgg, layers=settings.vgg_layers, dtype=device.dtype).to(device.torch_device)


def _objective(settings: TrainSettings, place: Place, state: RunState, perceptual: VGGDistance | None) -> Objective:
    phase = settings.phases[place.phase]
    state.model.scale = phase.scale
    _let_learn(state.model, phase)
    if place.phase and place.step_in_phase == 0 and settings.phases[place.phase - 1].scale != phase.scale:
        state.best = float("inf")  # scores of different scales cannot be compared
    frozen = None
    if phase.stage == 2:
        frozen = state.frozen_copy(refresh=place.step_in_phase % phase.refresh == 0)
        frozen.scale = phase.scale
    return Objective(state.model, phase, perceptual, frozen)


def _let_learn(model: GTASRVideo, phase: Phase) -> None:
    model.requires_grad_(phase.learn == "all")
    model.adapter.requires_grad_(True)


def _phase(
    settings: TrainSettings,
    place: Place,
    objective: Objective,
    state: RunState,
    source: ClipSource,
    device: Device,
    run: Run,
    validation: Validation,
    total: int,
) -> Iterator[dict[str, Any]]:
    """Run the rest of one phase, yielding a line of metrics a step."""
    phase = settings.phases[place.phase]
    drawn = source.with_settings(dataclasses.replace(settings.data, frames=phase.frames, scale=phase.scale))
    loader = iter(Loader(drawn, phase.batch, place.step_in_phase, workers=settings.workers))
    begun = time.monotonic()
    for step_in_phase in range(place.step_in_phase, schedule(settings)[place.phase]):
        clips = step_in_phase * phase.batch
        batch = next(loader)
        waited = time.monotonic()
        if phase.stage == 2 and step_in_phase % phase.refresh == 0:
            objective.frozen = state.frozen_copy(refresh=True)
        draw = Draw.of(settings.seed, state.step)
        rate = learning_rate(phase, clips)
        terms, norm = optimise(settings, objective, Pictures.of(batch, device.torch_device), draw, state, rate, device)
        state.average(phase.batch, settings.ema_clips)
        state.step += 1
        now = time.monotonic()
        line: dict[str, Any] = {"step": state.step, "stage": phase.stage, "phase": place.phase, **terms}
        line |= {"learning_rate": rate, "gradient": norm}
        if state.step % settings.validate_every == 0 or state.step == total:
            line |= validation.measure(state.averaged())
            run.keep_best(state, settings, place.clips + clips, line["validation/score"])
        line["perf/clips_per_second"] = phase.batch / max(now - begun, 1e-9)
        line["perf/wait"] = (waited - begun) / max(now - begun, 1e-9)
        yield line
        if state.step % settings.checkpoint_every == 0 or state.step == total:
            run.save(state, settings)
        begun = time.monotonic()


def optimise(
    settings: TrainSettings,
    objective: Objective,
    pictures: Pictures,
    draw: Draw,
    state: RunState,
    rate: float,
    device: Device,
) -> tuple[dict[str, float], float]:
    """Take one optimiser step; return the terms of the loss and the norm of the gradient before clipping.

    Raises TrainingError naming the term if a loss is not finite; the weights are then as they were.
    """
    amp = settings.amp and device.dtype != torch.float32
    with torch.autocast(device.torch_device.type, dtype=torch.bfloat16, enabled=amp):
        terms = objective.terms(pictures, draw)
        loss = objective.total(terms)
    values = {name: float(value.detach()) for name, value in terms.items()}
    broken = [name for name, value in values.items() if not math.isfinite(value)]
    if broken:
        raise TrainingError(
            f"{broken[0]} is not a finite number at step {state.step + 1}; lower learning_rate, or go on from the "
            "last checkpoint with --resume and another seed"
        )
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    norm = _clip(list(state.model.parameters()), settings.clip_gradient)
    state.optimizer.step()
    return values, norm


def _clip(parameters: list[Tensor], limit: float) -> float:
    return float(torch.nn.utils.clip_grad_norm_(parameters, limit, error_if_nonfinite=False))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a ``metrics.jsonl``."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


__all__ = ["learning_rate", "locate", "optimise", "read_metrics", "save_model", "schedule", "train"]
