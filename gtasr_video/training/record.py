"""What a run leaves behind while it goes on: metrics, validation, the best weights, checkpoints, the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gtasr_video.device import Device
from gtasr_video.models.gtasr import GTASRVideo
from gtasr_video.models.vgg import VGGDistance
from gtasr_video.training.clips import ClipSource
from gtasr_video.training.report import render
from gtasr_video.training.run import Run, description, read_metrics
from gtasr_video.training.schedule import locate, schedule
from gtasr_video.training.settings import TrainSettings
from gtasr_video.training.state import RunState
from gtasr_video.training.validation import Validation


class Recorder:
    """Writes down every step of a run; for the one process that writes."""

    def __init__(
        self, run: Run, settings: TrainSettings, source: ClipSource, perceptual: VGGDistance | None, device: Device
    ) -> None:
        self.run, self.settings, self.source = run, settings, source
        self.perceptual, self.device = perceptual, device
        self.total = sum(schedule(settings))
        self.judges: dict[int, Validation] = {}

    def record(
        self, line: dict[str, Any], state: RunState, on_step: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        """Log the step that led to `state`; validate, keep and save where that is due."""
        at_end = state.step == self.total
        model = state.averaged() if at_end or state.step % self.settings.validate_every == 0 else None
        if model is not None:
            line |= self._judge(state.model.scale).measure(model)
            clips = locate(self.settings, state.step).clips
            self.run.keep_best(state, self.settings, clips, line["validation/score"])
        self.run.log(line)
        if on_step is not None:
            on_step(line)
        if at_end or state.step % self.settings.checkpoint_every == 0:
            self.run.save(state, self.settings)
        if at_end:
            self.run.finish(state, self.settings, locate(self.settings, state.step).clips)
        if model is not None:
            self._show(model, state)

    def _judge(self, scale: int) -> Validation:
        if scale not in self.judges:
            self.judges[scale] = Validation(self.settings, scale, self.source, self.perceptual, self.device)
        return self.judges[scale]

    def _show(self, model: GTASRVideo, state: RunState) -> None:
        """Write what the validation clips look like, and the report anew."""
        looks = [look.webp() for look in self._judge(model.scale).looks(model)]
        for number, data in enumerate(looks, 1):
            self.run.write(f"validation/step-{state.step:08d}-{number}.webp", data)
        page = render(description(self.run.out), read_metrics(self.run.metrics), looks)
        self.run.write("report.html", page.encode())
