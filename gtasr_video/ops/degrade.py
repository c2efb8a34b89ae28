"""What happens to a picture on its way to a viewer, as pure functions on any device.

The chain follows second-order degradation (Real-ESRGAN, arXiv 2107.10833) for video: everything is drawn once
a clip, with a small drift over its frames, and a codec comes last. `draw` makes the decisions from a seeded
generator, `degrade` carries out all but the codec, so that a real encoder or a model of one can follow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.config import at_least, rising
from gtasr_video.ops.lines import weigh_along
from gtasr_video.ops.resize import bicubic

CODECS = ("h264", "hevc", "mpeg4", "vp9")


@dataclass(frozen=True, slots=True)
class DegradationSettings:
    """How often each damage happens (0..1) and how strong it is. The defaults are a mild mix.

    clean_share         clips that get antialiased bicubic shrinking and, as often as `codec` says, H.264 at `crf`
    blur, blur_sigma    Gaussian blur before shrinking, in HR pixels; `anisotropic`: share of long kernels
    other_shrink        area or bilinear shrinking in place of bicubic
    noise, noise_sigma  in 8-bit steps; `poisson`, `gray_noise`: shares that follow the light, have no colour
    grain, grain_sigma  film grain: spatially correlated, strongest in the mid tones
    second_order        a first pass of blur, resizing and noise before the pass above
    interlace           fields of two moments woven together, half of them with the second field interpolated
    codec               an encoder at all; `other_codec`: HEVC, MPEG-4 or VP9 in place of H.264
    crf, high_crf       constant rate factor (H.264 scale); `hard_crf`: share drawn from crf[1]..high_crf
    double_encode       two encoders in a row
    drift               relative change of blur and noise over a clip
    """

    clean_share: float = 0.4
    blur: float = 0.4
    blur_sigma: tuple[float, float] = (0.2, 2.0)
    anisotropic: float = 0.3
    other_shrink: float = 0.3
    noise: float = 0.4
    noise_sigma: tuple[float, float] = (0.0, 8.0)
    poisson: float = 0.4
    gray_noise: float = 0.4
    grain: float = 0.05
    grain_sigma: tuple[float, float] = (1.0, 6.0)
    second_order: float = 0.1
    interlace: float = 0.02
    codec: float = 0.9
    other_codec: float = 0.1
    crf: tuple[float, float] = (18.0, 30.0)
    high_crf: float = 36.0
    hard_crf: float = 0.1
    double_encode: float = 0.05
    drift: float = 0.15

    def __post_init__(self) -> None:
        rising(self, "blur_sigma", "noise_sigma", "grain_sigma", "crf")
        at_least(self.crf[1], self, "high_crf")


@dataclass(frozen=True, slots=True)
class Blur:
    """A Gaussian kernel: standard deviations along its two axes in pixels, and its angle in radians."""

    sigma: tuple[float, float]
    angle: float = 0.0


@dataclass(frozen=True, slots=True)
class Noise:
    """Sensor noise: strength in 0..1 units, whether it grows with light, whether R, G and B share it."""

    sigma: float
    poisson: bool = False
    gray: bool = False


@dataclass(frozen=True, slots=True)
class Codec:
    """One pass through an encoder.

    crf       on H.264's scale whatever the codec;  preset   of x264
    b_frames  pictures predicted from both sides, coarser than their neighbours; live streams have none
    """

    name: str
    crf: float
    preset: str = "veryfast"
    b_frames: bool = True


@dataclass(frozen=True, slots=True)
class Pass:
    """Blur, then resizing (bicubic, area, bilinear) to `factor` of the size (0: to LR), then noise."""

    blur: Blur | None
    shrink: str
    noise: Noise | None
    factor: float = 0.0


@dataclass(frozen=True, slots=True)
class Degradation:
    """All decisions for one clip, as plain numbers: `passes` in order, then grain, fields, encoders.

    `interlace` is empty, ``combed`` or ``interpolated``.
    """

    passes: tuple[Pass, ...] = (Pass(None, "bicubic", None),)
    grain: float = 0.0
    interlace: str = ""
    codecs: tuple[Codec, ...] = ()
    drift: float = 0.0


def draw(settings: DegradationSettings, rng: np.random.Generator) -> Degradation:
    """Decide what happens to one clip. Equal generators give equal decisions."""
    if rng.random() < settings.clean_share:
        return Degradation(codecs=_draw_codecs(settings, rng, plain=True))
    first = (_draw_first_pass(settings, rng),) if rng.random() < settings.second_order else ()
    blur = _draw_blur(settings, rng) if rng.random() < settings.blur else None
    other = rng.random() < settings.other_shrink
    shrink = _choose(("area", "bilinear"), rng) if other else "bicubic"
    noise = _draw_noise(settings, rng) if rng.random() < settings.noise else None
    fields = _choose(("combed", "interpolated"), rng) if rng.random() < settings.interlace else ""
    return Degradation(
        passes=(*first, Pass(blur, shrink, noise)),
        grain=rng.uniform(*settings.grain_sigma) / 255 if rng.random() < settings.grain else 0.0,
        interlace=fields,
        codecs=_draw_codecs(settings, rng, plain=False),
        drift=rng.uniform(-settings.drift, settings.drift),
    )


def _choose(names: tuple[str, ...], rng: np.random.Generator) -> str:
    return names[int(rng.integers(len(names)))]


def _draw_first_pass(settings: DegradationSettings, rng: np.random.Generator) -> Pass:
    shrink = _choose(("bicubic", "area", "bilinear"), rng)
    noise = _draw_noise(settings, rng) if rng.random() < 0.5 else None
    return Pass(_draw_blur(settings, rng), shrink, noise, factor=rng.uniform(0.2, 0.9))


def _draw_blur(settings: DegradationSettings, rng: np.random.Generator) -> Blur:
    first, second = rng.uniform(*settings.blur_sigma, size=2)
    if rng.random() >= settings.anisotropic:
        return Blur((float(first), float(first)))
    return Blur((float(first), float(second)), rng.uniform(0, math.pi))


def _draw_noise(settings: DegradationSettings, rng: np.random.Generator) -> Noise:
    sigma = rng.uniform(*settings.noise_sigma) / 255
    return Noise(sigma, bool(rng.random() < settings.poisson), bool(rng.random() < settings.gray_noise))


def _draw_codecs(settings: DegradationSettings, rng: np.random.Generator, *, plain: bool) -> tuple[Codec, ...]:
    if rng.random() >= settings.codec:
        return ()
    count = 1 if plain or rng.random() >= settings.double_encode else 2
    return tuple(_draw_codec(settings, rng, plain) for _ in range(count))


def _draw_codec(settings: DegradationSettings, rng: np.random.Generator, plain: bool) -> Codec:
    hard = not plain and rng.random() < settings.hard_crf
    crf = rng.uniform(*((settings.crf[1], settings.high_crf) if hard else settings.crf))
    other = not plain and rng.random() < settings.other_codec
    name = _choose(CODECS[1:], rng) if other else "h264"
    preset = "medium" if rng.random() < 0.25 else "veryfast"
    return Codec(name, float(crf), preset, b_frames=bool(rng.random() < 0.7))


def degrade(clip: Tensor, plan: Degradation, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return the LR frames (T, 3, *size) of `clip` (T, 3, H, W), both 0..1, before any codec of `plan`.

    `generator` lives on the clip's device; the same seed gives the same noise on that device.
    """
    x = clip
    for part in plan.passes:
        if part.blur is not None:
            x = blur(x, part.blur, plan.drift)
        target = size if not part.factor else _scaled(x, part.factor)
        x = resize(x, target, part.shrink)
        if part.noise is not None:
            x = add_noise(x, part.noise, generator, plan.drift)
    if plan.grain:
        x = add_grain(x, plan.grain, generator)
    if plan.interlace:
        x = interlace(x, interpolated=plan.interlace == "interpolated")
    return x.clamp(0, 1)


