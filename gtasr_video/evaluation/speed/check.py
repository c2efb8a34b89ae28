"""Has it become slower? Ratios against those of an earlier measurement; times are never compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gtasr_video.errors import EvaluationError

# Ratios of one run wander by this much on a machine that does other things too.
TOLERANCE = 0.2
Measurement = dict[str, Any]
_SAME = ("model", "backend", "input", "output")


def read(file: Path) -> list[Measurement]:
    """Return the measurements in `file`, one a line of JSON. Raises EvaluationError if it holds anything else."""
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise EvaluationError(f"{file}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise EvaluationError(f"{file}: cannot be read as lines of JSON ({error})") from error
    if not all(isinstance(line, dict) and _are_ratios(line.get("ratios")) for line in lines):
        raise EvaluationError(f"{file}: its lines are no measurements of bench")
    return lines


def _are_ratios(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(value, int | float) for value in found.values())


def baseline(lines: list[Measurement], now: Measurement) -> Measurement:
    """Return the last of `lines` with the model, backend and sizes of `now`. Raises EvaluationError if none has."""
    alike = [line for line in lines if all(line.get(name) == now[name] for name in _SAME)]
    if not alike:
        wanted = ", ".join(f"{name} {now[name]}" for name in _SAME)
        raise EvaluationError(f"there is no measurement of {wanted} to compare with; make one with --out")
    return alike[-1]


def slower(now: Measurement, before: Measurement, tolerance: float = TOLERANCE) -> list[str]:
    """Return a line for each ratio that both have and that fell by more than `tolerance` of what it was."""
    worse = []
    for name, was in before["ratios"].items():
        found = now["ratios"].get(name)
        if found is not None and found < was * (1 - tolerance):
            worse.append(f"{name} is {found:.3f}, was {was:.3f}")
    return worse
