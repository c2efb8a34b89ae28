"""The device is chosen once, with a reason that can be printed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gtasr_video import device
from gtasr_video.errors import DeviceError
from gtasr_video.training.ranks import choose_local


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    """Pretend that this machine has GPUs of these compute capabilities."""

    def pretend(*capabilities: tuple[int, int]) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(capabilities))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda d: capabilities[d.index or 0])
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda d: f"GPU {d.index}")

    return pretend


def cpu_flags(monkeypatch: pytest.MonkeyPatch, flags: str | None) -> None:
    def read(self: Path, encoding: str = "") -> str:
        if flags is None:
            raise FileNotFoundError
        return flags

    monkeypatch.setattr(Path, "read_text", read)


def test_auto_takes_the_first_gpu(gpus) -> None:
    gpus((9, 0), (7, 5))
    chosen = device.choose()
    assert (chosen.name, chosen.dtype) == ("cuda:0", torch.bfloat16)
    assert chosen.reason == "a CUDA GPU is present: GPU 0, compute 9.0"


def test_an_older_gpu_computes_in_fp16(gpus) -> None:
    gpus((9, 0), (7, 5))
    chosen = device.choose("cuda:1")
    assert (chosen.name, chosen.dtype) == ("cuda:1", torch.float16)
    assert chosen.reason.startswith("asked for: GPU 1")


def test_nothing_trains_in_fp16(gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of the perceptual loss is smaller than the least that fp16 holds."""
    gpus((9, 0), (7, 5))
    assert choose_local("cuda:1").dtype is torch.float32
    assert choose_local("auto").dtype is torch.bfloat16
    monkeypatch.setenv("LOCAL_RANK", "1")
    chosen = choose_local("auto")
    assert (chosen.name, chosen.dtype) == ("cuda:1", torch.float32)


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [("avx512_bf16", torch.bfloat16), ("amx_bf16 x", torch.bfloat16), ("avx2", torch.float32), (None, torch.float32)],
)
def test_the_cpu_computes_in_bf16_where_it_multiplies_it(
    flags: str | None, dtype: torch.dtype, gpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus()
    cpu_flags(monkeypatch, flags)
    chosen = device.choose()
    assert (chosen.name, chosen.dtype) == ("cpu", dtype)
    assert chosen.reason.startswith("no CUDA GPU found: CPU with")


def test_a_type_asked_for_is_taken(gpus) -> None:
    gpus((9, 0))
    assert device.choose("cuda", torch.float32).dtype is torch.float32
    assert device.choose("cpu", torch.float16).dtype is torch.float16


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda:2", r"no CUDA device cuda:2 \(2 found\); use --device cpu"),
        ("gpu", "no device named 'gpu'; use auto, cpu, cuda or cuda:N"),
        ("cuda:x", "no device named 'cuda:x'"),
        ("meta", "device 'meta' is not supported"),
    ],
)
def test_a_device_that_is_not_there(name: str, message: str, gpus) -> None:
    gpus((9, 0), (9, 0))
    with pytest.raises(DeviceError, match=message):
        device.choose(name)


def test_no_gpu_at_all(gpus) -> None:
    gpus()
    with pytest.raises(DeviceError, match=r"no CUDA device cuda:0 \(none found\)"):
        device.choose("cuda")


def test_errors_that_mean_memory() -> None:
    said = "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to ..."
    assert device.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert device.is_out_of_memory(RuntimeError(said))
    assert device.is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert device.is_out_of_memory(RuntimeError("std::bad_alloc"))
    assert device.is_out_of_memory(MemoryError())
    assert device.is_out_of_memory(RuntimeError("could not create a primitive"))
    assert not device.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
