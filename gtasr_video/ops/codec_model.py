"""A block codec in a few tensor operations, for machines without an encoder: it damages like H.264 and makes no file.

Each clip is brought to YCbCr 4:2:0 and coded picture by picture as an encoder would: predicted from the pictures before
(and, for B-pictures, after) by motion search over blocks, or from nothing; what the prediction misses is transformed,
quantised with a dead zone and transformed back; block edges are smoothed where they are weak. So it has what matters
of a codec's damage: detail lost by rate and by place, blocks, colour at half size, and texture that is held for a while
and then refreshed. What the standard does not fix was fitted to x264 by ``benchmarks/codec_model.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.ops.degrade import Codec

_BLOCK = 8
_FULL_TO_VIDEO = 219 / 255
# Offset of the quantiser parameter at like quality, and whether the decoder smooths block edges.
_CODECS = {"h264": (0.0, True), "hevc": (-1.0, True), "vp9": (-1.0, True), "mpeg4": (-1.0, False)}


@dataclass(frozen=True, slots=True)
class Constants:
    """What an encoder is free to choose, as fitted to x264.

    slope, key, past, both   quantiser parameter = slope * (crf - 23) + 23 + offset of the picture's kind: a key
                             picture, one predicted from the past, one predicted from both sides
    key_rounding, rounding   what is added before quantised values are cut off: 1/2 would round to the nearest
    decimate                 blocks whose quantised values sum to less are left as predicted
    colour                   step of the colour planes relative to luma's
    mean_step                how finely the means of blocks are kept where nothing else predicts them
    adaptive                 strength of x264's adaptive quantisation: adaptive * (log2(energy) - 14.427)
    smooth                   strength of the edge filter, 1 as in the standard
    vector                   price of a block's own motion vector, in units of x264's lambda
    search                   reach of the motion search in pixels
    """

    slope: float = 1.08
    key: float = 0.45
    past: float = 3.5
    both: float = 5.0
    key_rounding: float = 0.25
    rounding: float = 0.0
    decimate: float = 1.75
    colour: float = 0.75
    mean_step: float = 0.17
    adaptive: float = 0.65
    smooth: float = 1.3
    vector: float = 0.28
    search: int = 3


FITTED = Constants()


@dataclass(frozen=True, slots=True)
class _Planes:
    """Luma (B, 1, H, W) and colour difference (B, 2, H/2, W/2) in steps of 8-bit video levels about mid-grey."""

    y: Tensor
    c: Tensor


def codec_model(clips: Tensor, codecs: Sequence[Codec], constants: Constants = FITTED) -> Tensor:
    """Pass `clips` (B, T, 3, H, W) uint8 RGB through one codec each; returns the same shape and type.

    Of the codecs only the name's family, `crf` and `b_frames` count, and `b_frames` must be equal in all.
    """
    height, width = clips.shape[-2:]
    padded = F.pad(clips.flatten(0, 1).float(), (0, -width % 16, 0, -height % 16), mode="replicate")
    source = [_to_planes(f) for f in padded.view(*clips.shape[:2], 3, *padded.shape[-2:]).unbind(1)]
    quality = _Quality.of(codecs, constants, clips.device)
    coded: dict[int, _Planes] = {}
    for number, kind, references in _order(len(source), b_frames=codecs[0].b_frames):
        rough, changed = _code(source[number], [coded[r] for r in references], quality, kind)
        coded[number] = _smooth(rough, changed, quality, kind)
    frames = torch.stack([_to_rgb(coded[n]) for n in range(len(source))], dim=1)
    return frames[..., :height, :width].round_().clamp_(0, 255).to(torch.uint8)


def _order(frames: int, *, b_frames: bool) -> list[tuple[int, str, tuple[int, ...]]]:
    """Return (number, kind, references) of each picture in coding order."""
    order: list[tuple[int, str, tuple[int, ...]]] = [(0, "key", ())]
    if not b_frames:
        return order + [(n, "past", (n - 1,)) for n in range(1, frames)]
    for n in range(2, frames, 2):
        order += [(n, "past", (n - 2,)), (n - 1, "both", (n - 2, n))]
    return order if frames % 2 or frames < 2 else [*order, (frames - 1, "past", (frames - 2,))]


@dataclass(frozen=True, slots=True)
class _Quality:
    """Rate factor of each clip, whether its edges are smoothed, both (B, 1, 1, 1), and the encoder's choices."""

    factor: Tensor
    smooths: Tensor
    constants: Constants

    @classmethod
    def of(cls, codecs: Sequence[Codec], constants: Constants, device: torch.device) -> _Quality:
        factor = torch.tensor([c.crf + _CODECS[c.name][0] for c in codecs], device=device)
        smooths = torch.tensor([float(_CODECS[c.name][1]) for c in codecs], device=device)
        return cls(factor.view(-1, 1, 1, 1), smooths.view(-1, 1, 1, 1), constants)

    def parameter(self, kind: str) -> Tensor:
        """Return the quantiser parameter of a picture (B, 1, 1, 1)."""
        offset: float = getattr(self.constants, kind)
        return (self.constants.slope * (self.factor - 23) + 23 + offset).clamp(0, 51)

    def price(self, kind: str) -> Tensor:
        """Return what a vector costs (B, 1, 1, 1), in mean difference a pixel: x264's lambda times some bits."""
        return self.constants.vector * torch.exp2((self.parameter(kind) - 12) / 6)

    def step(self, y: Tensor, kind: str) -> Tensor:
        """Return the quantiser step of each 16 x 16 macroblock (B, 1, H/16, W/16): finer where there is little."""
        energy = (F.avg_pool2d(y * y, 16) - F.avg_pool2d(y, 16).square()).clamp_min(0) * 256
        shift = self.constants.adaptive * (torch.log2(energy + 1) - 14.427)
        return 0.625 * torch.exp2((self.parameter(kind) + shift.clamp(-8, 8)).clamp(0, 51) / 6)


