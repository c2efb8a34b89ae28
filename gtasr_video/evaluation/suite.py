"""The measurement: every clip, under every degradation, by every method."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from gtasr_video.device import Device
from gtasr_video.errors import GTASRVideoError
from gtasr_video.evaluation.cache import Cache, key
from gtasr_video.evaluation.methods import Method
from gtasr_video.evaluation.scores import METRICS, Scorer, Scores
from gtasr_video.evaluation.truth import (
    DEGRADATIONS,
    DamagedTruthError,
    Degraded,
    check,
    degradation,
    degrade,
    find,
    prepare,
)

YARDSTICK = "bicubic"


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """What is measured; the defaults are the whole measurement at x4.

    models, peers   this package's networks (tier or .safetensors), and built-in peers or ncnn .param files;
                    bicubic is always measured, as every ratio needs it
    steps           each network is measured with each of these numbers of steps a frame
    without_memory  each network is measured once more with every frame as the first of a stream
    peer_commands   outside programs, ``"prog {input} {output}"``
    limit_frames    first frames of each clip, or None for all
    vgg_every       the VGG16 distance and NIQE, the costly ones, are measured on every so many-th frame
    vgg, niqe       files of the weights of these metrics, or None to leave them out
    crop            side of the crops in pictures, in pixels of the truth
    """

    scale: int = 4
    degradations: tuple[str, ...] = ("clean", "web", "hard")
    models: tuple[str, ...] = ()
    steps: tuple[int, ...] = (1,)
    without_memory: bool = False
    peers: tuple[str, ...] = ("lanczos",)
    peer_commands: tuple[str, ...] = ()
    limit_frames: int | None = None
    vgg_every: int = 1
    seed: int = 0
    vgg: Path | None = None
    niqe: Path | None = None
    crop: int = 160

    def __post_init__(self) -> None:
        for name in self.degradations:
            degradation(name)
        if self.scale not in (1, 2, 3, 4, 8):
            raise ValueError(f"scale must be 1, 2, 3, 4 or 8, not {self.scale}")
        if self.limit_frames is not None and self.limit_frames < 1:
            raise ValueError(f"limit_frames must be at least 1, not {self.limit_frames}")
        if self.vgg_every < 1:
            raise ValueError(f"vgg_every must be at least 1, not {self.vgg_every}")
        if abs(self.seed) >= 2**63:  # more than torch's generators take
            raise ValueError(f"seed must lie within 2**63 of 0, not {self.seed}")
        if self.crop < 32:
            raise ValueError(f"crop must be at least 32 pixels, not {self.crop}")


@dataclass(frozen=True, slots=True)
class Row:
    """Scores of one method on one clip under one degradation, each the mean over frames."""

    clip: str
    degradation: str
    method: str
    scores: Scores


@dataclass(frozen=True, slots=True)
class Results:
    """All rows of a measurement, what must be said beside them, and the clips that were left out, with the reason."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def names(self, what: str) -> list[str]:
        """Return the different values of a row's field (``clip``, ``degradation``, ``method``), in order."""
        return list(dict.fromkeys(getattr(row, what) for row in self.rows))

    def mean(self, degradation: str, method: str) -> Scores:
        """Return each score's mean over the clips that have it, with what a target compares to bicubic.

        ``psnr_gain`` is the difference of the means in dB; ``vgg_ratio`` and ``jitter_ratio`` their quotients.
        """
        means, base = (self._mean(degradation, name) for name in (method, YARDSTICK))
        ratios: Scores = {
            "psnr_gain": _combine(means["psnr"], base["psnr"], lambda a, b: a - b),
            "vgg_ratio": _combine(means["vgg"], base["vgg"], _quotient),
            "jitter_ratio": _combine(means["jitter"], base["jitter"], _quotient),
        }
        return means | ratios

    def _mean(self, degradation: str, method: str) -> Scores:
        rows = [r.scores for r in self.rows if (r.degradation, r.method) == (degradation, method)]
        known = {name: [s[name] for s in rows if s.get(name) is not None] for name in METRICS}
        return {name: sum(v) / len(v) if v else None for name, v in known.items()}  # type: ignore[arg-type]

    def as_json(self) -> dict[str, Any]:
        """Return means, rows, notes and facts as plain data."""
        means = [
            {"degradation": d, "method": m, **self.mean(d, m)}
            for d in self.names("degradation")
            for m in self.names("method")
        ]
        return {**self.facts, "notes": self.notes, "means": means, "rows": [asdict(row) for row in self.rows]}


