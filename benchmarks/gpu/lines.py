"""What the GPU jobs share: results as JSON lines on stdout and in a file, the machine described, a clock."""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path
from typing import Any

import torch


class Lines:
    """JSON lines into ``out/name.jsonl``, each flushed at once: a job that is cut off leaves what it has measured."""

    def __init__(self, out: Path, name: str) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._file = (out / f"{name}.jsonl").open("w", encoding="utf-8")

    def write(self, **line: Any) -> None:
        """Write one line, to stdout too."""
        print(json.dumps(line, default=str), flush=True)
        self.keep(**line)

    def keep(self, **line: Any) -> None:
        """Write one line into the file alone."""
        self._file.write(json.dumps(line, default=str) + "\n")
        self._file.flush()


class Clock:
    """Time since the job began, and what is left of `minutes`."""

    def __init__(self, minutes: float) -> None:
        self._begun, self._seconds = time.monotonic(), minutes * 60

    @property
    def left(self) -> float:
        """Seconds left; negative when the time is over."""
        return self._seconds - (time.monotonic() - self._begun)


def machine(device: torch.device) -> dict[str, Any]:
    """Return what a reader of figures must know of where they were taken."""
    facts: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__, "device": str(device)}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "gpu": properties.name,
            "gpu_gib": round(properties.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return facts


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