def _to_planes(rgb: Tensor) -> _Planes:
    """Return the planes of (B, 3, H, W) in 0..255: BT.601, as small pictures have it."""
    r, g, b = (rgb * _FULL_TO_VIDEO).chunk(3, dim=1)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    c = torch.cat(((b - y) / 1.772, (r - y) / 1.402), dim=1) * (224 / 219)
    return _Planes(y.round() - 110, F.avg_pool2d(c, 2).round())


def _to_rgb(planes: _Planes) -> Tensor:
    y = planes.y.round() + 110
    c = F.interpolate(planes.c.round() * (219 / 224), scale_factor=2, mode="bilinear", align_corners=False)
    b, r = y + 1.772 * c[:, :1], y + 1.402 * c[:, 1:]
    return torch.cat((r, (y - 0.299 * r - 0.114 * b) / 0.587, b), dim=1) / _FULL_TO_VIDEO


def _code(source: _Planes, references: Sequence[_Planes], quality: _Quality, kind: str) -> tuple[_Planes, Tensor]:
    """Return `source` as a decoder sees it after prediction from `references` and quantisation, and the blocks of
    8 x 8 luma (B, 1, H/8, W/8) that are more than a piece of a reference moved with the rest."""
    step = quality.step(source.y, kind)
    coarse = _Planes(_surface(source.y, step, quality), _surface(source.c, step, quality))
    if references:
        guess, alone = _predict(source, coarse, references, quality.constants.search, quality.price(kind))
    else:
        guess, alone = coarse, torch.ones_like(source.y[..., ::_BLOCK, ::_BLOCK], dtype=torch.bool)
    rounding = quality.constants.rounding if references else quality.constants.key_rounding
    y = _quantise(source.y - guess.y, step, rounding, quality.constants.decimate)
    c = _quantise(source.c - guess.c, step * quality.constants.colour, rounding, quality.constants.decimate)
    coded = F.max_pool2d(y.abs(), _BLOCK) > 1e-3
    return _Planes(guess.y + y, guess.c + c), (coded | alone).float()


def _surface(x: Tensor, step: Tensor, quality: _Quality) -> Tensor:
    """Return (B, C, H, W) as a smooth surface through the means of its blocks, which are kept `mean_step` times as
    finely as the rest: what predicting blocks from their neighbours makes of gentle slopes."""
    means = F.avg_pool2d(x, _BLOCK)
    unit = F.interpolate(step, size=means.shape[-2:], mode="nearest") * (quality.constants.mean_step / _BLOCK)
    return F.interpolate((means / unit).round() * unit, size=x.shape[-2:], mode="bilinear", align_corners=False)


@lru_cache(maxsize=8)
def _transform(device: torch.device) -> Tensor:
    """Return the 64 basis pictures of the 8 x 8 cosine transform, orthonormal, as (64, 1, 8, 8)."""
    at = torch.arange(_BLOCK, dtype=torch.float64)
    basis = torch.cos((2 * at[None, :] + 1) * at[:, None] * math.pi / (2 * _BLOCK)) * math.sqrt(2 / _BLOCK)
    basis[0] /= math.sqrt(2)
    return torch.einsum("iy,jx->ijyx", basis, basis).reshape(64, 1, _BLOCK, _BLOCK).float().to(device)


