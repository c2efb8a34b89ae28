"""Where the network runs, decided once and with a reason that can be printed."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from gtasr_video.errors import DeviceError, DeviceNameError

# What torch and libraries beneath it say, in lower case, instead of raising OutOfMemoryError. oneDNN ("could not ...")
# may have other reasons; then nothing smaller works either.
_EXHAUSTED = (
    *("out of memory", "not enough memory", "can't alloc", "cannot allocate memory"),
    *("bad_alloc", "bad allocation", "cudnn_status_alloc_failed", "cublas_status_alloc_failed"),
    *("could not create a primitive", "could not create a memory", "could not execute a primitive"),
)

# Limits of a process, and what /proc calls that which counts against them.
_ULIMITS = {resource.RLIMIT_DATA: "VmData", resource.RLIMIT_AS: "VmSize"}


@dataclass(frozen=True, slots=True)
class Device:
    """A torch device, the floating-point type the network computes in there, and why these were chosen."""

    torch_device: torch.device
    dtype: torch.dtype
    reason: str

    @property
    def name(self) -> str:
        """Torch's name of the device, such as ``cpu`` or ``cuda:0``."""
        return str(self.torch_device)


def choose(name: str = "auto", dtype: torch.dtype | None = None) -> Device:
    """Return the device for `name` (``auto``, ``cpu``, ``cuda`` or ``cuda:N``).

    `dtype` None means the fastest that keeps the picture: bf16 on CUDA from Ampere on and on CPUs with bf16
    instructions, fp16 on older CUDA, fp32 elsewhere. Raises DeviceError if the device is not there.
    """
    if name == "auto":
        found = torch.cuda.is_available()
        picked, why = ("cuda:0", "a CUDA GPU is present") if found else ("cpu", "no CUDA GPU found")
    else:
        picked, why = ("cuda:0" if name == "cuda" else name), "asked for"
    try:
        device = torch.device(picked)
    except RuntimeError as error:
        raise DeviceNameError(f"no device named '{name}'; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda":
        return _cuda(device, dtype, why)
    if device.type == "cpu":
        return _cpu(device, dtype, why)
    raise DeviceNameError(f"device '{name}' is not supported; use auto, cpu, cuda or cuda:N")


def all_devices(name: str = "auto") -> list[str]:
    """Return the names of all devices that `name` can mean: every GPU for ``auto`` and ``cuda``, else the one named."""
    gpus = torch.cuda.device_count() if name in ("auto", "cuda") and torch.cuda.is_available() else 0
    if gpus:
        return [f"cuda:{number}" for number in range(gpus)]
    return ["cpu" if name == "auto" else name]


def _cuda(device: torch.device, dtype: torch.dtype | None, why: str) -> Device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        found = f"{count} found" if count else "none found"
        raise DeviceError(f"no CUDA device {device} ({found}); use --device cpu")
    capability = torch.cuda.get_device_capability(device)
    chosen = dtype or (torch.bfloat16 if capability >= (8, 0) else torch.float16)
    return Device(
        device,
        chosen,
        f"{why}: {torch.cuda.get_device_name(device)}, compute {capability[0]}.{capability[1]}",
    )


def _cpu(device: torch.device, dtype: torch.dtype | None, why: str) -> Device:
    fast = cpu_has_bf16()
    chosen = dtype or (torch.bfloat16 if fast else torch.float32)
    note = "with bf16 instructions" if fast else "without bf16 instructions"
    return Device(device, chosen, f"{why}: CPU {note}, {torch.get_num_threads()} threads")


def cpu_has_bf16() -> bool:
    """Return whether this CPU multiplies bf16 in hardware (avx512_bf16 or AMX); elsewhere fp32 is faster."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def current(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which `device` is the one that recordings and kernels go to where nobody names another."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def free_memory(device: torch.device) -> int:
    """Return the bytes that can still be taken on `device`; on a CPU what the machine, cgroup and ``ulimit`` allow."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    known = [_kib("/proc/meminfo", "MemAvailable"), _cgroup_free(), *_ulimits_free()]
    return min((value for value in known if value is not None), default=1 << 62)


def release_memory(device: torch.device) -> None:
    """Give back what is held for later on `device`, so that it can be taken in other sizes."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return
    # glibc keeps freed tensors of up to 32 MiB in its heap, where what is left is in pieces.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def synchronise(device: torch.device) -> None:
    """Wait until `device` has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int:
    """Return the most bytes torch ever held on `device`; 0 on a CPU, whose memory is the process's."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0


def describe(device: torch.device) -> str:
    """Return the name of a GPU with its number, ``cpu`` for a CPU."""
    return f"{device}: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that memory is exhausted, in any of the words torch has for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _EXHAUSTED)


def _kib(file: str, name: str) -> int | None:
    """Return the bytes after `name` in a file of Linux's that counts in KiB; None where there is none."""
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def _ulimits_free() -> Iterator[int]:
    """Yield what is left of the limits set for this process (``ulimit -d`` and ``-v``)."""
    for limit, name in _ULIMITS.items():
        allowed, taken = resource.getrlimit(limit)[0], _kib("/proc/self/status", name)
        if allowed != resource.RLIM_INFINITY and taken is not None:
            yield max(0, allowed - taken)


def _cgroup_free(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return what a version 2 cgroup leaves free, file cache that can be dropped included; None without a limit."""
    try:
        limit, used = ((root / name).read_text(encoding="utf-8").strip() for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (root / "memory.stat").read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else int(limit) - int(used) + int(stat.get("inactive_file", 0))
