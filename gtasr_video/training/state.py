"""The state of a run: everything that must be remembered to go on exactly."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gtasr_video.models.gtasr import GTASRVideo
from gtasr_video.training.discriminator import Discriminator
from gtasr_video.training.settings import TrainSettings


@dataclass(slots=True)
class RunState:
    """All that a run must remember: network, averaged weights, optimiser, frozen copy, optimiser steps taken.

    discriminator  what the adversarial term asks, learning by the same optimiser; None in a run without that term
    """

    model: GTASRVideo
    ema: dict[str, Tensor]
    optimizer: torch.optim.AdamW
    discriminator: Discriminator | None = None
    step: int = 0
    frozen: GTASRVideo | None = None
    best: float = float("inf")

    @staticmethod
    def new(model: GTASRVideo, settings: TrainSettings) -> RunState:
        """Return the state at the start of a run of `model`."""
        learning = list(model.parameters())
        discriminator = None
        if settings.wants_discriminator:
            torch.manual_seed(settings.seed)  # the same in all processes, whatever they drew before
            discriminator = Discriminator().to(learning[0].device)
            learning += discriminator.parameters()
        rate = settings.phases[0].learning_rate
        optimizer = torch.optim.AdamW(learning, lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
        ema = {k: v.detach().clone() for k, v in model.state_dict().items()}
        return RunState(model, ema, optimizer, discriminator)

    def learners(self) -> list[nn.Module]:
        """Return what the optimiser moves: the network, and the discriminator where there is one."""
        return [self.model] if self.discriminator is None else [self.model, self.discriminator]

    def weights(self) -> list[nn.Parameter]:
        """Return all that the optimiser moves, in its order."""
        return [weight for learner in self.learners() for weight in learner.parameters()]

    @torch.no_grad()
    def average(self, clips: int, half_life: int) -> None:
        """Move the averaged weights towards the live ones, `clips` clips further; quicker while the run is young."""
        half_life = min(half_life, 1 + (self.step + 1) * clips // 8)
        keep = 0.5 ** (clips / half_life)
        for name, value in self.model.state_dict().items():
            self.ema[name].lerp_(value, 1 - keep)

    def averaged(self) -> GTASRVideo:
        """Return a copy of the network with the averaged weights, for validation."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(self.ema)
        return model.eval().requires_grad_(False)

    def frozen_copy(self, *, refresh: bool) -> GTASRVideo:
        """Return stage II's frozen copy g of the network, renewed if asked or if there is none yet."""
        if refresh or self.frozen is None:
            self.frozen = copy.deepcopy(self.model).eval().requires_grad_(False)
        return self.frozen

    def tensors(self) -> dict[str, Tensor]:
        """Return everything but numbers, by name."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.items()}
        if self.frozen is not None:
            tensors |= {f"frozen.{k}": v for k, v in self.frozen.state_dict().items()}
        if self.discriminator is not None:
            tensors |= {f"discriminator.{k}": v for k, v in self.discriminator.state_dict().items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{k}": torch.as_tensor(v) for k, v in moments.items()}
        return {k: v.detach().contiguous().cpu() for k, v in tensors.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` returned."""
        part = _split(tensors)
        self.model.load_state_dict(part["model"])
        for name, value in part["ema"].items():
            self.ema[name].copy_(value)
        if "frozen" in part:
            self.frozen_copy(refresh=True).load_state_dict(part["frozen"])
        if self.discriminator is not None and "discriminator" in part:
            self.discriminator.load_state_dict(part["discriminator"])
        whole = self.optimizer.state_dict()
        weights = self.weights()
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in part.get("optimizer", {}).items():
            number, key = name.split(".", 1)
            moments.setdefault(int(number), {})[key] = _laid_out_like(weights[int(number)], value)
        self.optimizer.load_state_dict({"state": moments, "param_groups": whole["param_groups"]})


def _laid_out_like(weight: Tensor, moment: Tensor) -> Tensor:
    """Return `moment` in the memory layout of its weight: where all are alike, AdamW takes them in one go."""
    return torch.empty_like(weight).copy_(moment) if moment.shape == weight.shape else moment


def _split(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        head, _, rest = name.partition(".")
        parts.setdefault(head, {})[rest] = value
    return parts