def _scaled(x: Tensor, factor: float) -> tuple[int, int]:
    return max(4, round(x.shape[-2] * factor)), max(4, round(x.shape[-1] * factor))


def resize(x: Tensor, size: tuple[int, int], method: str) -> Tensor:
    """Resize (T, C, H, W) with one of the filters found in the wild; `bicubic` is the project's own."""
    if method == "bicubic":
        return bicubic(x, size)
    if method == "area":
        return F.interpolate(x, size=size, mode="area")
    shrinks = size[0] < x.shape[-2] or size[1] < x.shape[-1]
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=shrinks)


def _drifting(frames: int, drift: float) -> list[float]:
    """Strength of each frame: a ramp from 1 - drift to 1 + drift."""
    return [1 + drift * (2 * k / max(frames - 1, 1) - 1) for k in range(frames)]


def blur(x: Tensor, kernel: Blur, drift: float = 0.0) -> Tensor:
    """Blur (T, C, H, W) by a Gaussian whose width drifts over the frames; borders are mirrored."""
    strengths = _drifting(x.shape[0], drift)
    first, second = kernel.sigma
    if first == second:
        radius = max(1, math.ceil(3 * first * max(strengths)))
        lines = [_gaussian_line(max(first * s, 0.05), radius) for s in strengths]
        return _separable(x, lines)
    radius = max(1, math.ceil(2.5 * max(first, second) * max(strengths)))
    planes = [_gaussian_plane(first * s, second * s, kernel.angle, radius) for s in strengths]
    return _convolve(x, torch.stack(planes))


