"""Times and counts as people give them."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from gtasr_video.errors import UsageError
from gtasr_video.media.numbers import exact
from gtasr_video.media.window import Window

Seconds = float | str | Fraction

# Thirty years: in the finest ticks of any container FFmpeg can count them, and as many before.
_MOST_S: Final = 10**9
_MOST_FRAMES: Final = 10**12


def parse_seconds(value: Seconds, name: str = "time") -> Fraction:
    """Return ``90``, ``"90.5"``, ``"1:30.5"`` or ``"0:01:30.5"`` as exact seconds. Raises UsageError."""
    parts = str(value).strip().split(":")
    try:
        numbers = [exact(part) for part in parts]
    except ValueError as error:
        raise _bad_time(value, name) from error
    whole_before = all(part.isdigit() for part in parts[:-1])
    fits = all(number < 60 for number in numbers[1:])
    if len(parts) > 3 or not whole_before or not fits or "-" in str(value):
        raise _bad_time(value, name)
    total = Fraction(0)
    for number in numbers:
        total = total * 60 + number
    if total > _MOST_S:
        raise UsageError(f"{name} '{value}' is more than the {_MOST_S} seconds that can be counted; give less")
    return total


def _bad_time(value: Seconds, name: str) -> UsageError:
    return UsageError(f"{name} '{value}' is not a time; use seconds (90.5), mm:ss (1:30.5) or hh:mm:ss")


def window_of(start: Seconds | None, duration: Seconds | None, frames: int | None) -> Window:
    """Return the part of a file that these mean together. Raises UsageError."""
    if not isinstance(frames, int | None):  # from a program of one's own
        raise UsageError(f"frames must be a whole number, not {frames!r}")
    if frames is not None and frames < 1:
        raise UsageError(f"frames must be at least 1, not {frames}")
    if frames is not None and frames > _MOST_FRAMES:
        raise UsageError(f"frames must be at most {_MOST_FRAMES}, not {frames}")
    if frames is not None and duration is not None:
        raise UsageError("give either a duration or a number of frames, not both")
    length = None if duration is None else parse_seconds(duration, "duration")
    if length == 0:
        raise UsageError("a duration of 0 leaves nothing to upscale")
    return Window(None if start is None else parse_seconds(start, "start"), length, frames)
