"""Videos that are read from their files as they are drawn, by more than one thread."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from gtasr_video.media.access import VideoFile, index
from gtasr_video.training import items
from gtasr_video.training.items import VideoOnDisk
from tests.training.material import panning, save_video


@pytest.fixture
def file(tmp_path: Path) -> VideoFile:
    save_video(tmp_path / "clip.mp4", panning(24, 96, 128), g="4")
    return index(tmp_path / "clip.mp4")


def test_a_decoder_serves_one_thread(file: VideoFile) -> None:
    """Clips for validation are drawn while a thread makes those to train on."""
    video, first = VideoOnDisk(file), items._readers.get(file)
    whole = video.read(0, 24)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(items._readers.get, file).result()
    assert other is not first and items._readers.get(file) is first
    with ThreadPoolExecutor(3) as pool:
        parts = list(pool.map(lambda n: (n % 20, video.read(n % 20, 4)), range(0, 90, 7)))
    assert all(torch.equal(part, whole[start : start + 4]) for start, part in parts)


def test_a_decoder_serves_one_side_of_a_fork(file: VideoFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other side's is neither used nor freed: freeing it may wait for threads that are not there."""
    first = items._readers.get(file)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        assert items._readers.get(file) is not first
    assert items._readers.get(file) is first
