"""How like x264 the model of a codec is, and the fit of its constants: python benchmarks/codec_model.py --data DIR

For each rate factor, one JSON line with [x264, model] of: PSNR on luma of key pictures, of those predicted from both
sides and from the past, PSNR of colour; how much fine detail (Laplacian) is left of key pictures and of the others; how
much of the change from picture to picture is left; how much larger the steps of luma and of colour are at the edges of
blocks than within them, where the source is smooth, in 8-bit steps.
`--fit SECONDS` first looks for better constants by random search and prints them.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from gtasr_video.media.codec_loop import round_trip
from gtasr_video.ops.codec_model import FITTED, Constants, codec_model
from gtasr_video.ops.degrade import Codec, DegradationSettings
from gtasr_video.training.clips import ClipSource, DataSettings

# What a difference of one would cost: half a decibel and three hundredths of a ratio are alike.
TOLERANCE = {"key": 0.5, "both": 0.5, "past": 0.5, "colour": 0.7, "key_detail": 0.03, "detail": 0.03}
TOLERANCE |= {"change": 0.03, "blocks": 0.1, "colour_blocks": 0.1}
# Size of a random step in each constant, and its bounds.
STEPS = {
    "slope": (0.08, 0.5, 1.5),
    "key": (1.5, -8, 12),
    "past": (1.5, -8, 12),
    "both": (1.5, -8, 12),
    "key_rounding": (0.08, 0, 0.5),
    "rounding": (0.08, 0, 0.5),
    "decimate": (1.0, 0, 8),
    "colour": (0.1, 0.2, 1.5),
    "mean_step": (0.2, 0.05, 1.5),
    "adaptive": (0.2, 0, 1.6),
    "smooth": (0.6, 0, 5),
    "vector": (0.1, 0, 2),
}


def luma(x: Tensor) -> Tensor:
    """Return BT.601 luma of (..., 3, H, W) uint8."""
    r, g, b = x.float().unbind(-3)
    return 0.299 * r + 0.587 * g + 0.114 * b


def blue(x: Tensor) -> Tensor:
    """Return blue less luma."""
    return x[..., 2, :, :].float() - luma(x)


def detail(y: Tensor) -> Tensor:
    """Return the mean absolute Laplacian."""
    inner = y[..., 1:-1, 1:-1]
    around = y[..., :-2, 1:-1] + y[..., 2:, 1:-1] + y[..., 1:-1, :-2] + y[..., 1:-1, 2:]
    return (4 * inner - around).abs().mean(dim=(-1, -2))


def psnr(gap: Tensor) -> Tensor:
    """Return decibels of a difference, at most 61."""
    return 10 * torch.log10(65025 / gap.square().mean(dim=(-1, -2)).clamp_min(0.05))


def edges(y: Tensor, original: Tensor, side: int) -> Tensor:
    """Return how much larger steps are at the edges of blocks than in their middle, where the source is smooth."""
    steps, smooth = y.diff(dim=-1).abs(), (original.diff(dim=-1).abs() < 3).float()
    at, within = (
        (steps[..., n::side] * smooth[..., n::side]).sum(dim=(-1, -2))
        / smooth[..., n::side].sum(dim=(-1, -2)).clamp_min(1)
        for n in (side - 1, side // 2 - 1)
    )
    return at - within


def describe(coded: Tensor, source: Tensor) -> dict[str, float]:
    """Return what is compared, of clips (N, T, 3, H, W) uint8."""
    y, original = luma(coded), luma(source)
    quality = psnr(y - original)
    kept = detail(y) / detail(original).clamp_min(0.2)
    change = (y.diff(dim=1).abs().mean(dim=(-1, -2))) / original.diff(dim=1).abs().mean(dim=(-1, -2)).clamp_min(0.2)
    values = {
        "key": quality[:, 0],
        "both": quality[:, 1::2],
        "past": quality[:, 2::2],
        "colour": psnr(blue(coded) - blue(source)),
        "key_detail": kept[:, 0],
        "detail": kept[:, 1:],
        "change": change,
        "blocks": edges(y, original, 8),
        "colour_blocks": edges(blue(coded), blue(source), 16),
    }
    return {name: float(value.mean()) for name, value in values.items()}


def modelled(clips: Tensor, crf: float, constants: Constants, b_frames: bool = True) -> Tensor:
    """Return clips passed through the model."""
    return codec_model(clips, [Codec("h264", crf, b_frames=b_frames)] * len(clips), constants)


def real(clips: Tensor, crf: float, b_frames: bool = True) -> Tensor:
    """Return clips passed through x264."""
    return torch.stack([round_trip(c, "h264", crf, b_frames=b_frames) for c in clips])


def misfit(clips: Tensor, targets: dict[float, dict[str, float]], constants: Constants) -> float:
    """Return the sum of squared differences in units of their tolerance."""
    total = 0.0
    for crf, target in targets.items():
        found = describe(modelled(clips, crf, constants), clips)
        total += sum(((found[name] - target[name]) / unit) ** 2 for name, unit in TOLERANCE.items())
    return total


def fit(clips: Tensor, seconds: float) -> Constants:
    """Look for constants that fit better than the present ones."""
    targets = {crf: describe(real(clips, crf), clips) for crf in (18.0, 27.0, 36.0)}
    rng, best, step = np.random.default_rng(0), FITTED, 0.6
    lowest, end = misfit(clips, targets, best), time.monotonic() + seconds
    while time.monotonic() < end:
        moved = {}
        for name, (size, low, high) in STEPS.items():
            by = step * size * rng.normal() * (rng.random() < 0.5)
            moved[name] = float(np.clip(getattr(best, name) + by, low, high))
        trial = dataclasses.replace(best, **moved)
        found = misfit(clips, targets, trial)
        if found < lowest:
            lowest, best, step = found, trial, min(1.5, step * 1.25)
            click.echo(f"{found:.1f} {best}", err=True)
        else:
            step = max(0.08, step * 0.96)
    return best


@click.command()
@click.option("--data", "paths", multiple=True, required=True, type=click.Path(path_type=Path))
@click.option("--clips", "count", default=24, show_default=True)
@click.option("--fit", "seconds", default=0.0, help="Look for better constants this long.")
def main(paths: tuple[Path, ...], count: int, seconds: float) -> None:
    """Compare the model with x264 on clips of seven frames of 96 x 96."""
    torch.set_num_threads(1)
    plain = DegradationSettings(clean_share=1, codec=0)
    settings = DataSettings(frames=7, lead=0, crop=96, crops_per_clip=1, colour=0, light=0, degradation=plain)
    source = ClipSource(paths, settings, 11)
    clips = torch.stack([source.clip(n).lr for n in range(count)])
    constants = fit(clips[:8], seconds) if seconds else FITTED
    if seconds:
        click.echo(constants)
    for b_frames in (True, False):
        for crf in (18.0, 23.0, 28.0, 33.0, 36.0):
            there = describe(real(clips, crf, b_frames), clips)
            here = describe(modelled(clips, crf, constants, b_frames), clips)
            pairs = {name: [round(there[name], 2), round(here[name], 2)] for name in there}
            click.echo(json.dumps({"crf": crf, "b_frames": b_frames, **pairs}))


if __name__ == "__main__":
    main()
