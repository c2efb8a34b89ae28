"""The training loop.

A run is a list of phases. Each optimiser step draws a batch of clips by number, unrolls the network over their frames,
sums the terms of the phase's stage, and moves the weights by AdamW (with those of the discriminator, where a phase has
one); an exponential average of the weights is what is
validated and shipped. Progress is counted in clips seen. Everything random follows from (seed, step), so that the
state of a run is: weights, average, the optimiser's moments, and the number of the step. A killed run goes on where
its last checkpoint was: on CPUs to the same bit, on a GPU to rounding, as gradients are summed in no fixed order there.

Several processes (torchrun) take one step together: each its share of the same batch and draws, gradients averaged.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gtasr_video.device import Device
from gtasr_video.ending import ending_well
from gtasr_video.errors import TrainingError
from gtasr_video.models.gtasr import GTASRVideo
from gtasr_video.training.clips import ClipSource, Loader
from gtasr_video.training.losses import Perceptual
from gtasr_video.training.objective import Objective, Pictures
from gtasr_video.training.ranks import Ranks, joined
from gtasr_video.training.record import Recorder
from gtasr_video.training.run import Run
from gtasr_video.training.schedule import Place, learning_rate, locate, schedule
from gtasr_video.training.settings import Phase, TrainSettings
from gtasr_video.training.start import network, perceptual_distance, settle, teacher_of
from gtasr_video.training.state import RunState
from gtasr_video.training.step import NotFinite, Stepper

Line = dict[str, Any]

_log = logging.getLogger("gtasr_video")


def train(
    settings: TrainSettings,
    data: Sequence[Path],
    out: Path,
    *,
    device: Device,
    init: Path | None = None,
    resume: bool = False,
    on_step: Callable[[Line], None] | None = None,
) -> Path:
    """Train by `settings` on the pictures and videos in `data`; write checkpoints, metrics and weights to `out`.

    init     weights to start from (a .safetensors file of the same tier)
    resume   go on from the last checkpoint in `out`
    on_step  called with each line of ``metrics.jsonl`` as it is written
    Returns the path of the best weights. Raises TrainingError, and KeyboardInterrupt after Ctrl-C, SIGTERM or SIGHUP:
    the first ends the run after the step it is at, with a checkpoint, the second at once.
    """
    with joined(device) as ranks, Run(out, resume=resume, writes=ranks.is_first) as run:
        settings = settle(settings, init, run, resume=resume)
        teacher = teacher_of(settings, device)
        state = RunState.new(network(settings, init, device), settings)
        if resume:
            run.load(state)
        ranks.check(settings, state.step, device.torch_device)
        perceptual = perceptual_distance(settings, device)  # before the material, which takes long to read
        # What a phase lacks is said now, not when its turn has come.
        largest = dataclasses.replace(
            settings.data,
            scale=max(phase.scale for phase in settings.phases),
            frames=max(phase.frames for phase in settings.phases),
        )
        source = ClipSource(data, largest, settings.seed, ClipSource.place(settings.data, device.torch_device))
        recorder = None
        if ranks.is_first:
            if resume:
                run.warn_of_changes(settings)
            run.describe(settings, data, source.summary(), device)
            run.forget_after(state.step)
            recorder = Recorder(run, settings, source, perceptual, device)
        try:
            with _wish_to_stop(ranks) as wish:
                for line in steps(settings, state, source, perceptual, teacher, device, ranks):
                    if recorder is not None:
                        recorder.record(line, state, on_step)
                    if wish.is_set() and recorder is not None and state.step < recorder.total:
                        run.save(state, settings)
                        _log.info("stopped after step %d; train --resume --out %s goes on", state.step, out)
                        raise KeyboardInterrupt
        except NotFinite as error:
            good = run.drop(state.step) if ranks.is_first else "stopped"
            number = locate(settings, state.step).phase
            raise TrainingError(
                f"{error}; {good}: lower phases.{number}.learning_rate, or --resume with another --set seed=N"
            ) from error
        return run.result


@contextmanager
def _wish_to_stop(ranks: Ranks) -> Iterator[threading.Event]:
    """Yield what is set at the first signal to end; never where several processes train: they must stop as one."""
    wish = threading.Event()

    def end() -> None:
        _log.info("ending after this step, with a checkpoint; a second signal ends at once, without")
        wish.set()

    if ranks.count > 1:
        yield wish
        return
    with ending_well(end):
        yield wish


def steps(
    settings: TrainSettings,
    state: RunState,
    source: ClipSource,
    perceptual: Perceptual | None,
    teacher: GTASRVideo | None,
    device: Device,
    ranks: Ranks,
) -> Iterator[Line]:
    """Take the rest of the steps of a run, yielding a line of metrics after each; `state` is then the step's."""
    total = sum(schedule(settings))
    while state.step < total:
        place = locate(settings, state.step)
        phase = settings.phases[place.phase]
        _begin(state, settings, place)
        frozen, listened_to = _frozen(state, phase, place.step_in_phase), _ready(teacher, phase)
        judge = state.discriminator if phase.weights.adversarial else None
        objective = Objective(state.model, phase, perceptual, frozen, listened_to, judge, ranks)
        drawn = source.with_settings(dataclasses.replace(settings.data, frames=phase.frames, scale=phase.scale))
        part = (ranks.rank, ranks.count)
        batches = Loader(drawn, phase.batch, _first_batch(place, phase), workers=settings.workers, part=part)
        stepper = Stepper(settings, place.phase, objective, state, device, ranks)
        begun = time.monotonic()
        numbers = range(place.step_in_phase, schedule(settings)[place.phase])
        for step_in_phase, batch in zip(numbers, batches, strict=False):
            waited = time.monotonic() - begun
            objective.frozen = _frozen(state, phase, step_in_phase)
            pictures = Pictures.of(batch, device.torch_device, ranks)
            line = stepper.step(pictures, learning_rate(phase, step_in_phase * phase.batch))
            took = max(time.monotonic() - begun, 1e-9)
            yield line | {"perf/clips_per_second": phase.batch / took, "perf/wait": waited / took}
            begun = time.monotonic()


def _first_batch(place: Place, phase: Phase) -> int:
    """Return the number of the batch that the step at `place` sees: none of the run's clips is drawn twice."""
    of_earlier_phases = place.clips - place.step_in_phase * phase.batch
    return math.ceil(of_earlier_phases / phase.batch) + place.step_in_phase


def _begin(state: RunState, settings: TrainSettings, place: Place) -> None:
    """Make the network ready for a phase: its scale, its path, which weights learn."""
    phase = settings.phases[place.phase]
    state.model.scale = phase.scale
    state.model.path = phase.path(state.model.noise_scale)
    state.model.requires_grad_(phase.learn == "all")
    state.model.adapter.requires_grad_(True)
    if place.phase and place.step_in_phase == 0 and settings.phases[place.phase - 1].scale != phase.scale:
        state.best = float("inf")  # scores of different scales cannot be compared


def _frozen(state: RunState, phase: Phase, step_in_phase: int) -> GTASRVideo | None:
    """Return stage II's frozen copy, renewed where that is due; None in stage I."""
    if phase.stage == 1:
        return None
    frozen = state.frozen_copy(refresh=step_in_phase % phase.refresh == 0)
    frozen.scale = phase.scale
    return frozen


def _ready(teacher: GTASRVideo | None, phase: Phase) -> GTASRVideo | None:
    """Return the teacher at the scale of `phase`; None where there is nothing to learn from it."""
    if teacher is None or not phase.weights.distillation:
        return None
    teacher.scale = phase.scale
    return teacher
