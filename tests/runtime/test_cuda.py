"""The CUDA lane on a real GPU: the same frames as on the CPU, in order, without waiting for the device."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from gtasr_video.device import Device, choose
from gtasr_video.errors import ModelError
from gtasr_video.frames import Frame, PixelLayout
from gtasr_video.media.memory import MemoryReader
from gtasr_video.models.bicubic import Bicubic
from gtasr_video.models.facts import State
from gtasr_video.runtime.session import run
from gtasr_video.runtime.upscaler import Upscaler
from tests import fakes
from tests.runtime.test_lanes import Copies

pytestmark = pytest.mark.gpu


def through(model: nn.Module, device: Device, reader: MemoryReader) -> tuple[Sequence[Frame], dict]:
    writer = Copies(reader.spec.scaled(model.facts.scale))  # type: ignore[union-attr, operator]
    report = run(reader, Upscaler(model, device=device), writer)  # type: ignore[arg-type]
    return writer.frames, report.stages


@pytest.mark.parametrize("layout", [fakes.YUV420, PixelLayout("yuv422p10le", 10, 1, 0)], ids=lambda x: x.name)
def test_the_same_frames_as_on_the_cpu(layout: PixelLayout) -> None:
    of = fakes.spec(640, 360, layout)
    frames = list(fakes.frames(of, 60))
    cpu, _ = through(Bicubic(2), choose("cpu", torch.float32), MemoryReader(frames, of))
    gpu, stages = through(Bicubic(2), choose("cuda", torch.float32), MemoryReader(frames, of))
    assert [f.pts for f in gpu] == [f.pts for f in cpu]
    for one, other in zip(gpu, cpu, strict=True):
        for p, q in zip(one.planes, other.planes, strict=True):
            assert int((p.to(torch.int32) - q.to(torch.int32)).abs().max()) <= 1
    assert all(stages[name]["busy_s"] > 0 for name in ("upload", "compute", "download"))


class Slow(Bicubic):
    """Takes the GPU so long over a frame that copies overtake it unless they wait."""

    def step(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Tensor, State]:
        busy = torch.rand(2048, 2048, device=x.device)
        for _ in range(40):
            busy = (busy @ busy).clamp_(0, 1)
        return super().step(x + 0 * busy.mean(), state, seed=seed)


def test_frames_survive_a_device_far_behind_the_host() -> None:
    of = fakes.spec(320, 180)
    frames = list(fakes.frames(of, 40))
    gpu, _ = through(Slow(1), choose("cuda", torch.float32), MemoryReader(frames, of))
    for one, other in zip(gpu, frames, strict=True):
        assert torch.equal(one.planes[0], other.planes[0])


def test_nan_on_the_device_ends_the_run() -> None:
    class Broken(Bicubic):
        def step(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Tensor, State]:
            return super().step(x / 0, state, seed=seed)

    with pytest.raises(ModelError, match="NaN"):
        through(Broken(1), choose("cuda", torch.float32), fakes.reader(9))
