"""Where in a run an optimiser step is, and how fast it learns there. Progress is counted in clips seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gtasr_video.training.settings import Phase, TrainSettings


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a run an optimiser step is: phase number, step within it, clips seen before it."""

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
