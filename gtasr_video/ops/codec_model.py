"""A block codec in a few tensor operations, for machines without an encoder: it damages like H.264 and makes no file.

Each clip is brought to YCbCr 4:2:0 and coded picture by picture as an encoder would: predicted from the pictures before
(and, for B-pictures, after) by motion search over blocks, or from nothing; what the prediction misses is transformed,
quantised with a dead zone and transformed back; block edges are smoothed where they are weak. So it has what matters
of a codec's damage: detail lost by rate and by place, blocks, colour at half size, and texture that is held for a while
and then refreshed. Constants that are not the standard's were fitted to x264 by ``benchmarks/codec_model.py``.
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
_SEARCH = 3
# The rate factor is a quality, the quantiser parameter a step size: how x264 gets from one to the other on average,
# for key pictures, those predicted from the past, and those predicted from both sides.
_PARAMETER = {"I": (1.0, -3.0), "P": (1.0, 0.0), "B": (1.0, 2.0)}
# x264's adaptive quantisation (mode 1): 1.0397 * (log2(energy of a macroblock) - 14.427).
_ADAPTIVE, _ENERGY = 1.0397, 14.427
# Offset of the quantiser parameter at like quality, and whether the decoder smooths block edges.
_CODECS = {"h264": (0.0, True), "hevc": (-1.0, True), "vp9": (-1.0, True), "mpeg4": (-2.0, False)}
_FULL_TO_VIDEO = 219 / 255


@dataclass(frozen=True, slots=True)
class _Planes:
    """Luma (B, 1, H, W) and colour difference (B, 2, H/2, W/2) in steps of 8-bit video levels about their zero."""

    y: Tensor
    c: Tensor


def codec_model(clips: Tensor, codecs: Sequence[Codec]) -> Tensor:
    """Pass `clips` (B, T, 3, H, W) uint8 RGB through one codec each; returns the same shape and type.

    Of the codecs only the name's family, `crf` and `b_frames` count, and `b_frames` must be equal in all.
    """
    height, width = clips.shape[-2:]
    padded = F.pad(clips.flatten(0, 1).float(), (0, -width % 16, 0, -height % 16), mode="replicate")
    source = [_to_planes(f) for f in padded.view(*clips.shape[:2], 3, *padded.shape[-2:]).unbind(1)]
    quality = _Quality.of(codecs, clips.device)
    coded: dict[int, _Planes] = {}
    for number, kind, references in _order(len(source), b_frames=codecs[0].b_frames):
        coded[number] = _code(source[number], [coded[r] for r in references], quality.step(source[number], kind))
        coded[number] = _smooth(coded[number], quality, kind)
    frames = torch.stack([_to_rgb(coded[n]) for n in range(len(source))], dim=1)
    return frames[..., :height, :width].round_().clamp_(0, 255).to(torch.uint8)


def _order(frames: int, *, b_frames: bool) -> list[tuple[int, str, tuple[int, ...]]]:
    """Return (number, kind, references) of each picture in coding order."""
    order: list[tuple[int, str, tuple[int, ...]]] = [(0, "I", ())]
    if not b_frames:
        return order + [(n, "P", (n - 1,)) for n in range(1, frames)]
    for n in range(2, frames, 2):
        order += [(n, "P", (n - 2,)), (n - 1, "B", (n - 2, n))]
    return order if frames % 2 or frames < 2 else [*order, (frames - 1, "P", (frames - 2,))]


@dataclass(frozen=True, slots=True)
class _Quality:
    """Rate factor (B, 1, 1, 1) and whether edges are smoothed (B, 1, 1, 1), one a clip."""

    factor: Tensor
    smooths: Tensor

    @classmethod
    def of(cls, codecs: Sequence[Codec], device: torch.device) -> _Quality:
        factor = torch.tensor([c.crf + _CODECS[c.name][0] for c in codecs], device=device)
        smooths = torch.tensor([_CODECS[c.name][1] for c in codecs], device=device)
        return cls(factor.view(-1, 1, 1, 1), smooths.view(-1, 1, 1, 1))

    def parameter(self, kind: str) -> Tensor:
        """Return the quantiser parameter of a picture (B, 1, 1, 1)."""
        slope, offset = _PARAMETER[kind]
        return self.factor * slope + offset

    def step(self, picture: _Planes, kind: str) -> Tensor:
        """Return the quantiser step of each 16 x 16 macroblock (B, 1, H/16, W/16): finer where there is little."""
        y = picture.y
        energy = (F.avg_pool2d(y * y, 16) - F.avg_pool2d(y, 16).square()).clamp_min(0) * 256
        shift = _ADAPTIVE * (torch.log2(energy + 1) - _ENERGY)
        return 0.625 * torch.exp2((self.parameter(kind) + shift.clamp(-8, 8)).clamp(0, 51) / 6)


def _to_planes(rgb: Tensor) -> _Planes:
    """Return the planes of (B, 3, H, W) in 0..255: BT.601, as small pictures have it."""
    r, g, b = (rgb * _FULL_TO_VIDEO).chunk(3, dim=1)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    c = torch.cat(((b - y) / 1.772, (r - y) / 1.402), dim=1) * (224 / 219)
    return _Planes(y - 110, F.avg_pool2d(c, 2))


def _to_rgb(planes: _Planes) -> Tensor:
    y = planes.y.round() + 110
    c = F.interpolate(planes.c.round() * (219 / 224), scale_factor=2, mode="bilinear", align_corners=False)
    b, r = y + 1.772 * c[:, :1], y + 1.402 * c[:, 1:]
    return torch.cat((r, (y - 0.299 * r - 0.114 * b) / 0.587, b), dim=1) / _FULL_TO_VIDEO


def _code(source: _Planes, references: Sequence[_Planes], step: Tensor) -> _Planes:
    """Return `source` as a decoder sees it after prediction from `references` and quantisation by `step`."""
    y_step = _spread(step, source.y.shape[-2:])
    c_step = _spread(step, source.c.shape[-2:])
    if not references:
        return _Planes(_quantise(source.y, y_step, 1 / 3), _quantise(source.c, c_step, 1 / 3))
    y, c = _predict(source, references)
    return _Planes(y + _quantise(source.y - y, y_step, 1 / 6), c + _quantise(source.c - c, c_step, 1 / 6))


def _spread(step: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(step, size=(size[0] // _BLOCK, size[1] // _BLOCK), mode="nearest")


@lru_cache(maxsize=8)
def _transform(device: torch.device) -> Tensor:
    """Return the 64 basis pictures of the 8 x 8 cosine transform, orthonormal, as (64, 1, 8, 8)."""
    at = torch.arange(_BLOCK, dtype=torch.float64)
    basis = torch.cos((2 * at[None, :] + 1) * at[:, None] * math.pi / (2 * _BLOCK)) * math.sqrt(2 / _BLOCK)
    basis[0] /= math.sqrt(2)
    return torch.einsum("iy,jx->ijyx", basis, basis).reshape(64, 1, _BLOCK, _BLOCK).float().to(device)


def _quantise(x: Tensor, step: Tensor, rounding: float) -> Tensor:
    """Transform (B, C, H, W) by blocks, quantise each by its `step` (B, 1, H/8, W/8), and transform back.

    rounding   1/2 would be to the nearest; encoders round towards zero, as small values cost more than they show
    """
    batch, channels, height, width = x.shape
    basis = _transform(x.device)
    blocks = F.conv2d(x.reshape(-1, 1, height, width), basis, stride=_BLOCK)
    step = step.repeat_interleave(channels, dim=0)
    levels = blocks.sign() * torch.floor(blocks.abs() / step + rounding)
    back = F.conv_transpose2d(levels * step, basis, stride=_BLOCK)
    return back.reshape(batch, channels, height, width)


def _predict(source: _Planes, references: Sequence[_Planes]) -> tuple[Tensor, Tensor]:
    """Return the best prediction of each 8 x 8 block: from one reference, from the mean of two, or its own mean."""
    options = [_search(source.y, r) for r in references]
    if len(options) == 2:
        options.append(tuple((a + b) / 2 for a, b in zip(*options, strict=True)))
    options.append((_flat(source.y, _BLOCK), _flat(source.c, _BLOCK // 2)))
    costs = torch.cat([F.avg_pool2d((source.y - y).abs(), _BLOCK) for y, _ in options], dim=1)
    best = costs.argmin(dim=1, keepdim=True)
    y, c = options[0]
    for number, (other_y, other_c) in enumerate(options[1:], 1):
        chosen = (best == number).float()
        y = torch.where(_grow(chosen, _BLOCK) > 0, other_y, y)
        c = torch.where(_grow(chosen, _BLOCK // 2) > 0, other_c, c)
    return y, c


def _grow(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="nearest")


def _flat(x: Tensor, block: int) -> Tensor:
    return _grow(F.avg_pool2d(x, block), block)


def _search(y: Tensor, reference: _Planes) -> tuple[Tensor, Tensor]:
    """Return each block of 8 x 8 luma and 4 x 4 colour as the like of `y` nearest by in `reference`."""
    reach = _SEARCH
    wide_y = F.pad(reference.y, (reach,) * 4, mode="replicate")
    full_c = F.pad(_grow(reference.c, 2), (reach,) * 4, mode="replicate")
    height, width = y.shape[-2:]
    moves = [(0, 0)] + [(a, b) for a in range(-reach, reach + 1) for b in range(-reach, reach + 1) if (a, b) != (0, 0)]
    best_cost, best_y, best_c = None, reference.y, full_c[..., reach : reach + height, reach : reach + width]
    for down, right in moves:
        rows, columns = slice(reach + down, reach + down + height), slice(reach + right, reach + right + width)
        moved = wide_y[..., rows, columns]
        cost = F.avg_pool2d((moved - y).abs(), _BLOCK)
        if best_cost is None:
            # A vector of zero costs no bits, and is taken unless another is clearly better.
            best_cost = cost - 0.5
            continue
        better = cost < best_cost
        mask = _grow(better.float(), _BLOCK) > 0
        best_cost = torch.where(better, cost, best_cost)
        best_y = torch.where(mask, moved, best_y)
        best_c = torch.where(mask, full_c[..., rows, columns], best_c)
    return best_y, F.avg_pool2d(best_c, 2)


def _smooth(picture: _Planes, quality: _Quality, kind: str) -> _Planes:
    """Smooth the edges of blocks as H.264's loop filter does: only steps too small to be the picture's own."""
    parameter = quality.parameter(kind)
    alpha = 0.8 * (torch.exp2(parameter / 6) - 1)
    beta = 0.5 * parameter - 7
    limit = 0.1 * torch.exp2((parameter - 17) / 6) + (1.0 if kind == "I" else 0.0)
    alpha = torch.where(quality.smooths, alpha, torch.zeros_like(alpha))

    def both_ways(x: Tensor) -> Tensor:
        x = _smooth_columns(x, alpha, beta, limit)
        return _smooth_columns(x.transpose(-1, -2), alpha, beta, limit).transpose(-1, -2)

    return _Planes(both_ways(picture.y), both_ways(picture.c))


def _smooth_columns(x: Tensor, alpha: Tensor, beta: Tensor, limit: Tensor) -> Tensor:
    if x.shape[-1] <= _BLOCK:
        return x
    p1, p0, q0, q1 = (x[..., _BLOCK + n :: _BLOCK][..., : x.shape[-1] // _BLOCK - 1] for n in (-2, -1, 0, 1))
    weak = ((p0 - q0).abs() < alpha) & ((p1 - p0).abs() < beta) & ((q1 - q0).abs() < beta)
    change = (((q0 - p0) * 4 + (p1 - q1)) / 8).clamp(-limit, limit) * weak
    smoothed = x.clone()
    smoothed[..., _BLOCK - 1 :: _BLOCK][..., : change.shape[-1]] += change
    smoothed[..., _BLOCK::_BLOCK] -= change
    return smoothed
