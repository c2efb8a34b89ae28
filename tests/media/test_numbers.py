"""Numbers that people give: exact, and none that fills the memory or what FFmpeg holds it in."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gtasr_video.errors import UsageError
from gtasr_video.media.numbers import check_rate, exact
from gtasr_video.media.streams.config import StreamConfig


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("25", Fraction(25)),
        ("23.976", Fraction(2997, 125)),
        ("30000/1001", Fraction(30000, 1001)),
        ("29.97002997002997", Fraction(30000, 1001)),
        ("1/3600", Fraction(1, 3600)),
        ("1e3", Fraction(1000)),
    ],
)
def test_rates(text: str, rate: Fraction) -> None:
    assert check_rate(text) == StreamConfig(rate=text).frame_rate == rate


@pytest.mark.parametrize("text", ["1e400", "1e-400", "1e-12", "1e999999999", "nan", "inf", "-1", "0", "1/0", ""])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(UsageError, match=r"frames a second"):
        check_rate(text)
    with pytest.raises(UsageError, match=r"frames a second"):
        StreamConfig(rate=text)


@pytest.mark.parametrize("text", ["1e999999999", "1E-999999999", "1e9_99_99", "1/0", "nan", "x"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match=r"exponent too long|division by zero|Invalid literal"):
        exact(text)
