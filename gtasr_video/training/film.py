"""Filming still pictures: layers with parallax and occlusion, blur along the motion, and the true flow of it all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.ops.degrade import Blur, blur
from gtasr_video.ops.warp import warp
from gtasr_video.training.motion import between, points, true_flow

_CERTAIN = 0.98
_MOST_EXPOSURES = 7


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of an outline, in pixels of the layer's picture: ``ellipse``, ``box`` or ``bars`` (a fence)."""

    kind: str
    centre: tuple[float, float]
    radii: tuple[float, float]
    angle: float
    waves: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Layer:
    """A picture (3, H, W) uint8 in front of a camera: `poses` (T, 3, 3) from frame to picture pixels.

    parts      its outline; empty means that it fills the frame
    softness   width of its edge in pixels of the picture
    zoom       pixels of the picture per pixel of the frame, which are averaged before sampling
    """

    picture: Tensor
    poses: np.ndarray
    parts: tuple[Part, ...] = ()
    softness: float = 1.5
    zoom: float = 1.0


@dataclass(frozen=True, slots=True)
class Footage:
    """Frames (T, 3, H, W) in 0..1; true flow (T-1, 2, H, W) and where it holds, (T-1, 1, H, W) bool, if known."""

    frames: Tensor
    flow: Tensor | None = None
    valid: Tensor | None = None


def film(layers: Sequence[Layer], size: tuple[int, int], shutter: float = 0.0) -> Footage:
    """Film `layers`, the farthest first and filling the frame, at `size` (height, width).

    shutter   part of a frame's time that is exposed; 0 freezes motion
    Pictures are mirrored beyond their edges. Sampling is bicubic: bilinear makes frames at half-pixel positions softer
    than their neighbours, which is flicker in the truth.
    """
    sources = [_Source.of(layer, size) for layer in layers]
    exposures = _exposures(layers, shutter)
    frames = shares = None
    for offset in exposures:
        seen, share = _expose(sources, size, offset)
        frames = seen if frames is None else frames + seen
        shares = share if shares is None else [a + b for a, b in zip(shares, share, strict=True)]
    assert frames is not None and shares is not None
    frames = (frames / len(exposures)).clamp_(0, 1)
    if frames.shape[0] < 2:
        return Footage(frames)
    flow, valid = _flow([s / len(exposures) for s in shares], layers, size)
    return Footage(frames, flow, valid)


@dataclass(frozen=True, slots=True)
class _Source:
    """The part of a layer's picture that any frame sees, as floats (1, 3, h, w), with poses moved to its corner."""

    part: Tensor
    poses: np.ndarray
    corner: tuple[int, int]
    layer: Layer

    @classmethod
    def of(cls, layer: Layer, size: tuple[int, int]) -> _Source:
        low, high = _reach(layer.poses, size)
        part = window(layer.picture, low[1], low[0], high[1] - low[1], high[0] - low[0])[None].float().div_(255)
        if layer.zoom > 1:
            # Several picture pixels make one of the frame: blur first, or fine texture would crawl as it moves.
            part = blur(part, Blur((0.45 * math.sqrt(layer.zoom**2 - 1),) * 2))
        moved = np.array([[1.0, 0, -low[0]], [0, 1.0, -low[1]], [0, 0, 1.0]]) @ layer.poses
        return cls(part, moved, low, layer)


