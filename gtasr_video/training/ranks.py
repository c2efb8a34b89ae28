"""Several processes that train one network together, started by ``torchrun``: on GPUs by NCCL, on CPUs by gloo.

Every process takes its share of the SAME global batch and of the same random draws, and gradients are averaged before
they are clipped. So two processes take the step that one would take, but for the order in which floats are added.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist

from gtasr_video.device import Device, choose, current
from gtasr_video.errors import TrainingError
from gtasr_video.training.settings import TrainSettings

# The first process validates while the others wait.
_PATIENCE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those of a run: number `rank` (0 writes the files) of `count`."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, whole: Tensor) -> Tensor:
        """Return this process's equal part of `whole` along the first dimension."""
        return whole.chunk(self.count)[self.rank] if self.count > 1 else whole

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of `values` over all processes."""
        if self.count > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.count
        return values

    def average_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace each gradient by its mean over all processes, in one message. All must have the same ones."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.count == 1 or not gradients:
            return
        whole = self.mean(torch.cat([g.reshape(-1) for g in gradients]))
        for gradient, part in zip(gradients, torch.split(whole, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def check(self, settings: TrainSettings, step: int, device: torch.device) -> None:
        """Raise TrainingError if batches cannot be shared equally, or the processes are not at the same step."""
        for number, phase in enumerate(settings.phases):
            shared = {"batch": phase.batch}
            if phase.weights.looks_at_windows:
                shared["perceptual_crops"] = phase.perceptual_crops
            for name, value in shared.items():
                if value % self.count:
                    raise TrainingError(
                        f"{self.count} processes cannot share {name} = {value} equally; "
                        f"--set phases.{number}.{name}={-(-value // self.count) * self.count}"
                    )
        if self.count > 1:
            mean = float(self.mean(torch.tensor(float(step), dtype=torch.float64, device=device)))
            if mean != step:
                raise TrainingError(
                    f"this process is at step {step}, others are not: --out must be one folder that all machines see"
                )


ALONE = Ranks()


def is_first() -> bool:
    """Return whether this process is the one that writes; true without torchrun."""
    return os.environ.get("RANK", "0") == "0"


def choose_local(name: str) -> Device:
    """Return the device for `name` as `choose` does; under torchrun each process of a machine gets its own GPU.

    What would compute in fp16 trains in float32: gradients of the perceptual loss are too small for fp16.
    """
    device = choose(name)
    local = os.environ.get("LOCAL_RANK", "0")
    if device.torch_device.type == "cuda" and name in ("auto", "cuda") and local != "0":
        device = choose(f"cuda:{local}")
    return dataclasses.replace(device, dtype=torch.float32) if device.dtype is torch.float16 else device


@contextmanager
def joined(device: Device) -> Iterator[Ranks]:
    """Join the processes that torchrun started, if it did, while the block runs."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks()
        return
    on_gpu = device.torch_device.type == "cuda"
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", timeout=_PATIENCE, device_id=device.torch_device if on_gpu else None
    )
    try:
        with current(device.torch_device):
            yield Ranks(dist.get_rank(), count)
    finally:
        dist.destroy_process_group()
