"""The way of a frame to the device and back: five methods, and one for what turns back, whatever the device is.

    stage     decode thread    put the planes where the device can fetch them
    discard   either           give the place free of a frame that goes no further
    upload    calling thread   queue their way to the device
    compute   calling thread   queue the work on them
    download  calling thread   queue the way of the result back
    collect   encode thread    wait for it, and give the place free afterwards

On a CPU the frame is handed through. On CUDA each step is only queued, on three streams that wait for each other's
events and never for the host; pinned host memory goes round in two rings, and an empty ring is the back-pressure.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Protocol, Self

import torch

from gtasr_video.frames import Frame, VideoSpec
from gtasr_video.runtime.channels import Scope
from gtasr_video.runtime.report import Stages
from gtasr_video.runtime.upscaler import Upscaled


class Work(Protocol):
    """What a lane asks of an upscaler."""

    def step(self, frame: Frame) -> Upscaled:
        """Enlarge the next frame."""

    def redo(self, frame: Frame, before: Any) -> Upscaled:
        """Enlarge it again, more carefully, from the state `before` it. Raises ModelError if that is no help."""


class Lane(Protocol):
    """What a session asks of a lane. The values passed on are the lane's own; use it as a context manager."""

    def stage(self, frame: Frame) -> Any:
        """Make `frame` ready to go to the device."""

    def discard(self, staged: Any) -> None:
        """Give up a staged frame that will not be sent; any thread may."""

    def upload(self, staged: Any) -> Any:
        """Send it there."""

    def compute(self, work: Work, uploaded: Any) -> Any:
        """Run `work` on it there. What comes out unsound is made again, at once or in `collect`."""

    def download(self, computed: Any) -> Any:
        """Send the result back."""

    def collect(self, pending: Any) -> AbstractContextManager[Frame]:
        """Give the result as a frame on the host, valid inside the block. Raises ModelError if there is none."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class CpuLane:
    """The lane where host and device are one: every method hands the frame through."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages

    def stage(self, frame: Frame) -> Frame:
        """Return `frame`."""
        return frame

    def discard(self, staged: Frame) -> None:
        """Nothing to give back."""

    def upload(self, staged: Frame) -> Frame:
        """Return `staged`."""
        return staged

    def compute(self, work: Work, uploaded: Frame) -> Frame:
        """Return ``work.step(uploaded)``, or what making it again gives. Raises ModelError."""
        with self._stages.compute.busy():
            result = work.step(uploaded)
            return result.frame if result.sound else work.redo(uploaded, result.before).frame

    def download(self, computed: Frame) -> Frame:
        """Return `computed`."""
        return computed

    def collect(self, pending: Frame) -> AbstractContextManager[Frame]:
        """Return `pending` as a context manager."""
        return nullcontext(pending)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def open_lane(
    device: torch.device,
    scope: Scope,
    stages: Stages,
    source: VideoSpec,
    output: VideoSpec,
    staged: int,
    pending: int,
) -> Lane:
    """Return the lane for `device` with room for so many frames on either side; nothing else asks which one it is."""
    if device.type == "cuda":
        from gtasr_video.runtime.lanes.cuda import CudaDevice, CudaLane

        return CudaLane(CudaDevice(device), scope, stages, source, output, pending, staged)
    return CpuLane(stages)
