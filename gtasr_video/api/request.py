"""A job as a value: all that it takes to open it, here or in another process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gtasr_video.api.config import UpscaleConfig
from gtasr_video.device import all_devices
from gtasr_video.errors import UsageError
from gtasr_video.media import Reader, Writer
from gtasr_video.media.encoding import plan
from gtasr_video.models import VideoModel
from gtasr_video.runtime.announce import log_plan
from gtasr_video.runtime.job import Job, help_job, run_job
from gtasr_video.runtime.job.workers import Helper, hire
from gtasr_video.runtime.progress import Mode
from gtasr_video.runtime.report import Report


@dataclass(frozen=True, slots=True)
class Request:
    """All that makes a job of two files, so that another process can make the same: options by who takes them."""

    source: Path
    output: Path
    settings: UpscaleConfig
    reading: dict[str, Any]
    writing: dict[str, Any]
    working: dict[str, Any]


def upscale_file(request: Request, model: VideoModel | None, *, progress: Mode) -> Report:
    """Do the job of `request`, by `model` if it is given. Raises UsageError, and what `run_job` raises."""
    workers = request.working["workers"]
    if not isinstance(workers, int):
        raise UsageError(f"workers must be a whole number, not {workers!r}")
    if workers < 1 or (workers > 1 and model is not None):
        raise UsageError("several workers need the network by its name or file" if model else "workers: at least 1")
    with _opened(request, model) as job:
        return run_job(job, progress=progress, announce=lambda writer: log_plan(job.reader, job.upscaler, writer))


@contextmanager
def _opened(request: Request, model: VideoModel | None = None, device: str | None = None) -> Iterator[Job]:
    """Open the source and the network for a job."""
    settings, output = request.settings, request.output
    chosen = replace(settings, device=device or settings.device).choose_device()
    with Reader(request.source, **request.reading, door=settings.door(chosen)) as reader:
        upscaler = settings.open_upscaler(model, chosen)
        enlarged = reader.spec.scaled(upscaler.scale)
        if settings.bake_rotation:
            enlarged = enlarged.upright()

        def open_writer(folder: Path) -> Writer:
            return Writer(output, enlarged, settings.encoding, source=reader, workplace=folder, **request.writing)

        drop = request.writing["drop_unsupported"]
        asked: dict[str, Any] = {name: str(value) for name, value in request.reading.items()}
        asked |= {"steps": settings.steps, "drop_unsupported": drop}
        asked |= {"bake_rotation": settings.bake_rotation}
        planned = plan(output, settings.encoding, enlarged, drop_alpha=drop)
        hired = partial(_hire, request)
        yield Job(reader, upscaler, output, planned, open_writer, asked, hire=hired, **request.working)


def _hire(request: Request, number: int) -> Helper:
    """Start worker `number`: on a device of its own where there are several, else with its share of the cores."""
    devices = all_devices(request.settings.device)
    share = max(1, torch.get_num_threads() // request.working["workers"]) if devices == ["cpu"] else 1
    return hire(_help, request, devices[number % len(devices)], threads=share)


def _help(request: Request, device: str) -> list[Report]:
    with _opened(request, device=device) as job:
        return help_job(job)
