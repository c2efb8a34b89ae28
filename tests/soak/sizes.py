"""How much is tried: a small sample here and in CI, all of it with ``make soak``, which sets GTASR_SOAK."""

from __future__ import annotations

import os

SOAK = bool(os.environ.get("GTASR_SOAK"))


def size(sample: int, whole: int) -> int:
    """Return how many to try; GTASR_SOAK may hold another number than 1 to try so many per cent of the whole."""
    if not SOAK:
        return sample
    share = int(os.environ["GTASR_SOAK"])
    return whole if share == 1 else max(sample, whole * share // 100)
