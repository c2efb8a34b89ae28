"""What all tests share: a small clip made once, and the command line run in this process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

if not torch.cuda.is_available():
    # Kernels run in Triton's interpreter then. It is asked for when Triton is imported, which much does on its way.
    os.environ["TRITON_INTERPRET"] = "1"

from tests import fakes


def pytest_configure() -> None:
    """Hear SIGINT, and let child processes hear it: a shell starts what it runs in the background deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave GPU tests out where there is none, unless GTASR_REQUIRE_GPU is set: then they run, and fail."""
    if torch.cuda.is_available() or os.environ.get("GTASR_REQUIRE_GPU"):
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real H.264 file of ten 64x48 frames at 25 fps. Read it, do not change it."""
    return fakes.clip(tmp_path_factory.mktemp("clips") / "in.mp4", 10)


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Run ``gtasr-video`` with the given arguments in this process."""
    from gtasr_video.cli import invoke

    def run(*arguments: str | Path) -> Outcome:
        code = invoke([str(argument) for argument in arguments])
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session", autouse=True)
def cache_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep compiled networks in a folder of this run, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
