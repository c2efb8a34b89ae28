"""One optimiser step: the loss of a batch, its gradient, the move. What goes wrong leaves the weights as they were."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from gtasr_video.device import Device, is_out_of_memory
from gtasr_video.errors import TrainingError
from gtasr_video.training.draw import Draw
from gtasr_video.training.memory import too_large
from gtasr_video.training.objective import Objective, Pictures, Terms
from gtasr_video.training.ranks import Ranks
from gtasr_video.training.settings import Phase, TrainSettings
from gtasr_video.training.state import RunState


class NotFinite(ArithmeticError):  # noqa: N818
    """A term of the loss, or its gradient, is infinite or not a number; the message names it and the step."""


class Stepper:
    """Takes the optimiser steps of phase `number`, whose loss is `objective`."""

    def __init__(
        self, settings: TrainSettings, number: int, objective: Objective, state: RunState, device: Device, ranks: Ranks
    ) -> None:
        self.settings, self.number, self.objective = settings, number, objective
        self.state, self.device, self.ranks = state, device, ranks
        self.phase = objective.phase

    def step(self, pictures: Pictures, rate: float) -> dict[str, Any]:
        """Take one optimiser step at learning rate `rate` and return its line of metrics.

        Raises NotFinite naming the term, and TrainingError, with a size that fits, where memory runs out.
        """
        state = self.state
        learned = self._learn_if_it_fits(pictures, rate)
        if isinstance(learned, str):
            raise too_large(state.step + 1, self.number, self.phase, pictures, learned, self._fits, self.ranks.count)
        values, norm = learned
        state.average(self.phase.batch, self.settings.ema_clips)
        state.step += 1
        return {
            "step": state.step,
            "stage": self.phase.stage,
            "phase": self.number,
            **values,
            "learning_rate": rate,
            "gradient": norm,
        }

    def _learn_if_it_fits(self, pictures: Pictures, rate: float) -> tuple[dict[str, float], float] | str:
        """Return why, where memory runs out: the error itself ends here, as its traceback holds the step's tensors."""
        try:
            return self._learn(pictures, rate)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                return (str(error).strip() or type(error).__name__).splitlines()[0]
            if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                reason = str(error).strip().splitlines()[0]
                raise TrainingError(f"torch.compile failed ({reason}); --set compile=false does without") from error
            raise

    def _learn(self, pictures: Pictures, rate: float) -> tuple[dict[str, float], float]:
        """Move the weights; return the loss with its terms, and the norm of the network's gradient before clipping."""
        optimizer = self.state.optimizer
        terms, loss = self._loss(self.objective, pictures)
        together = torch.stack([loss.detach(), *(term.detach() for term in terms.values())])
        values = dict(zip(["loss", *terms], self.ranks.mean(together).tolist(), strict=True))
        if broken := [name for name in terms if not math.isfinite(values[name])]:
            raise NotFinite(f"{broken[0]} is not a finite number at step {self.state.step + 1}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.ranks.average_gradients(self.state.weights())
        clip = self.settings.clip_gradient
        norms = [float(clip_grad_norm_(learner.parameters(), clip)) for learner in self.state.learners()]
        if not all(map(math.isfinite, norms)):
            raise NotFinite(
                f"the gradient of {self._guilty(pictures)} is not a finite number at step {self.state.step + 1}"
            )
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        return values, norms[0]

    def _loss(self, objective: Objective, pictures: Pictures) -> tuple[Terms, Tensor]:
        draw = Draw.of(self.settings.seed, self.state.step, self.ranks)
        amp = self.settings.amp and self.device.dtype != torch.float32
        with torch.autocast(self.device.torch_device.type, dtype=torch.bfloat16, enabled=amp):
            terms = objective.terms(pictures, draw)
            return terms, objective.total(terms)

    def _guilty(self, pictures: Pictures) -> str:
        """Return the first term whose gradient alone is not finite, found by computing each again."""
        names = list(self._loss(self.objective, pictures)[0])
        for name in names:
            self.state.optimizer.zero_grad(set_to_none=True)
            terms, _ = self._loss(self.objective, pictures)
            terms[name].backward()  # type: ignore[no-untyped-call]
            gradients = [p.grad for p in self.state.weights() if p.grad is not None]
            if not all(bool(g.isfinite().all()) for g in gradients):
                return name
        return "the loss"

    def _fits(self, phase: Phase, pictures: Pictures) -> bool:
        """Return whether loss and gradient of a smaller step fit into memory."""
        smaller = self.objective.at(phase)
        self.state.optimizer.zero_grad(set_to_none=True)
        try:
            _, loss = self._loss(smaller, pictures)
            loss.backward()  # type: ignore[no-untyped-call]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True
