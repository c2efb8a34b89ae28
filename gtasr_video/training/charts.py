"""Curves over the steps of a run, as figures of inline SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 360, 170, 46, 20
_POINTS = 240


@dataclass(frozen=True, slots=True)
class Point:
    """Several steps in a row as one point of a curve."""

    step: float
    mean: float
    low: float
    high: float


def thinned(series: Sequence[tuple[int, float]], points: int = _POINTS) -> list[Point]:
    """Return at most `points` points, each the mean and range of as many steps in a row as the others."""
    count = min(points, len(series))
    ends = [len(series) * k // count for k in range(count + 1)] if count else []
    return [_point(series[a:b]) for a, b in pairwise(ends)]


def _point(steps: Sequence[tuple[int, float]]) -> Point:
    values = [value for _, value in steps]
    return Point(sum(s for s, _ in steps) / len(steps), sum(values) / len(values), min(values), max(values))


def chart(name: str, series: Sequence[tuple[int, float]], phase_ends: Sequence[int], note: str = "") -> str:
    """Return a curve as a figure with inline SVG: the mean as a line, the range of what it stands for behind it."""
    points = thinned(series)
    if not points:
        return ""
    first, last = series[0][0], max(series[-1][0], series[0][0] + 1)
    low, high = _range(points)

    def x(step: float) -> float:
        return _LEFT + (step - first) / (last - first) * (_WIDTH - _LEFT - 4)

    def y(value: float) -> float:
        inside = min(max(value, low), high)
        return 6 + (high - inside) / (high - low) * (_HEIGHT - _BOTTOM - 6)

    band = [(x(p.step), y(p.high)) for p in points] + [(x(p.step), y(p.low)) for p in reversed(points)]
    line = [(x(p.step), y(p.mean)) for p in points]
    dots = (
        "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5" fill="#2a7de1"/>' for a, b in line)
        if len(line) < 40
        else ""
    )
    marks = "".join(
        f'<line x1="{x(s):.1f}" x2="{x(s):.1f}" y1="6" y2="{_HEIGHT - _BOTTOM}" stroke="#888" stroke-dasharray="3 3"/>'
        for s in phase_ends
        if first < s < last
    )
    labels = "".join(_labels(low, high, first, last))
    head = f"<b>{escape(name)}</b> {series[-1][1]:.4g}<small>{escape(note)}</small>"
    return (
        f"<figure><figcaption>{head}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(name, quote=True)} over steps">'
        f'<path d="M{_LEFT} 6V{_HEIGHT - _BOTTOM}H{_WIDTH - 4}" fill="none" stroke="#888"/>{marks}'
        f'<polygon points="{_joined(band)}" fill="#2a7de1" opacity=".18"/>'
        f'<polyline points="{_joined(line)}" fill="none" stroke="#2a7de1" stroke-width="1.6"/>{dots}{labels}'
        "</svg></figure>"
    )


def _range(points: Sequence[Point]) -> tuple[float, float]:
    """Return the values at the bottom and top; one wild step must not flatten the rest."""
    highs, lows = sorted(p.high for p in points), sorted(p.low for p in points)
    cut = len(points) // 50
    low, high = lows[cut], highs[-1 - cut]
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - margin, high + margin


def _labels(low: float, high: float, first: int, last: int) -> Iterator[str]:
    yield f'<text x="{_LEFT - 4}" y="15" text-anchor="end">{high:.3g}</text>'
    yield f'<text x="{_LEFT - 4}" y="{_HEIGHT - _BOTTOM}" text-anchor="end">{low:.3g}</text>'
    yield f'<text x="{_LEFT}" y="{_HEIGHT - 5}">step {first}</text>'
    yield f'<text x="{_WIDTH - 4}" y="{_HEIGHT - 5}" text-anchor="end">{last}</text>'


def _joined(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
