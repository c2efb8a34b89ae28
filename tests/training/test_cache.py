"""Decoded material in files: kept, shared, made anew when damaged, read from many threads at once."""

from __future__ import annotations

import gc
import logging
import resource
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from gtasr_video.training.cache import DecodedCache


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"what was decoded")
    return file


def frames() -> torch.Tensor:
    return torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).reshape(2, 3, 4, 5)


def never() -> torch.Tensor:
    raise AssertionError("decoded again")


def test_what_is_kept_is_read_and_what_is_written_to_it_stays_in_this_process(source: Path, tmp_path: Path) -> None:
    cache = DecodedCache(tmp_path / "kept")
    first = cache.fetch(source, "how", lambda: frames().transpose(2, 3))
    assert torch.equal(first, frames().transpose(2, 3))
    first.zero_()
    assert torch.equal(cache.fetch(source, "how", never), frames().transpose(2, 3))


@pytest.mark.parametrize("damage", [b"", b"short", bytes(400)])
def test_a_damaged_file_is_made_anew(source: Path, tmp_path: Path, damage: bytes) -> None:
    cache = DecodedCache(tmp_path / "kept")
    cache.fetch(source, "how", frames)
    (kept,) = (tmp_path / "kept").iterdir()
    kept.write_bytes(damage)
    assert torch.equal(cache.fetch(source, "how", frames), frames())
    assert torch.equal(cache.fetch(source, "how", never), frames())


def test_a_file_that_cannot_be_written_whole_is_said_once_and_leaves_nothing(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, (soft, hard) = DecodedCache(tmp_path / "kept"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with caplog.at_level(logging.WARNING, "gtasr_video"):
            assert all(torch.equal(cache.fetch(source, how, frames), frames()) for how in ("a", "b"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [r.getMessage().split(":")[0] for r in caplog.records] == [f"nothing is kept in {tmp_path / 'kept'}"]
    assert not list((tmp_path / "kept").iterdir())


@pytest.fixture
def switching_threads() -> Iterator[None]:
    """Threads that change places at every step of Python, and garbage that is collected in the midst of others' work.

    (A finalizer is where a thread can lose its turn within a function that is not Python's.)
    """
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    gc.collect()
    gc.freeze()  # else all that other tests left would be gone through each time
    sys.setswitchinterval(1e-6)
    gc.set_threshold(20)
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)
    gc.unfreeze()


class _Garbage:
    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        for _ in range(500):
            pass


def test_many_threads_read_at_once(source: Path, tmp_path: Path, switching_threads: None) -> None:
    cache = DecodedCache(tmp_path / "kept")
    cache.fetch(source, "how", frames)

    def read(_: int) -> bool:
        for _ in range(300):
            [_Garbage() for _ in range(3)]
            assert torch.equal(cache.fetch(source, "how", never), frames())
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(4)))
