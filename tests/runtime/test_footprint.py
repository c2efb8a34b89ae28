"""Memory is counted before it is taken, and where it runs out all the same the frame is made again in parts."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gtasr_video.device import Device, _cgroup_free, free_memory
from gtasr_video.frames import Frame, PixelLayout
from gtasr_video.models.gtasr import Architecture, Context, GTASRVideo, Prediction
from gtasr_video.ops.color import rgb_to_yuv, rgb_to_yuv_in_bands
from gtasr_video.ops.resize import enlarge
from gtasr_video.runtime import upscaler as upscaling
from gtasr_video.runtime.backends.frame import from_cells_in_bands
from gtasr_video.runtime.footprint import Fit, _Live, peak_bytes, state_bytes
from gtasr_video.runtime.tiles import Grid, tiled
from gtasr_video.runtime.upscaler import Upscaler
from tests import fakes
from tests.models.networks import TINY, TINY_FINE, scene, tiny

CPU = Device(torch.device("cpu"), torch.float32, "for a test")
ROOT = Path(__file__).resolve().parents[2]


@torch.inference_mode()
def test_the_count_is_that_of_tensors_that_really_live() -> None:
    model, x = tiny(), scene(1, 64, 96)[:, 0]
    with _Live() as live:
        model.step(x.clone(), model.initial(1, 64, 96))
    assert peak_bytes(model, 64, 96) == live.peak
    picture = 3 * 256 * 384 * 4
    assert 3 * picture < live.peak < 40 * picture


def test_less_memory_means_more_parts_and_little_memory_the_most() -> None:
    fit = Fit(tiny(TINY_FINE), 512, 768)
    grids = [fit.first(megabytes << 20) for megabytes in (100_000, 480, 420, 1)]
    seen = [fit._seen(grid) for grid in grids]
    assert grids[0] == Grid() and seen == sorted(seen, reverse=True) and len(set(grids)) > 2
    cut = tiled(tiny(TINY_FINE), grids[2])
    assert cut is not None and peak_bytes(cut, 512, 768) < 420 << 20


def test_states_of_frames_under_way_are_counted_too() -> None:
    model = tiny(TINY_FINE)
    alone, among_others = Fit(model, 512, 768), Fit(model, 512, 768, states=7)
    assert among_others._kept() * 512 * 768 == pytest.approx(7 * state_bytes(model, 512, 768), rel=1e-3)
    assert among_others._seen(among_others.first(700 << 20)) < alone._seen(alone.first(700 << 20))


def test_parts_get_finer_until_they_cannot() -> None:
    fit, grid, seen = Fit(tiny(), 512, 512), Grid(), []
    while grid is not None:
        seen.append(fit._seen(grid))
        grid = fit.finer(grid)
    assert len(seen) > 2 and all(b <= a * 2 / 3 for a, b in pairwise(seen))


@pytest.mark.parametrize("siting", ["left", "center", "topleft"])
@pytest.mark.parametrize("height", [300, 257, 64])
@pytest.mark.parametrize("layout", [fakes.YUV420, PixelLayout("yuv422p10le", 10, 1, 0), fakes.YUV444], ids=str)
def test_planes_made_in_bands_are_those_made_at_once(siting: str, height: int, layout: PixelLayout) -> None:
    rgb = torch.rand(1, 3, height, 37, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    color = fakes.ColorSpec("bt709", chroma_siting=siting)  # type: ignore[arg-type]
    wanted = rgb_to_yuv(rgb, layout, color, dither=True)
    for one, other in zip(rgb_to_yuv_in_bands(rgb, layout, color, 64, dither=True), wanted, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("layout", [fakes.YUV420, PixelLayout("yuv422p10le", 10, 1, 0), fakes.YUV444], ids=str)
@pytest.mark.parametrize(("architecture", "scale"), [(TINY, 4), (TINY_FINE, 3), (TINY, 1)], ids=str)
def test_planes_of_cells_made_in_bands_are_those_made_at_once(
    layout: PixelLayout, architecture: Architecture, scale: int
) -> None:
    generator, model = torch.Generator().manual_seed(0), tiny(architecture, (scale,))
    side = architecture.cell * scale
    x = torch.rand(1, 3, 104, 20, generator=generator) * 2 - 1
    shape = 1, 3 * side**2, 104 // architecture.cell, 20 // architecture.cell
    residual = torch.randn(shape, generator=generator) / 10
    output = fakes.spec(20 * scale, 102 * scale, layout)
    picture = (enlarge(x, scale) + model.to_picture(residual) + 1) / 2
    wanted = rgb_to_yuv(picture[..., : output.height, :], layout, output.color, dither=True)
    for one, other in zip(from_cells_in_bands(x, residual, model, output), wanted, strict=True):
        gap = (one.int() - other.int()).abs()
        # Where a value lies on a threshold the last bit decides; dither has many thresholds.
        assert int(gap.max()) <= 1 and float(gap.float().mean()) < 0.05


def moving(count: int, size: tuple[int, int] = (208, 152)) -> list[Frame]:
    of = fakes.spec(*size, fakes.YUV444)
    clip = scene(count, size[1], size[0], shift=2)[0]
    return [Frame(rgb_to_yuv((clip[n : n + 1] + 1) / 2, of.layout, of.color), n, 1, n == 0) for n in range(count)]


def test_out_of_memory_makes_the_same_frame_again_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    of, frames = fakes.spec(208, 152, fakes.YUV444), moving(4)
    whole = list(Upscaler(tiny(), device=CPU, backend="torch")(frames, spec=of))
    original, failed = GTASRVideo.descend, []

    def descend(self: GTASRVideo, context: Context, noise: Tensor) -> Prediction:
        if int(context.reference.valid) and context.features.shape[-1] > 180 // 2:
            failed.append(context.features.shape)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return original(self, context, noise)

    monkeypatch.setattr(GTASRVideo, "descend", descend)
    upscaler = Upscaler(tiny(), device=CPU, backend="torch")
    parted = list(upscaler(frames, spec=of))
    assert len(failed) >= 1 and upscaler.grid != Grid()
    for one, other in zip(parted, whole, strict=True):
        for p, q in zip(one.planes, other.planes, strict=True):
            assert int((p.int() - q.int()).abs().max()) <= 1


def test_memory_for_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def descend(self: GTASRVideo, context: Context, noise: Tensor) -> Prediction:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(GTASRVideo, "descend", descend)
    upscaler = Upscaler(tiny(), device=CPU, backend="torch")
    upscaler.start(fakes.spec(208, 152, fakes.YUV444))
    with pytest.raises(torch.OutOfMemoryError):
        upscaler.push(moving(1)[0])


def test_parts_are_chosen_before_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upscaling, "free_memory", lambda device: 1 << 20)
    upscaler = Upscaler(tiny(), device=CPU, backend="torch")
    upscaler.start(fakes.spec(208, 152))
    assert upscaler.grid != Grid()


LIMITED = """
import resource, torch
from pathlib import Path
from gtasr_video.device import is_out_of_memory

torch.set_num_threads(1)
conv, small = torch.nn.Conv2d(8, 8, 3), torch.zeros(1, 8, 64, 64)
wide, kernel = torch.zeros(1, 8, 512, 512), torch.nn.Conv2d(8, 64, 5)
conv(small)  # what is loaded at first use is loaded now
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
for spare in (8 << 20, 72 << 20):
    resource.setrlimit(resource.RLIMIT_AS, (used + spare, -1))
    try:
        kernel(wide)
        print("it fits")
    except Exception as error:
        print(is_out_of_memory(error), error)
"""


def test_what_torch_says_when_memory_runs_out_is_understood() -> None:
    """The address space is limited, so that torch and oneDNN really run out of it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run([sys.executable, "-c", LIMITED], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout.splitlines()
    assert said[0].startswith("True") and all(line.startswith(("True", "it fits")) for line in said), said


def test_a_cgroup_says_what_is_left(tmp_path: Path) -> None:
    assert _cgroup_free(tmp_path) is None
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 100\n")
    (tmp_path / "memory.max").write_text("1000\n")
    assert _cgroup_free(tmp_path) == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert _cgroup_free(tmp_path) is None
    assert free_memory(torch.device("cpu")) > 1 << 20
