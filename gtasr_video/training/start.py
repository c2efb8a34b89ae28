"""What a run begins with: settings with nothing left open, the network, and the perceptual distance."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from gtasr_video.device import Device
from gtasr_video.errors import TrainingError
from gtasr_video.models.checkpoint import load_network, read_card, read_tensors, weights_path
from gtasr_video.models.grow import can_grow, grow
from gtasr_video.models.gtasr import TIERS, GTASRVideo
from gtasr_video.models.rescale import with_scales
from gtasr_video.models.vgg import VGGDistance
from gtasr_video.training.run import Run
from gtasr_video.training.settings import TrainSettings

_log = logging.getLogger("gtasr_video")


def settle(settings: TrainSettings, init: Path | None, run: Run, *, resume: bool) -> TrainSettings:
    """Return the settings with tier and noise_scale as the run's checkpoint, else `init`, has them where left open.

    Raises TrainingError if the checkpoint or `init` is of another kind than the settings ask for.
    """
    if resume:
        path, kind = run.last_kind()
        settled = settings.settled(kind.get("tier", "s"), float(kind.get("noise_scale", 0.0)))
        scales = ",".join(map(str, settled.scales))
        _same(path, "tier", kind.get("tier"), settled.tier)
        _same(path, "scale", kind.get("scales", scales), scales)
        _same(path, "noise_scale", kind.get("noise_scale"), repr(settled.noise_scale))
        return settled
    if init is None:
        return settings.settled("s", 0.0)
    if "step" in read_tensors(init)[1]:
        raise TrainingError(f"{init}: a checkpoint of a run; give --init its best.safetensors, or go on with --resume")
    card = read_card(init)
    settled = settings.settled(card.architecture.tier, card.noise_scale)
    tier = TIERS[settled.tier]
    if not can_grow(card.architecture, tier):
        raise TrainingError(
            f"{init}: holds tier '{card.architecture.tier}', the run trains '{settled.tier}'; leave out tier, or --init"
        )
    if card.architecture != tier:
        _log.warning("%s: holds tier '%s'; tier '%s' is grown from it", init, card.architecture.tier, settled.tier)
    if new := [s for s in settled.scales if s not in card.scales]:
        has = ", ".join(f"x{s}" for s in card.scales)
        _log.warning("%s: has weights for %s only; what is particular to x%d is derived from them", init, has, new[0])
    if card.noise_scale != settled.noise_scale:
        _log.warning("%s: trained with noise_scale %g, goes on with %g", init, card.noise_scale, settled.noise_scale)
    return settled


def _same(path: Path, what: str, found: str | None, wanted: str) -> None:
    if found is not None and found != wanted:
        raise TrainingError(
            f"{path}: a checkpoint of {what} {found}, the run trains {what} {wanted}; "
            f"resume with the settings it began with, or choose another --out"
        )


def network(settings: TrainSettings, init: Path | None, device: Device) -> GTASRVideo:
    """Return the network to train, on `device`; with the weights of `init` where it has them."""
    torch.manual_seed(settings.seed)
    model = GTASRVideo(TIERS[settings.tier], settings.scales, settings.noise_scale or 0.0)
    if init is not None:
        begun = grow(load_network(init), model.architecture)
        model.load_state_dict(with_scales(begun, settings.scales).state_dict(), strict=False)
    elif not any(phase.memory and phase.frames > 1 for phase in settings.phases):
        model.hold_nothing()
    model.train().to(device.torch_device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if settings.compile:
        model.trunk.compile()
    return model


def perceptual_distance(settings: TrainSettings, device: Device) -> VGGDistance | None:
    """Return the VGG16 distance, or None where no phase wants it or no weights are given; the latter is said."""
    if not settings.wants_perceptual or settings.vgg == "none":
        return None
    if not settings.vgg:
        _log.warning(
            "no VGG16 weights given, so that nothing is asked of how a picture looks: Charbonnier alone is the "
            "distance. Give --vgg FILE, or --vgg none to hear no more of it"
        )
        return None
    return VGGDistance(settings.vgg, layers=settings.vgg_layers, dtype=device.dtype).to(device.torch_device)


def teacher_of(settings: TrainSettings, device: Device) -> GTASRVideo | None:
    """Return the network whose outputs are to be matched, on `device`; None where no phase has a weight for that.

    Raises TrainingError where there is a weight and no teacher, or one whose noise or cells are others: both networks
    look at the same point of the path. Raises ModelError where its weights cannot be read, or lack a scale.
    """
    phases = {n: phase for n, phase in enumerate(settings.phases) if phase.weights.distillation}
    if not phases:
        if settings.teacher:
            _log.warning("no phase has a weight for distillation: nothing is learned from teacher %s", settings.teacher)
        return None
    if not settings.teacher:
        raise TrainingError(f"phases.{min(phases)}.weights.distillation needs a teacher: --set teacher=m, or a file")
    path = weights_path(settings.teacher)
    teacher = load_network(path, tuple({phase.scale: None for phase in phases.values()}))
    if teacher.noise_scale != settings.noise_scale:
        raise TrainingError(
            f"{path}: trained with noise_scale {teacher.noise_scale:g}, which the run has at {settings.noise_scale:g}; "
            f"a teacher needs the same"
        )
    if teacher.architecture.cell != TIERS[settings.tier].cell:
        raise TrainingError(f"{path}: works in cells of other size than tier '{settings.tier}'; take another teacher")
    teacher.eval().requires_grad_(False).to(device.torch_device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return teacher
