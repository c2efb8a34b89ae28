"""A run on disk: its state, checkpoints written atomically, metrics, best weights; and how it is resumed exactly."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gtasr_video.device import Device
from gtasr_video.errors import ModelError, TrainingError
from gtasr_video.models.checkpoint import read_tensors, save_model, write_tensors
from gtasr_video.models.gtasr import GTASRVideo
from gtasr_video.training.settings import TrainSettings


@dataclass(slots=True)
class RunState:
    """All that a run must remember: network, averaged weights, optimiser, frozen copy, optimiser steps taken."""

    model: GTASRVideo
    ema: dict[str, Tensor]
    optimizer: torch.optim.AdamW
    step: int = 0
    frozen: GTASRVideo | None = None
    best: float = float("inf")

    @staticmethod
    def new(model: GTASRVideo, settings: TrainSettings) -> RunState:
        """Return the state at the start of a run of `model`."""
        rate = settings.phases[0].learning_rate
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
        return RunState(model, {k: v.detach().clone() for k, v in model.state_dict().items()}, optimizer)

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
        whole = self.optimizer.state_dict()
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in part.get("optimizer", {}).items():
            number, key = name.split(".", 1)
            moments.setdefault(int(number), {})[key] = value
        self.optimizer.load_state_dict({"state": moments, "param_groups": whole["param_groups"]})


def _split(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        head, _, rest = name.partition(".")
        parts.setdefault(head, {})[rest] = value
    return parts


class Run:
    """The folder of a run: checkpoints, metrics, description (``run.json``), best and last weights.

    Raises TrainingError if the folder holds a run and `resume` is False, or none and it is True.
    """

    def __init__(self, out: Path, *, resume: bool) -> None:
        self.out = out
        self.checkpoints = out / "checkpoints"
        found = sorted(self.checkpoints.glob("step-*.safetensors")) if self.checkpoints.is_dir() else []
        if resume and not found:
            raise TrainingError(f"{out}: no checkpoint to resume from; start without --resume")
        if not resume and (found or (out / "metrics.jsonl").exists()):
            raise TrainingError(f"{out}: already holds a run; go on with --resume, or choose another --out")
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"{out}: cannot be written ({error.strerror})") from error
        self.metrics = out / "metrics.jsonl"

    def load(self, state: RunState, settings: TrainSettings) -> None:
        """Fill `state` from the last checkpoint that can be read; forget metrics that came after it."""
        for path in sorted(self.checkpoints.glob("step-*.safetensors"), reverse=True):
            try:
                tensors, metadata = read_tensors(path)
            except ModelError:
                continue  # a damaged file: the one before it serves
            if metadata.get("tier") != settings.tier:
                raise TrainingError(f"{path}: a checkpoint of tier '{metadata.get('tier')}', not '{settings.tier}'")
            state.restore(tensors)
            state.step = int(metadata["step"])
            state.best = float(metadata["best"])
            self._forget_after(state.step)
            return
        raise TrainingError(f"{self.checkpoints}: no checkpoint can be read")

    def _forget_after(self, step: int) -> None:
        if not self.metrics.exists():
            return
        lines = [line for line in self.metrics.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        self.metrics.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def describe(self, settings: TrainSettings, data: Sequence[Path], summary: str, device: Device) -> None:
        """Write ``run.json``: settings, data and device."""
        facts = {
            "settings": dataclasses.asdict(settings),
            "data": [str(p) for p in data],
            "found": summary,
            "device": device.name,
            "reason": device.reason,
        }
        (self.out / "run.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to ``metrics.jsonl``."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def save(self, state: RunState, settings: TrainSettings) -> None:
        """Write a checkpoint atomically, then drop the oldest beyond ``settings.keep``.

        Raises TrainingError if the disk is full; the checkpoints before stay.
        """
        path = self.checkpoints / f"step-{state.step:08d}.safetensors"
        metadata = {"tier": settings.tier, "step": str(state.step), "best": repr(state.best)}
        try:
            write_tensors(path, state.tensors(), metadata)
        except Exception as error:
            raise TrainingError(f"{path}: cannot be written ({error}); the checkpoints before it are kept") from error
        for old in sorted(self.checkpoints.glob("step-*.safetensors"))[: -settings.keep]:
            old.unlink()

    def keep_best(self, state: RunState, settings: TrainSettings, clips: int, score: float) -> None:
        """Write ``best.safetensors`` (averaged weights) if `score` is the lowest so far."""
        if score < state.best:
            state.best = score
            self._write(self.out / "best.safetensors", state, settings, clips)

    def finish(self, state: RunState, settings: TrainSettings, clips: int) -> Path:
        """Write ``last.safetensors``; return the best weights, or the last where nothing was validated."""
        last, best = self.out / "last.safetensors", self.out / "best.safetensors"
        self._write(last, state, settings, clips)
        return best if best.exists() else last

    def _write(self, path: Path, state: RunState, settings: TrainSettings, clips: int) -> None:
        save_model(path, state.model, tensors=state.ema, clips=clips, licence=settings.licence, data=settings.data_note)
