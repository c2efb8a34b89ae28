"""Material and weights that several files of training tests use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training.material import panning, save_picture, save_video, texture


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a picture and a video. Read it, do not change it."""
    folder = tmp_path_factory.mktemp("material")
    save_picture(folder / "a.png", texture(160, 200, seed=1))
    save_video(folder / "b.mp4", panning(8, 128, 160, seed=2), crf="12")
    return folder


@pytest.fixture(scope="session")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the right shapes: enough to have gradients of the right kind."""
    from safetensors.torch import save_file

    from gtasr_video.models.vgg import _shapes

    generator = torch.Generator().manual_seed(0)
    path = tmp_path_factory.mktemp("vgg") / "vgg.safetensors"
    save_file(
        {n: torch.randn(s, generator=generator) / (9 * s[-3 if len(s) > 1 else 0]) ** 0.5 for n, s in _shapes(1)}, path
    )
    return path
