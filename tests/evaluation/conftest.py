"""Small synthetic truth, and files in the shape of the metrics' weights: no measurement here means anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import Tensor

from gtasr_video.evaluation.cache import Cache
from gtasr_video.evaluation.streams import write_frames, x264
from gtasr_video.evaluation.truth import Clip, prepare
from gtasr_video.models.vgg import BLOCKS
from gtasr_video.ops.resize import bicubic


def scene(frames: int = 4, height: int = 96, width: int = 128, step: int = 2, seed: int = 0) -> list[Tensor]:
    """Return a textured picture that moves `step` pixels to the left a frame, uint8 (3, H, W)."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 6, (width + step * frames) // 6, generator=draw)
    wide = bicubic(coarse, (height, width + step * frames))[0].clamp(0, 1)
    picture = (wide * 255).round().to(torch.uint8)
    return [picture[:, :, k * step : k * step + width] for k in range(frames)]


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Pictures here are so small that several threads only wait for each other, on a busy machine for minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def truth_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a video (4 frames, 133 x 97) and a picture in a folder (100 x 100), neither of a handy size."""
    folder = tmp_path_factory.mktemp("truth")
    write_frames(folder / "moving.mp4", scene(4, 98, 134), x264(10))
    from PIL import Image

    (folder / "stills").mkdir()
    still = scene(1, 100, 100, seed=3)[0].permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(still).save(folder / "stills" / "still.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture
def cache(tmp_path: Path):  # type: ignore[no-untyped-def]
    kept = Cache(tmp_path / "cache")
    yield kept
    kept.close()


@pytest.fixture
def clip(truth_folder: Path, cache: Cache) -> Clip:
    return prepare("moving", truth_folder / "moving.mp4", 4, None, cache)


@pytest.fixture(scope="session")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the shape of VGG16's first ten layers."""
    draw = np.random.default_rng(0)
    arrays, channels = {}, 3
    for block, (count, width) in enumerate(BLOCKS, 1):
        for conv in range(1, count + 1):
            shape, scale = (width, channels, 3, 3), (2 / (9 * channels)) ** 0.5
            arrays[f"block{block}_conv{conv}.weight"] = (scale * draw.standard_normal(shape, np.float32)).astype("f2")
            arrays[f"block{block}_conv{conv}.bias"] = np.zeros(width, "f2")
            channels = width
    file = tmp_path_factory.mktemp("weights") / "vgg16.npz"
    np.savez(file, **arrays)
    return file


@pytest.fixture(scope="session")
def niqe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parameters in the shape of NIQE's, with the repeated features of its extractor."""
    file = tmp_path_factory.mktemp("weights") / "niqe.mat"
    mean = np.tile([2.9, 1.0, *[0.87, 0.03, 0.2, 0.25] * 2, *[0.87, -0.02, 0.23, 0.23] * 2], 2)
    savemat(file, {"pop_mu": mean[None], "pop_cov": np.eye(36) * 0.01})
    return file