def _gaussian_line(sigma: float, radius: int) -> list[float]:
    line = [math.exp(-0.5 * (at / sigma) ** 2) for at in range(-radius, radius + 1)]
    return [value / sum(line) for value in line]


def _gaussian_plane(first: float, second: float, angle: float, radius: int) -> Tensor:
    at = torch.arange(-radius, radius + 1, dtype=torch.float32)
    y, x = torch.meshgrid(at, at, indexing="ij")
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    plane = torch.exp(-0.5 * ((along / max(first, 0.05)) ** 2 + (across / max(second, 0.05)) ** 2))
    return plane / plane.sum()


def _separable(x: Tensor, lines: Sequence[Sequence[float]]) -> Tensor:
    """Filter each frame of (T, C, H, W) by its line along both sides."""
    if x.device.type == "cpu":
        return torch.cat([_along(_along(f, line, -1), line, -2) for f, line in zip(x.unsqueeze(1), lines, strict=True)])
    weights = torch.tensor(lines)
    return _convolve(_convolve(x, weights[:, None, :]), weights[:, :, None])


def _along(x: Tensor, line: Sequence[float], dim: int) -> Tensor:
    return weigh_along(_mirrored(x, len(line) // 2, dim), line, dim)


def _convolve(x: Tensor, kernels: Tensor) -> Tensor:
    """Filter each frame of (T, C, H, W) by its own of `kernels` (T, ky, kx)."""
    (frames, channels), (ky, kx) = x.shape[:2], kernels.shape[1:]
    padded = _mirrored(_mirrored(x, kx // 2, -1), ky // 2, -2).flatten(0, 1)[None]
    weights = kernels.to(x).repeat_interleave(channels, dim=0)[:, None]
    # On CUDA torch's own kernel for planes by themselves: channels last would go to cuDNN, which tries its algorithms
    # anew for each shape, and nearly every clip has one of its own.
    ready = padded if padded.is_cuda else padded.contiguous(memory_format=torch.channels_last)
    return F.conv2d(ready, weights, groups=frames * channels).view(x.shape)


def _mirrored(x: Tensor, radius: int, dim: int) -> Tensor:
    pad = (radius, radius, 0, 0) if dim == -1 else (0, 0, radius, radius)
    return F.pad(x, pad, mode="reflect" if radius < x.shape[dim] else "replicate")


def add_noise(x: Tensor, noise: Noise, generator: torch.Generator, drift: float = 0.0) -> Tensor:
    """Add sensor noise to (T, 3, H, W) in 0..1, fresh in every frame."""
    shape = (x.shape[0], 1 if noise.gray else x.shape[1], *x.shape[-2:])
    fresh = torch.randn(shape, generator=generator, device=x.device)
    strength = torch.tensor(_drifting(x.shape[0], drift), device=x.device).view(-1, 1, 1, 1) * noise.sigma
    # Photon noise has a variance proportional to the light; at mid grey it is as strong as the other kind.
    light = (2 * x.clamp(0, 1)).sqrt() if noise.poisson else 1.0
    return x + fresh * strength * light


def add_grain(x: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Add film grain of strength `sigma` (0..1 units) to (T, 3, H, W): clumped, colourless."""
    fresh = torch.randn((x.shape[0], 1, *x.shape[-2:]), generator=generator, device=x.device)
    clumped = blur(fresh, Blur((0.7, 0.7)))
    clumped = clumped / clumped.std().clamp_min(1e-6)
    luma = x.mean(dim=1, keepdim=True).clamp(0, 1)
    return x + clumped * sigma * (4 * luma * (1 - luma)).sqrt()


def interlace(x: Tensor, *, interpolated: bool) -> Tensor:
    """Weave (T, C, H, W): odd rows come from the next frame, or are interpolated from the even rows."""
    woven = x.clone()
    if interpolated:
        even = x[:, :, 0::2]
        below = torch.cat((even[:, :, 1:], even[:, :, -1:]), dim=2)
        woven[:, :, 1::2] = ((even + below) / 2)[:, :, : woven[:, :, 1::2].shape[2]]
    else:
        following = torch.cat((x[1:], x[-1:]))
        woven[:, :, 1::2] = following[:, :, 1::2]
    return woven
