"""Numbers as people give them, exact, and of a size that can be reckoned with."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from gtasr_video.errors import UsageError

_LONG_EXPONENT: Final = re.compile(r"e[+-]?[\d_]{4}", re.IGNORECASE)
_FASTEST: Final = 1000
# A picture an hour; longer ones are more ticks than some containers can count.
_SLOWEST: Final = Fraction(1, 3600)
# FFmpeg holds a rate as two integers of 32 bits.
_FINEST: Final = 1_000_000


def exact(text: str) -> Fraction:
    """Return ``25``, ``90.5`` or ``30000/1001`` as an exact number. Raises ValueError.

    So does an exponent of four digits and more: written out, such a number can fill the memory.
    """
    if _LONG_EXPONENT.search(text):
        raise ValueError(f"exponent too long: {text}")
    try:
        return Fraction(text)
    except ZeroDivisionError as error:
        raise ValueError(f"division by zero: {text}") from error


def check_rate(text: str) -> Fraction:
    """Return ``25`` or ``30000/1001`` as a number of pictures a second. Raises UsageError."""
    try:
        rate = exact(text)
    except ValueError as error:
        raise UsageError(f"rate '{text}' is not a number of frames a second, such as 25 or 30000/1001") from error
    if not _SLOWEST <= rate <= _FASTEST:
        raise UsageError(f"a rate of {text} frames a second is none; use one from {_SLOWEST} to {_FASTEST}")
    return rate.limit_denominator(_FINEST)
