"""What a training run is: every number of it, with defaults; TOML files hold only the differences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gtasr_video.models.consistency import Path as ConsistencyPath
from gtasr_video.models.gtasr import TIERS
from gtasr_video.training.clips import DataSettings


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the terms of the loss; 0 leaves a term out, and its computation too.

    perceptual  of the VGG16 distance within each distance d = Charbonnier + perceptual * VGG16 distance. The paper
                has 0.5 and 0.5 with LPIPS, whose values are about a tenth of this distance's.
    The others follow the method: consistency (CT), trajectory (TA, stage I), guide (DRSR's maps), dtm (DTM with
    stabilisation) and rectification (stage II), temporal_trajectory (TTA) and temporal_rectification.
    """

    perceptual: float = 0.02
    consistency: float = 1.0
    trajectory: float = 0.5
    guide: float = 0.1
    dtm: float = 0.8
    rectification: float = 1.0
    temporal_trajectory: float = 0.5
    temporal_rectification: float = 0.1


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of a run: a stage of the method, a clip length and a learning rate.

    stage             1: consistency + trajectory alignment; 2: dual-reference structural rectification
    scale             enlargement this phase trains; one of the run's `scales`
    learn             all weights, or those of the scale's adapter alone, which leaves the other scales as they are
    clips             training clips this phase sees
    frames, batch     frames a clip, clips an optimiser step
    steps, power      of the path: N and p
    end_share         share of clips whose t is N, where inference happens; the rest is uniform in 1..N
    learning_rate     after `warm_up` clips, falling to `final_learning_rate` along a cosine
    perceptual_crops  HR windows an optimiser step that the VGG16 distance looks at, `perceptual_size` pixels a side
    refresh           stage 2: optimiser steps between refreshes of the frozen copy
    """

    stage: Literal[1, 2] = 1
    scale: int = 4
    learn: Literal["all", "adapter"] = "all"
    clips: int = 100_000
    frames: int = 1
    batch: int = 16
    steps: int = 4
    power: float = 2.5
    end_share: float = 0.0
    learning_rate: float = 4e-4
    final_learning_rate: float = 1e-5
    warm_up: int = 2_000
    perceptual_crops: int = 8
    perceptual_size: int = 128
    refresh: int = 200
    weights: Weights = field(default_factory=Weights)

    def path(self, noise_scale: float) -> ConsistencyPath:
        """Return the path this phase trains on."""
        return ConsistencyPath(self.steps, self.power, noise_scale)


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """A whole run.

    tier, scales      the network; noise_scale is stored with its weights
    phases            in order
    seed              of everything drawn; the same seed, files and machine give the same run
    vgg               path of the VGG16 weights (.npz or .safetensors); not needed where all perceptual weights are 0
    vgg_layers        depth of the distance used as a loss (1..4)
    ema_clips         half-life of the averaged weights, in clips
    clip_gradient     largest norm of the gradient
    checkpoint_every, keep   optimiser steps between checkpoints; how many of the last are kept
    validate_every    optimiser steps between validations on `validation_clips` held-out clips
    workers           data processes
    licence, data_note  go into the weights' card
    """

    tier: str = "s"
    scales: tuple[int, ...] = (4,)
    noise_scale: float = 0.0
    phases: tuple[Phase, ...] = (Phase(),)
    data: DataSettings = field(default_factory=DataSettings)
    seed: int = 0
    vgg: str | None = None
    vgg_layers: int = 3
    amp: bool = True
    ema_clips: int = 10_000
    clip_gradient: float = 1.0
    checkpoint_every: int = 500
    keep: int = 3
    validate_every: int = 500
    validation_clips: int = 32
    workers: int = 1
    licence: str = ""
    data_note: str = ""

    def __post_init__(self) -> None:
        if self.tier not in TIERS:
            raise ValueError(f"tier must be one of {', '.join(TIERS)}, not '{self.tier}'")
        if not self.phases or not self.scales:
            raise ValueError("phases and scales must not be empty")
        for phase in self.phases:
            if phase.scale not in self.scales:
                raise ValueError(f"a phase trains scale {phase.scale}, which scales = {list(self.scales)} leaves out")