def _quantise(x: Tensor, step: Tensor, rounding: float, decimate: float) -> Tensor:
    """Transform (B, C, H, W) by blocks, quantise by the `step` of each macroblock, and transform back."""
    batch, channels, height, width = x.shape
    basis = _transform(x.device)
    blocks = F.conv2d(x.reshape(-1, 1, height, width), basis, stride=_BLOCK)
    step = F.interpolate(step, size=blocks.shape[-2:], mode="nearest").repeat_interleave(channels, dim=0)
    levels = torch.floor(blocks.abs() / step + rounding)
    levels = levels * (levels.sum(dim=1, keepdim=True) >= decimate)
    back = F.conv_transpose2d(blocks.sign() * levels * step, basis, stride=_BLOCK)
    return back.reshape(batch, channels, height, width)


def _predict(
    source: _Planes, coarse: _Planes, references: Sequence[_Planes], reach: int, price: Tensor
) -> tuple[_Planes, Tensor]:
    """Return the best prediction of each 8 x 8 block, and the blocks (B, 1, H/8, W/8) that do not move with the rest.

    It is taken from one reference, the mean of two or, where something new has come into view, from its surroundings.
    """
    motions = [_search(source.y, r.y, reach, price) for r in references]
    options = [_moved(r, m) for r, m in zip(references, motions, strict=True)]
    if len(options) == 2:
        first, second = options
        options.append(_Planes((first.y + second.y) / 2, (first.c + second.c) / 2))
    options.append(coarse)
    costs = torch.cat([F.avg_pool2d((source.y - o.y).abs(), _BLOCK) for o in options], dim=1)
    # A block that is not predicted from another picture costs many bits.
    costs[:, -1] = 2 * costs[:, -1] + 4
    best = costs.argmin(dim=1, keepdim=True)
    y, c = options[0].y, options[0].c
    for number, other in enumerate(options[1:], 1):
        chosen = (best == number).float()
        y = torch.where(_grow(chosen, _BLOCK) > 0, other.y, y)
        c = torch.where(_grow(chosen, _BLOCK // 2) > 0, other.c, c)
    alone = torch.cat([_strays(m) for m in motions] + [best == len(options) - 1], dim=1).any(dim=1, keepdim=True)
    return _Planes(y, c), alone


def _strays(motion: Tensor) -> Tensor:
    """Return the blocks (B, 1, H/8, W/8) that move by a pixel or so otherwise than most."""
    most = motion.flatten(2).median(dim=2).values[..., None, None]
    return (motion - most).abs().amax(dim=1, keepdim=True) > 0.75


def _grow(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="nearest")


def _search(y: Tensor, reference: Tensor, reach: int, price: Tensor) -> Tensor:
    """Return the motion (B, 2, H/8, W/8), x then y, by which each block of `y` is found in `reference`.

    All whole-pixel vectors up to `reach`, then the half-pixel ones about the best. `price` (B, 1, 1, 1) is what bits
    for a vector of its own cost a block, in mean difference a pixel.
    """
    height, width = y.shape[-2:]
    wide = F.pad(reference, (reach,) * 4, mode="replicate")
    views = wide.unfold(2, height, 1).unfold(3, width, 1)[:, 0]
    side = 2 * reach + 1
    best = _cheapest((views - y.unsqueeze(1)).abs().flatten(1, 2), side * reach + reach, price)
    motion = torch.stack((best % side - reach, best // side - reach), dim=1).float()
    steps = motion.new_tensor([(a, b) for b in (0.0, -0.5, 0.5) for a in (0.0, -0.5, 0.5)])
    trials = (motion.unsqueeze(1) + steps.view(1, 9, 2, 1, 1)).flatten(0, 1)
    moved = _fetch(reference.repeat_interleave(9, dim=0), trials, _BLOCK)
    gaps = (moved - y.repeat_interleave(9, dim=0)).abs().view(-1, 9, height, width)
    return motion + steps[_cheapest(gaps, 0, price / 2)].permute(0, 3, 1, 2)


def _cheapest(gaps: Tensor, still: int, price: Tensor) -> Tensor:
    """Return the number of the best of N candidates (B, N, H, W) for each block: (B, H/8, W/8).

    Standing still (number `still`) and what suits the whole picture best are free.
    """
    costs = F.avg_pool2d(gaps, _BLOCK)
    costs = costs + F.avg_pool2d(costs, 3, stride=1, padding=1, count_include_pad=False)
    common = costs.mean(dim=(2, 3)).argmin(dim=1).view(-1, 1, 1, 1)
    numbers = torch.arange(costs.shape[1], device=costs.device).view(1, -1, 1, 1)
    return (costs + price * ((numbers != still) & (numbers != common))).argmin(dim=1)


def _moved(reference: _Planes, motion: Tensor) -> _Planes:
    return _Planes(_fetch(reference.y, motion, _BLOCK), _fetch(reference.c, motion / 2, _BLOCK // 2))


def _fetch(x: Tensor, motion: Tensor, block: int) -> Tensor:
    """Return `x` (B, C, H, W) with each block taken from where `motion` points; borders are repeated."""
    height, width = x.shape[-2:]
    at = _grow(motion, block)
    columns = torch.arange(width, device=x.device) + at[:, 0]
    rows = torch.arange(height, device=x.device)[:, None] + at[:, 1]
    grid = torch.stack(((columns + 0.5) * (2 / width) - 1, (rows + 0.5) * (2 / height) - 1), dim=-1)
    mode = "bicubic" if x.shape[1] == 1 else "bilinear"
    return F.grid_sample(x, grid, mode=mode, padding_mode="border", align_corners=False)


@dataclass(frozen=True, slots=True)
class _Filter:
    """H.264's loop filter for one picture: thresholds (B, 1, 1, 1), and whether edges get its strong form."""

    alpha: Tensor
    beta: Tensor
    limit: Tensor
    strong: bool

    @classmethod
    def of(cls, quality: _Quality, kind: str) -> _Filter:
        parameter = quality.parameter(kind)
        strength = quality.smooths * quality.constants.smooth
        alpha = 0.8 * (torch.exp2(parameter / 6) - 1) * strength
        beta = (0.5 * parameter - 7) * strength
        limit = (0.1 * torch.exp2((parameter - 17) / 6) + 1) * strength
        return cls(alpha, beta, limit, kind == "key")

    def columns(self, x: Tensor, changed: Tensor) -> Tensor:
        """Smooth (B, C, H, W) across the vertical edges of its blocks of 8, where a step is too small to be the
        picture's own and a block beside it is `changed` (B, 1, H/8, W/8)."""
        edges = x.shape[-1] // _BLOCK - 1
        p2, p1, p0, q0, q1, q2 = (x[..., _BLOCK + n :: _BLOCK][..., :edges] for n in range(-3, 3))
        weak = ((p0 - q0).abs() < self.alpha) & ((p1 - p0).abs() < self.beta) & ((q1 - q0).abs() < self.beta)
        beside = torch.maximum(changed[..., 1:], changed[..., :-1]).repeat_interleave(_BLOCK, dim=-2) > 0
        change = (((q0 - p0) * 4 + (p1 - q1)) / 8).clamp(-self.limit, self.limit)
        smoothed = x.clone()
        for at, value in ((-1, p0 + change), (0, q0 - change)):
            self._put(smoothed, at, value, weak & beside)
        if self.strong:
            flat = weak & ((p0 - q0).abs() < self.alpha / 4 + 2)
            inner = ((-1, (p2 + 2 * p1 + 2 * p0 + 2 * q0 + q1) / 8), (0, (p1 + 2 * p0 + 2 * q0 + 2 * q1 + q2) / 8))
            for at, value in (*inner, (-2, (p2 + p1 + p0 + q0) / 4), (1, (p0 + q0 + q1 + q2) / 4)):
                self._put(smoothed, at, value, flat)
        return smoothed

    @staticmethod
    def _put(x: Tensor, at: int, value: Tensor, where: Tensor) -> None:
        target = x[..., _BLOCK + at :: _BLOCK][..., : value.shape[-1]]
        target.copy_(torch.where(where, value, target))


def _smooth(picture: _Planes, changed: Tensor, quality: _Quality, kind: str) -> _Planes:
    """Smooth the edges of blocks in both directions; what is held is left alone, or it would melt."""
    edge = _Filter.of(quality, kind)

    def both_ways(x: Tensor, where: Tensor) -> Tensor:
        x = edge.columns(x, where)
        return edge.columns(x.transpose(-1, -2), where.transpose(-1, -2)).transpose(-1, -2)

    return _Planes(both_ways(picture.y, changed), both_ways(picture.c, F.max_pool2d(changed, 2)))
