"""The CUDA lane on a real GPU: the same frames as on the CPU, in order, without waiting for the device."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from gtasr_video.device import Device, choose, release_memory
from gtasr_video.errors import ModelError
from gtasr_video.frames import Frame, PixelLayout, VideoSpec
from gtasr_video.media.memory import MemoryReader
from gtasr_video.models.bicubic import Bicubic
from gtasr_video.models.facts import State
from gtasr_video.models.gtasr import TIERS, GTASRVideo
from gtasr_video.ops.color import rgb_to_yuv
from gtasr_video.ops.kernels import proven
from gtasr_video.runtime.backends import GraphBackend
from gtasr_video.runtime.footprint import peak_bytes
from gtasr_video.runtime.lanes.graph import cuda_capture
from gtasr_video.runtime.session import run
from gtasr_video.runtime.upscaler import Upscaler
from tests import fakes
from tests.models.networks import scene, tiny
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


def decibels(one: Sequence[Frame], other: Sequence[Frame]) -> float:
    """Return the lowest ratio in dB of any plane of 8 bits."""
    gaps = [
        (p.double() - q.double()).square().mean()
        for a, b in zip(one, other, strict=True)
        for p, q in zip(a.planes, b.planes, strict=True)
    ]
    return float(10 * torch.log10(255**2 / torch.stack(gaps).max().clamp(min=1e-9)))


def moving(of: VideoSpec) -> list[Frame]:
    """Return a scene, another one after a cut that no one tells of, and after a gap in time both again."""
    pictures = [*scene(8, of.height, of.width, shift=2).unbind(1), *scene(5, of.height, of.width, seed=4).unbind(1)]
    planes = [rgb_to_yuv((x + 1) / 2, of.layout, of.color) for x in pictures]
    return [Frame(p, 40 * n + 4000 * (n > 12), 40, n == 0) for n, p in enumerate([*planes, *planes])]


@pytest.mark.parametrize("layout", [fakes.YUV420, fakes.YUV444], ids=lambda x: x.name)
@pytest.mark.parametrize("size", [(160, 96), (150, 90)], ids=str)
@pytest.mark.parametrize("noise_scale", [0.0, 0.1])
def test_a_graph_of_the_whole_frame_gives_what_its_operators_give(
    layout: PixelLayout, size: tuple[int, int], noise_scale: float
) -> None:
    of = fakes.spec(*size, layout)
    frames, device = moving(of), choose("cuda", torch.bfloat16)
    by_one = Upscaler(tiny(noise_scale=noise_scale), device=device, backend="torch")
    recorded = Upscaler(tiny(noise_scale=noise_scale), device=device)
    assert recorded.backend == "cuda-graph"
    wanted, found = list(by_one(frames, spec=of)), list(recorded(frames, spec=of))
    assert isinstance(recorded._backend, GraphBackend) and recorded._backend._graphed.recorded
    assert decibels(found, wanted) >= 50
    through_lane = Copies(of.scaled(4))
    run(MemoryReader(frames, of), Upscaler(tiny(noise_scale=noise_scale), device=device), through_lane)
    assert decibels(through_lane.frames, [on_host(f) for f in wanted]) >= 50


def on_host(frame: Frame) -> Frame:
    return Frame(tuple(p.cpu() for p in frame.planes), frame.pts, frame.duration, frame.cut)


def test_a_compiled_step_gives_what_its_operators_give() -> None:
    model = tiny().to("cuda", torch.bfloat16)
    compiled = torch.compile(model.step, dynamic=False)
    states = [model.initial(1, 48, 64)] * 2
    with torch.inference_mode():
        for x in scene(6, 48, 64, shift=2).cuda().unbind(1):
            one, states[0] = model.step(x, states[0])
            other, states[1] = compiled(x, states[1])
            assert 10 * torch.log10(4 / (one - other).square().mean().clamp(min=1e-12)) >= 50


def test_a_recording_that_fails_leaves_no_memory_behind() -> None:
    def refused() -> torch.Tensor:
        made = torch.ones(64 << 20, dtype=torch.uint8, device="cuda")
        torch.cuda.synchronize()
        return made

    release_memory(torch.device("cuda", 0))
    before = torch.cuda.memory_reserved()
    with pytest.raises(RuntimeError):
        cuda_capture(refused)
    release_memory(torch.device("cuda", 0))
    assert torch.cuda.memory_reserved() <= before


def test_the_kernels_are_proven_here() -> None:
    assert proven(torch.device("cuda", 0))


def test_a_step_takes_no_more_memory_than_was_counted() -> None:
    model, device = GTASRVideo(TIERS["s"]).eval().fold().to("cuda", torch.bfloat16), torch.device("cuda", 0)
    x, counted = torch.zeros(1, 3, 544, 960, device=device), peak_bytes(model, 544, 960)
    with torch.inference_mode():
        model.step(x, model.initial(1, 544, 960))
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        model.step(x, model.initial(1, 544, 960))
    assert torch.cuda.max_memory_allocated(device) - before < 1.33 * counted


def test_a_frame_that_bf16_breaks_is_made_again_while_others_are_under_way() -> None:
    frames, of = [fakes.picture(fakes.spec(), n, 40 * n, 40, cut=n == 0) for n in range(30)], fakes.spec()
    bf16 = choose("cuda", torch.bfloat16)
    whole, _ = through(fakes.Fragile().cuda(), bf16, MemoryReader(frames, of))
    mended, _ = through(fakes.Fragile((0, 9, 10)).cuda(), bf16, MemoryReader(frames, of))
    for one, other in zip(mended, whole, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(one.planes, other.planes, strict=True))


def test_nan_on_the_device_ends_the_run() -> None:
    class Broken(Bicubic):
        def step(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Tensor, State]:
            return super().step(x / 0, state, seed=seed)

    with pytest.raises(ModelError, match="NaN"):
        through(Broken(1), choose("cuda", torch.float32), fakes.reader(9))