# Called after each clip and degradation with the results as files, while they are there.
OnRendered = Callable[[Degraded, dict[str, Path], list[Row]], None]
OnClip = Callable[[Results], None]
OnStep = Callable[[str], None]


def evaluate(
    places: Sequence[Path],
    methods: Mapping[str, Method],
    config: EvaluateConfig,
    scorer: Scorer,
    cache: Cache,
    *,
    on_rendered: OnRendered | None = None,
    on_clip: OnClip = lambda results: None,
    on_step: OnStep = lambda text: None,
) -> Results:
    """Measure `methods`, by the names they have in the results (``bicubic`` among them), on the truth in `places`.

    What cannot be opened or is too small ends it before anything is measured. Truth that is found damaged further on is
    left out. `on_clip` is given the results so far whenever a clip is whole: none need be lost with what comes after.
    Raises EvaluationError, with the clip and method it was at, for anything else that cannot be measured.
    """
    results = Results(notes=list(scorer.notes))
    found = find(places)
    for _, path in found:
        check(path, config.scale)
    for name, path in found:
        on_step(f"{name}: preparing")
        try:
            clip = prepare(name, path, config.scale, config.limit_frames, cache)
        except DamagedTruthError as error:
            results.left_out.append(str(error))
            results.notes.append(f"left out: {error}")
            continue
        rows: list[Row] = []
        for damage in config.degradations:
            degraded = degrade(clip, damage, config.scale, config.seed, cache)
            files: dict[str, Path] = {}
            for label, method in methods.items():
                on_step(f"{name}, {damage}: {label}")
                row, files[label] = _measure(degraded, label, method, scorer, cache)
                rows.append(row)
            if on_rendered is not None:
                on_rendered(degraded, files, rows[-len(files) :])
            cache.forget([*files.values(), degraded.path])
        cache.forget([clip.path])
        results.rows.extend(rows)
        on_clip(results)
    return results


def _measure(degraded: Degraded, label: str, method: Method, scorer: Scorer, cache: Cache) -> tuple[Row, Path]:
    """Return the scores of one method on one degraded clip, and its result; both kept if it has an identity."""
    clip, keep = degraded.clip.name, method.identity is not None
    made = key("result", degraded.digest, method.identity or ["unnamed", label])
    scored = key("scores", made, scorer.identity)
    try:
        file = cache.file(f"result-{made}.mkv", lambda path: method.render(degraded.path, path), keep=keep)
        scores: Scores = cache.json(f"scores-{scored}.json", lambda: scorer(degraded, file), keep=keep)
    except GTASRVideoError as error:
        # What could not be measured may be the fault of what is kept: it is made anew the next time.
        cache.drop(degraded.path.name, f"result-{made}.mkv")
        error.add_note(f"while measuring {label} on {clip}, {degraded.name}")
        raise
    return Row(clip, degraded.name, label, scores), file


def facts(config: EvaluateConfig, device: Device) -> dict[str, Any]:
    """Return what a reader of the figures must know: the settings, the degradations, and the machine."""
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items()}
    return {
        "settings": settings,
        "degradations": {name: asdict(DEGRADATIONS[name]) for name in config.degradations},
        "device": device.reason,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _combine(a: float | None, b: float | None, what: Callable[[float, float], float]) -> float | None:
    return None if a is None or b is None else what(a, b)


def _quotient(a: float, b: float) -> float:
    return a / b if b else 1.0 if a == b else float("inf")


def count_steps(places: Sequence[Path], methods: Mapping[str, Method], config: EvaluateConfig) -> int:
    """Return how often `evaluate` will call `on_step`."""
    return len(find(places)) * (1 + len(config.degradations) * len(methods))
