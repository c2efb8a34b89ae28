"""A run on disk: checkpoints written atomically, metrics, best weights; and how it is found again."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from gtasr_video.device import Device
from gtasr_video.errors import ModelError, TrainingError
from gtasr_video.models.checkpoint import read_tensors, save_model, write_tensors
from gtasr_video.training.settings import TrainSettings
from gtasr_video.training.state import RunState

_log = logging.getLogger("gtasr_video")
_BEST, _LAST = "best.safetensors", "last.safetensors"


class Run:
    """The folder of a run: checkpoints, metrics, description (``run.json``), best and last weights, pictures, report.

    Every file is written whole or not at all, and a disk that is full costs none of those before. As a context
    it leaves no empty folder behind where a run fails before it has begun.
    Raises TrainingError if the folder holds a run and `resume` is False, or no checkpoint and it is True.

    writes  whether this process is the one that writes; the others look for checkpoints alone
    """

    def __init__(self, out: Path, *, resume: bool, writes: bool = True) -> None:
        self.out, self._writes = out, writes
        self.checkpoints = out / "checkpoints"
        self.metrics = out / "metrics.jsonl"
        found = self._newest_first()
        weights = [name for name in (_BEST, _LAST) if (out / name).exists()]
        # A run that was killed before its first checkpoint leaves nothing to go on from, and nothing to lose.
        if not found and weights:
            raise TrainingError(
                f"{out}: its checkpoints are gone; begin in another --out with --init {out / weights[0]}, or delete it"
            )
        if resume and not found:
            raise TrainingError(f"{out}: no checkpoint to resume from; start without --resume")
        if not writes:
            return
        if not resume and found:
            raise TrainingError(f"{out}: already holds a run; go on with --resume, or choose another --out")
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"{out}: cannot be written ({error.strerror})") from error

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *failure: object) -> None:
        if not self._writes:
            return
        for folder in (self.checkpoints, self.out):
            with contextlib.suppress(OSError):
                folder.rmdir()  # only what is empty goes

    def _newest_first(self) -> list[Path]:
        return sorted(self.checkpoints.glob("step-*.safetensors"), reverse=True) if self.checkpoints.is_dir() else []

    def _last(self) -> tuple[Path, dict[str, Tensor], dict[str, str]]:
        """Return the last checkpoint that can be read; a damaged file makes way for the one before it."""
        for path in self._newest_first():
            with contextlib.suppress(ModelError):
                tensors, metadata = read_tensors(path)
                if "step" not in metadata:
                    raise TrainingError(f"{path}: no checkpoint, but a file of weights or the like; move it elsewhere")
                return path, tensors, metadata
        raise TrainingError(f"{self.checkpoints}: no checkpoint can be read")

    def last_kind(self) -> tuple[Path, dict[str, str]]:
        """Return the last checkpoint's path, and what it says of itself: tier, scales, noise_scale, step, best."""
        path, _, metadata = self._last()
        return path, metadata

    def load(self, state: RunState) -> None:
        """Fill `state` from the last checkpoint."""
        path, tensors, metadata = self._last()
        try:
            state.restore(tensors)
        except (KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise TrainingError(f"{path}: does not fit the network of this version ({reason})") from error
        state.step = int(metadata["step"])
        state.best = float(metadata["best"])

    def forget_after(self, step: int) -> None:
        """Drop the metrics that came after `step`, and a line that was never finished."""
        if not self.metrics.exists():
            return
        kept = [line for line in read_metrics(self.metrics) if line["step"] <= step]
        self.write("metrics.jsonl", "".join(f"{json.dumps(line)}\n" for line in kept).encode())

    def describe(self, settings: TrainSettings, data: Sequence[Path], summary: str, device: Device) -> None:
        """Write ``run.json``: settings, data and device."""
        facts = {
            "settings": dataclasses.asdict(settings),
            "data": [str(p.absolute()) for p in data],  # it may go on from another folder
            "found": summary,
            "device": device.name,
            "reason": device.reason,
        }
        self.write("run.json", (json.dumps(facts, indent=2) + "\n").encode())

    def warn_of_changes(self, settings: TrainSettings) -> None:
        """Say which settings are not those that the run had before: whoever resumes may change them, but knowingly."""
        now: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(settings)))
        try:
            before = description(self.out)["settings"]
        except (TrainingError, KeyError):
            return
        if changed := [name for name, value in now.items() if before.get(name) != value]:
            _log.warning("%s: goes on with other settings than it began with: %s", self.out, ", ".join(changed))

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to ``metrics.jsonl``."""
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise self._cannot_write(self.metrics, error) from error

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the run, whole or not at all."""
        path = self.out / name
        part = path.with_name(f"{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(data)
            part.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise self._cannot_write(path, error) from error

    def save(self, state: RunState, settings: TrainSettings) -> None:
        """Write a checkpoint, then drop the oldest beyond ``settings.keep``."""
        path = self._checkpoint(state.step)
        metadata = {
            "tier": settings.tier,
            "scales": ",".join(map(str, settings.scales)),
            "noise_scale": repr(settings.noise_scale),
            "step": str(state.step),
            "best": repr(state.best),
        }
        try:
            write_tensors(path, state.tensors(), metadata)
        except (OSError, SafetensorError) as error:
            raise self._cannot_write(path, error) from error
        for old in self._newest_first()[settings.keep :]:
            old.unlink()

    def drop(self, step: int) -> str:
        """Remove the checkpoint of `step`, whose weights proved to be bad; say in words which is the last good one."""
        bad = self._checkpoint(step)
        if len(self._newest_first()) > 1:
            bad.unlink(missing_ok=True)
        good = [path for path in self._newest_first() if path != bad]
        return f"the last good checkpoint is {good[0]}" if good else "there is no good checkpoint yet"

    def keep_best(self, state: RunState, settings: TrainSettings, clips: int, score: float) -> None:
        """Write ``best.safetensors`` (averaged weights) if `score` is the lowest so far."""
        if score < state.best:
            self._save_weights(self.out / _BEST, state, settings, clips)
            state.best = score

    def finish(self, state: RunState, settings: TrainSettings, clips: int) -> None:
        """Write ``last.safetensors``."""
        self._save_weights(self.out / _LAST, state, settings, clips)

    @property
    def result(self) -> Path:
        """The best weights, or the last where nothing was validated."""
        best = self.out / _BEST
        return best if best.exists() else self.out / _LAST

    def _save_weights(self, path: Path, state: RunState, settings: TrainSettings, clips: int) -> None:
        licence, data = settings.licence, settings.data_note
        try:
            save_model(path, state.model, tensors=state.ema, clips=clips, licence=licence, data=data)
        except (OSError, SafetensorError) as error:
            raise self._cannot_write(path, error) from error

    def _checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step-{step:08d}.safetensors"

    def _cannot_write(self, path: Path, error: Exception) -> TrainingError:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        kept = self._newest_first()
        way_out = f"make room and go on with --resume from {kept[0].name}" if kept else "make room and start again"
        return TrainingError(f"{path}: cannot be written ({reason}); {way_out}")


def description(out: Path) -> dict[str, Any]:
    """Return what ``run.json`` of the run in `out` holds: settings, data, device. Raises TrainingError."""
    path = out / "run.json"
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"{out}: no checkpoint to resume from; start without --resume") from error
    except ValueError as error:
        raise TrainingError(f"{path}: cannot be read ({error}); give --config and --data again") from error
    held = {"settings": dict, "data": list, "found": str, "reason": str}
    if not (isinstance(facts, dict) and all(isinstance(facts.get(key), kind) for key, kind in held.items())):
        raise TrainingError(f"{path}: not what a run says of itself; give --config and --data again")
    return facts


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a ``metrics.jsonl``; a last one that was never finished is left out."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]
