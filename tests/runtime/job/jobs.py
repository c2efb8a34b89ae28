"""Jobs for tests: small segments, a network that remembers, and ways to end in the middle."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import torch
from torch import Tensor

from gtasr_video.frames import Frame
from gtasr_video.media import Encoding, Reader, Writer
from gtasr_video.media.encoding import plan
from gtasr_video.models.facts import State, VideoModel
from gtasr_video.runtime.backends import Name
from gtasr_video.runtime.job import Job, run_job
from gtasr_video.runtime.job.source import Cutting
from gtasr_video.runtime.report import Report
from gtasr_video.runtime.upscaler import Upscaler
from tests import fakes
from tests.clips import Sound, make_clip, phone_times

SMALL = Cutting(Fraction(1, 2), Fraction(1), fewest=4, frames=40)
FAST = Encoding(preset="ultrafast", crf=30)


def film(path: Path, frames: int = 90, **more: Any) -> Path:
    """Write a clip as a phone makes it, with sound, reordered pictures and a key picture every 12 frames."""
    wanted: dict[str, Any] = {"pts": phone_times(frames), "time_base": Fraction(1, 90000), "sound": [Sound()]}
    return make_clip(path, **{**wanted, **more})


class Echo(fakes.Nearest):
    """Mixes each frame with all before it: one lost frame of memory changes everything after it."""

    def initial(self, batch: int, height: int, width: int) -> State:
        return super().initial(batch, height, width)._replace(frame=torch.zeros(batch, 3, height, width))

    def step(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Tensor, State]:
        mixed = 0.7 * x + 0.3 * state.frame
        y, following = super().step(mixed, state, seed=seed)
        return y, following._replace(frame=mixed)


def do(
    source: Path,
    output: Path,
    model: VideoModel | None = None,
    *,
    encoding: Encoding = FAST,
    cutting: Cutting = SMALL,
    restart: bool = False,
    wait_for_space: bool = False,
    settings: dict[str, Any] | None = None,
    before_step: Callable[[int, Frame], None] | None = None,
    backend: Name = "torch",
    **window: Any,
) -> Report:
    """Make `output` of `source`. `before_step` is called with the number of each frame of this run before its step."""
    with Reader(source, **window) as reader:
        upscaler = Upscaler(model or Echo(1), device="cpu", backend=backend)
        if before_step is not None:
            _watch(upscaler, before_step)
        enlarged = reader.spec.scaled(upscaler.scale)

        def open_writer(folder: Path) -> Writer:
            return Writer(output, enlarged, encoding, source=reader, workplace=folder)

        asked = {"window": {key: str(value) for key, value in window.items()}, **(settings or {})}
        job = Job(
            reader,
            upscaler,
            output,
            plan(output, encoding, enlarged),
            open_writer,
            asked,
            restart,
            wait_for_space,
            cutting,
        )
        return run_job(job)


def _watch(upscaler: Upscaler, before_step: Callable[[int, Frame], None]) -> None:
    step, numbers = upscaler.step, iter(range(10**9))

    def watched(frame: Frame) -> Any:
        before_step(next(numbers), frame)
        return step(frame)

    upscaler.step = watched  # type: ignore[method-assign]


class Ended(Exception):  # noqa: N818 - not an error but what a test asked for
    """The end of a run."""


def ends_at(number: int, error: BaseException | None = None) -> Callable[[int, Frame], None]:
    """Return a `before_step` that raises at frame `number`."""

    def check(at: int, _: Frame) -> None:
        if at == number:
            raise error or Ended

    return check


def pictures(path: Path) -> list[tuple[Fraction, bytes]]:
    """Return (time, samples) of every frame."""
    with av.open(str(path)) as container:
        return [(f.pts * f.time_base, f.to_ndarray().tobytes()) for f in container.decode(video=0)]


def folder_of(output: Path) -> Path:
    return output.with_name(output.name + ".job")
