"""Has it become slower? Ratios against those of an earlier measurement; times are never compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gtasr_video.errors import EvaluationError

# Ratios of one run wander by this much on a machine that does other things too.
TOLERANCE = 0.2
_SAME = ("model", "backend", "input", "output")


def baseline(file: Path, now: dict[str, Any]) -> dict[str, Any]:
    """Return the last measurement in `file` (JSON lines) of the same model, backend and sizes as `now`.

    Raises EvaluationError if there is none, or a line cannot be read.
    """
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{file}: cannot be read as lines of JSON ({error})") from error
    alike = [line for line in lines if all(line.get(name) == now[name] for name in _SAME)]
    if not alike:
        wanted = ", ".join(f"{name} {now[name]}" for name in _SAME)
        raise EvaluationError(f"{file}: holds no measurement of {wanted}; make one with --out {file}")
    return dict(alike[-1])


def slower(now: dict[str, Any], before: dict[str, Any], tolerance: float = TOLERANCE) -> list[str]:
    """Return a line for each ratio that both have and that fell by more than `tolerance` of what it was."""
    worse = []
    for name, was in before["ratios"].items():
        found = now["ratios"].get(name)
        if found is not None and found < was * (1 - tolerance):
            worse.append(f"{name} is {found:.3f}, was {was:.3f}")
    return worse