def window(x: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    """Return a window of (..., H, W), mirrored beyond its edges as often as needed; a view where it lies inside."""
    rows, columns = x.shape[-2:]
    if top >= 0 and left >= 0 and top + height <= rows and left + width <= columns:
        return x[..., top : top + height, left : left + width]
    for dim, start, count in ((-2, top, height), (-1, left, width)):
        x = x.index_select(dim, _mirrored(start, start + count, x.shape[dim]).to(x.device))
    return x


def _mirrored(start: int, stop: int, size: int) -> Tensor:
    """Return the numbers start..stop - 1 thrown back from 0 and from size - 1."""
    period = max(2 * (size - 1), 1)
    folded = torch.arange(start, stop).remainder(period)
    return torch.minimum(folded, period - folded).clamp(max=size - 1)


def _reach(poses: np.ndarray, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the box (left, top), (right, bottom) of picture pixels that frames of `size` see, with a margin."""
    height, width = size
    corners = np.array([[0, 0, 1], [width - 1, 0, 1], [0, height - 1, 1], [width - 1, height - 1, 1.0]])
    seen = np.einsum("tij,cj->tci", poses, corners)
    at = (seen[..., :2] / seen[..., 2:]).reshape(-1, 2)
    low, high = np.floor(at.min(axis=0)).astype(int) - 16, np.ceil(at.max(axis=0)).astype(int) + 17
    return (int(low[0]), int(low[1])), (int(high[0]), int(high[1]))


def _exposures(layers: Sequence[Layer], shutter: float) -> list[float]:
    """Moments within a frame's exposure, dense enough that neighbours are about a pixel apart."""
    if not shutter or len(layers[0].poses) < 2:
        return [0.0]
    fastest = max(float(np.abs(np.diff(layer.poses[:, :2, 2], axis=0)).max()) / layer.zoom for layer in layers)
    count = min(_MOST_EXPOSURES, 1 + math.ceil(fastest * shutter))
    return [shutter * (k / max(count - 1, 1) - 0.5) for k in range(count)]


def _expose(sources: Sequence[_Source], size: tuple[int, int], offset: float) -> tuple[Tensor, list[Tensor]]:
    """Return the frames at one moment, and the share (T, 1, H, W) of each layer in each pixel."""
    frames: Tensor | None = None
    shares: list[Tensor] = []
    for source in sources:
        at = points(between(source.poses, offset), size, source.part.device)
        colour = _sample(source.part, at)
        if frames is None:
            frames, shares = colour, [colour.new_ones(colour.shape[0], 1, *size)]
            continue
        cover = _cover(source, at)
        frames = frames + cover * (colour - frames)
        shares = [*(s * (1 - cover) for s in shares), cover]
    assert frames is not None
    return frames, shares


def _sample(part: Tensor, at: Tensor) -> Tensor:
    height, width = part.shape[-2:]
    grid = at.new_tensor([2 / width, 2 / height]) * (at + 0.5) - 1
    repeated = part.expand(at.shape[0], -1, -1, -1)
    return F.grid_sample(repeated, grid, mode="bicubic", padding_mode="border", align_corners=False)


def _cover(source: _Source, at: Tensor) -> Tensor:
    """Return how much of each pixel the layer covers, (T, 1, H, W), from its distance to the outline."""
    x, y = at[..., 0] + source.corner[0], at[..., 1] + source.corner[1]
    distance = torch.stack([_distance(part, x, y) for part in source.layer.parts]).amin(dim=0)
    return (0.5 - distance / source.layer.softness).clamp(0, 1).unsqueeze(1)


def _distance(part: Part, x: Tensor, y: Tensor) -> Tensor:
    """Return about how far (x, y) lie outside `part`, in pixels; negative inside."""
    c, s = math.cos(part.angle), math.sin(part.angle)
    dx, dy = x - part.centre[0], y - part.centre[1]
    u, v = dx * c + dy * s, dy * c - dx * s
    a, b = part.radii
    if part.kind == "bars":
        return (torch.remainder(u, 2 * a) - a).abs() - b
    if part.kind == "box":
        return torch.maximum(u.abs() - a, v.abs() - b)
    height, count, phase = part.waves
    around = torch.atan2(v / b, u / a)
    return (torch.hypot(u / a, v / b) - 1 + height * torch.sin(count * around + phase)) * min(a, b)


def _flow(shares: Sequence[Tensor], layers: Sequence[Layer], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the flow of the layer seen in each pixel, and where that layer alone is seen in both frames."""
    device = shares[0].device
    flow = true_flow(layers[0].poses, size, device)
    if len(layers) == 1:
        return flow, torch.ones_like(flow[:, :1], dtype=torch.bool)
    valid = (shares[0][1:] > _CERTAIN) & (warp(shares[0][:-1], flow) > _CERTAIN)
    for share, layer in zip(shares[1:], layers[1:], strict=True):
        here = share[1:] > 0.5
        motion = true_flow(layer.poses, size, device)
        alone = (share[1:] > _CERTAIN) & (warp(share[:-1], motion) > _CERTAIN)
        flow, valid = torch.where(here, motion, flow), torch.where(here, alone, valid)
    return flow, valid
