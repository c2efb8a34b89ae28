"""Milliseconds a piece of work took: by the clock, and of all processors together."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Samples:
    """Times of one stage: milliseconds a frame by the clock, and milliseconds of processor time in all."""

    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: float = 0.0

    def take(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Return what `work` does for one frame, and keep how long it took."""
        clock, processor = time.perf_counter(), time.process_time()
        result = work(*arguments)
        self.wall_ms.append(1000 * (time.perf_counter() - clock))
        self.cpu_ms += 1000 * (time.process_time() - processor)
        return result

    @property
    def mean_ms(self) -> float:
        """Mean milliseconds a frame."""
        return sum(self.wall_ms) / len(self.wall_ms)

    def facts(self) -> dict[str, float]:
        """Return fps, ms_p50, ms_p95 and cpu_ms a frame."""
        ordered, count = sorted(self.wall_ms), len(self.wall_ms)
        return {
            "fps": round(1000 / max(self.mean_ms, 1e-6), 2),
            "ms_p50": round(ordered[count // 2], 3),
            "ms_p95": round(ordered[min(count - 1, int(0.95 * count))], 3),
            "cpu_ms": round(self.cpu_ms / count, 3),
        }
