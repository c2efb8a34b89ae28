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
from gtasr_video.models.gtasr import Context, GTASRVideo
from gtasr_video.ops.color import rgb_to_yuv, rgb_to_yuv_in_bands
from gtasr_video.runtime import upscaler as upscaling
from gtasr_video.runtime.footprint import Fit, _Live, peak_bytes
from gtasr_video.runtime.tiles import Grid, tiled
from gtasr_video.runtime.upscaler import Upscaler
from tests import fakes
from tests.models.networks import TINY_FINE, scene, tiny

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
    grids = [fit.first(megabytes << 20) for megabytes in (100_000, 700, 520, 1)]
    seen = [fit._seen(grid) for grid in grids]
    assert grids[0] == Grid() and seen == sorted(seen, reverse=True) and len(set(grids)) > 2
    cut = tiled(tiny(TINY_FINE), grids[2])
    assert cut is not None and peak_bytes(cut, 512, 768) < 520 << 20


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


def moving(count: int, size: tuple[int, int] = (208, 152)) -> list[Frame]:
    of = fakes.spec(*size, fakes.YUV444)
    clip = scene(count, size[1], size[0], shift=2)[0]
    return [Frame(rgb_to_yuv((clip[n : n + 1] + 1) / 2, of.layout, of.color), n, 1, n == 0) for n in range(count)]


def test_out_of_memory_makes_the_same_frame_again_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    of, frames = fakes.spec(208, 152, fakes.YUV444), moving(4)
    whole = list(Upscaler(tiny(), device=CPU, backend="torch")(frames, spec=of))
    original, failed = GTASRVideo.descend, []

    def descend(self: GTASRVideo, context: Context, noise: Tensor) -> tuple[Tensor, Tensor]:
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
    def descend(self: GTASRVideo, context: Context, noise: Tensor) -> tuple[Tensor, Tensor]:
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
import resource, sys, torch
from itertools import pairwise
from pathlib import Path
from tests.models.networks import tiny
from tests.runtime.test_footprint import CPU, fakes, moving
from gtasr_video.runtime.upscaler import Upscaler

torch.set_num_threads(1)
size = (512, 384)
of, frames = fakes.spec(*size, fakes.YUV444), moving(3, size)
upscaler = Upscaler(tiny(), device=CPU, backend="torch")
upscaler.start(fakes.spec(64, 64, fakes.YUV444))
upscaler.push(moving(1, (64, 64))[0])  # what is loaded at first use is loaded now
upscaler.start(of)
assert str(upscaler.grid) == "1x1"
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = used + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
out = [upscaler.push(frame) for frame in frames]
print(len(out), upscaler.grid)
"""


def test_a_real_limit_is_lived_with() -> None:
    """The address space is limited to little more than tensors take for a whole frame: torch itself runs out of it."""
    needed = peak_bytes(tiny(), 384, 512)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-c", LIMITED, str(int(1.2 * needed))]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    count, grid = done.stdout.split()
    assert count == "3" and grid != "1x1"
    assert "not enough memory on cpu" in done.stderr


def test_a_cgroup_says_what_is_left(tmp_path: Path) -> None:
    assert _cgroup_free(tmp_path) is None
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 100\n")
    (tmp_path / "memory.max").write_text("1000\n")
    assert _cgroup_free(tmp_path) == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert _cgroup_free(tmp_path) is None
    assert free_memory(torch.device("cpu")) > 1 << 20
