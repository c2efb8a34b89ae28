"""What a training run is: every number of it, with defaults; TOML files hold only the differences."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from gtasr_video.config import BadValue, at_least, nearest
from gtasr_video.models.consistency import Path as ConsistencyPath
from gtasr_video.models.gtasr import TIERS
from gtasr_video.training.clips import DataSettings


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the terms of the loss; 0 leaves a term out, and its computation too.

    perceptual  of the VGG16 distance within each distance d = Charbonnier + perceptual * VGG16 distance. The paper
                has 0.5 and 0.5 with LPIPS, whose values are about a tenth of this distance's.
    The others follow the method: consistency (CT), trajectory (TA, stage I), guide (DRSR's maps), dtm (DTM with
    stabilisation) and rectification (stage II), temporal_trajectory (TTA) and temporal_rectification. Four that it
    does not have: similarity, of 1 - SSIM; color, of the difference of mean colours of output and input; distillation,
    of the distance to what the run's `teacher` makes of the same point of the path; adversarial, of how made a
    discriminator, which learns beside the network, finds the frame and its change.
    """

    perceptual: float = 0.02
    consistency: float = 1.0
    trajectory: float = 0.5
    guide: float = 0.1
    dtm: float = 0.8
    rectification: float = 1.0
    temporal_trajectory: float = 0.5
    temporal_rectification: float = 0.1
    similarity: float = 0.0
    color: float = 0.0
    distillation: float = 0.0
    adversarial: float = 0.0

    @property
    def looks_at_windows(self) -> bool:
        """Whether a term looks at windows of the pictures, not at all of them."""
        return bool(self.perceptual or self.adversarial)


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of a run: a stage of the method, a clip length and a learning rate.

    stage             1: consistency + trajectory alignment; 2: dual-reference structural rectification
    scale             enlargement this phase trains; one of the run's `scales`
    learn             all weights, or those of the scale's adapter alone, which leaves the other scales as they are
    clips             training clips this phase sees
    frames, batch     frames a clip, clips an optimiser step
    steps, power      of the path: N, 2 at least, and p
    end_share         share of clips whose t is N, where inference happens; the rest is uniform in 1..N
    learning_rate     after `warm_up` clips, falling to `final_learning_rate` along a cosine
    perceptual_crops  HR windows at each frame that the VGG16 distance looks at, `perceptual_size` pixels a side; the
                      discriminator as many
    perceptual_frames frames of a clip that they, DTM and rectification look at, drawn anew each step and standing for
                      all; 0: every frame. On a CPU the VGG16 network costs more than the rest of a step
    refresh           stage 2: optimiser steps between refreshes of the frozen copy
    memory            False treats every frame as the first of its scene: what the reference adds is then never learned
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
    perceptual_frames: int = 0
    refresh: int = 200
    memory: bool = True
    weights: Weights = field(default_factory=Weights)

    def __post_init__(self) -> None:
        at_least(1, self, "clips", "frames", "batch", "refresh", "perceptual_crops", "perceptual_size")
        at_least(0, self, "warm_up", "perceptual_frames", "learning_rate", "final_learning_rate", "end_share")
        if not self.power > 0:
            raise BadValue("power", "above 0", self.power)
        if self.steps < 2:
            raise ValueError(f"steps must be 2 at least, not {self.steps}: without one between there is no trajectory")

    def path(self, noise_scale: float) -> ConsistencyPath:
        """Return the path this phase trains on."""
        return ConsistencyPath(self.steps, self.power, noise_scale)


Part = Literal[
    "perceptual",
    "consistency",
    "trajectory",
    "guide",
    "dtm",
    "rectification",
    "temporal_trajectory",
    "temporal_rectification",
    "similarity",
    "color",
    "distillation",
    "adversarial",
    "memory",
]


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """A whole run.

    init              weights to start from, a tier or a file; the command line's --init goes before it
    teacher           weights, a tier or a file, whose outputs phases with a weight for distillation try to match
    tier              of the network; ``auto``: that of the weights it starts from, and s without any
    scales            enlargements it learns
    noise_scale       of the path, stored with the weights; None: that of the weights it starts from, and 0 without any
    phases            in order
    without           parts of the method left out in every phase, for ablations: terms of `Weights`, or ``memory``
    seed              of everything drawn; the same seed, files and machine give the same run on CPUs, and on a GPU
                      one that differs by rounding
    vgg               file of the VGG16 weights (.npz or .safetensors), or ``none``: Charbonnier alone is then every
                      distance. Not given, it is ``none`` with a warning. Not read where all perceptual weights are 0
    vgg_layers        depth of the distance used as a loss (1..4)
    amp               bf16 for the network where the device has it in hardware
    compile           let torch.compile translate the trunk; needs a C++ compiler or Triton, and takes a minute at first
    ema_clips         half-life of the averaged weights, in clips
    clip_gradient     largest norm of the gradient
    checkpoint_every, keep   optimiser steps between checkpoints; how many of the last are kept
    validate_every    optimiser steps between validations on `validation_clips` held-out clips
    workers           data processes
    licence, data_note  go into the weights' card
    """

    init: str = ""
    teacher: str = ""
    tier: str = "auto"
    scales: tuple[int, ...] = (4,)
    noise_scale: float | None = None
    phases: tuple[Phase, ...] = (Phase(),)
    without: tuple[Part, ...] = ()
    data: DataSettings = field(default_factory=DataSettings)
    seed: int = 0
    vgg: str = ""
    vgg_layers: int = 3
    amp: bool = True
    compile: bool = False
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
        at_least(1, self, "ema_clips", "checkpoint_every", "keep", "validate_every", "validation_clips")
        at_least(0, self, "seed", "workers")
        if self.seed >= 2**63:  # more than torch's generators take
            raise BadValue("seed", "below 2**63", self.seed)
        if not self.clip_gradient > 0:  # 0 would let nothing move
            raise BadValue("clip_gradient", "above 0", self.clip_gradient)
        if self.noise_scale is not None:
            at_least(0, self, "noise_scale")
        if self.tier not in ("auto", *TIERS):
            hint = nearest(self.tier, TIERS)
            raise ValueError(f"tier must be one of auto, {', '.join(TIERS)}, not '{self.tier}'{hint}")
        if not self.phases or not self.scales:
            raise ValueError("phases and scales must not be empty")
        for phase in self.phases:
            if phase.scale not in self.scales:
                raise ValueError(f"a phase trains scale {phase.scale}, which scales = {list(self.scales)} leaves out")

    @property
    def wants_discriminator(self) -> bool:
        """Whether any phase has a weight for the adversarial term."""
        return any(phase.weights.adversarial for phase in self.phases)

    @property
    def wants_perceptual(self) -> bool:
        """Whether any phase has a weight for the perceptual distance."""
        return any(phase.weights.perceptual for phase in self.phases)

    def settled(self, tier: str, noise_scale: float) -> TrainSettings:
        """Return these settings with nothing left open: what was ``auto`` or None is as given, `without` is applied."""
        phases = tuple(_reduced(phase, self.without) for phase in self.phases)
        kept = noise_scale if self.noise_scale is None else self.noise_scale
        chosen = tier if self.tier == "auto" else self.tier
        return dataclasses.replace(self, tier=chosen, noise_scale=kept, phases=phases)


def _reduced(phase: Phase, without: tuple[Part, ...]) -> Phase:
    weights = dataclasses.replace(phase.weights, **{name: 0.0 for name in without if name != "memory"})
    return dataclasses.replace(phase, weights=weights, memory=phase.memory and "memory" not in without)
