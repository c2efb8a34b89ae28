"""Where the truth of a clip comes from: an excerpt of a video, or a camera moving over still pictures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.ops.resize import bicubic
from gtasr_video.training.film import Footage, Layer, Part, film, window
from gtasr_video.training.items import Item, detail_within
from gtasr_video.training.motion import CameraPath, MotionSettings, draw_path, draw_steps

_LOOKS = 3
# Where the mean change about a pixel is less than this, nothing moves: sensor noise of a level or two stays below it.
_STILL = 2.5 / 255
_AROUND = 9
# A camera samples pictures at this many pixels to one of its own: fewer would let frames at half-pixel positions look
# softer than others (the strength of fine detail then varies by 9 % from frame to frame; here by 0.5 %).
_LEAST_ZOOM, _MOST_ZOOM = 1.25, 2.0


def region_of(size: tuple[int, int], wanted: int, crop: int, scale: int, zoom: float = 1.0) -> tuple[int, int]:
    """Return the size in HR pixels of the region to take from a picture of `size` at `zoom`.

    At most `wanted` LR pixels a side, at least `crop`; in between multiples of 16, which codecs like.
    """
    height, width = (max(crop, int(min(wanted, side / zoom / scale)) // 16 * 16) * scale for side in size)
    return height, width


def place(item: Item, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """Return top and left of a window in `item`: of a few looks, the one with the most to see.

    A window larger than the item lies about its middle.
    """
    spare = [side - cut for side, cut in zip(item.size, size, strict=True)]
    looks = [tuple(int(rng.integers(s + 1)) if s > 0 else s // 2 for s in spare) for _ in range(_LOOKS)]
    top, left = max(looks, key=lambda at: detail_within(item, (max(at[0], 0), max(at[1], 0), *size)))
    return top, left


def draw_zoom(size: tuple[int, int], least: float, smallest: int, rng: np.random.Generator) -> float:
    """Return pixels of the source per HR pixel, from `least` to 2, as far as `smallest` HR pixels still fit."""
    most = min(_MOST_ZOOM, min(size) / smallest)
    return rng.uniform(least, most) if most > least else max(1.0, min(least, most))


def excerpt(
    item: Item, frames: int, region: tuple[int, int], zoom: float, rng: np.random.Generator, device: torch.device
) -> Footage:
    """Take `frames` frames of a video (or all it has), forwards or backwards, shrunk by `zoom` to `region`.

    Its motion is known where there is none.
    """
    frames = min(frames, item.frames)
    start = int(rng.integers(item.frames - frames + 1))
    size = round(region[0] * zoom), round(region[1] * zoom)
    clip = window(item.read(start, frames), *place(item, size, rng), *size).to(device)
    clip = clip.flip(0) if rng.random() < 0.5 else clip
    truth = clip.float().div_(255)
    truth = truth if size == region else bicubic(truth, region).clamp_(0, 1)
    return Footage(truth, *at_rest(truth)) if frames > 1 else Footage(truth)


def at_rest(truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return the motion of a video (T, 3, H, W) in 0..1 as far as it is certain: none, where nothing changes.

    A flow of zeros (T-1, 2, H, W), and where it holds, (T-1, 1, H, W) bool. What stands still shows flicker most.
    """
    change = (truth[1:] - truth[:-1]).abs().mean(dim=1, keepdim=True)
    around = F.avg_pool2d(change, _AROUND, stride=1, padding=_AROUND // 2, count_include_pad=False)
    return torch.zeros_like(truth[1:, :2]), around < _STILL


def stepped(
    item: Item, frames: int, region: tuple[int, int], zoom: float, rng: np.random.Generator, device: torch.device
) -> Footage:
    """Pan over a picture by whole pixels: all that single frames need, as fast as slicing."""
    room = [max(0, min(16, int(side / zoom) - cut)) for side, cut in zip(item.size, region, strict=True)]
    steps = draw_steps(frames, (room[0], room[1]), rng)
    reach = region[0] + int(steps[:, 0].max()), region[1] + int(steps[:, 1].max())
    size = round(reach[0] * zoom), round(reach[1] * zoom)
    picture = window(item.read(0, 1), *place(item, size, rng), *size).to(device).float().div_(255)
    picture = picture if size == reach else bicubic(picture, reach).clamp_(0, 1)
    return Footage(torch.cat([picture[..., y : y + region[0], x : x + region[1]] for y, x in steps]))


def filmed(
    items: Sequence[Item],
    frames: int,
    region: tuple[int, int],
    zoom: float,
    settings: MotionSettings,
    rng: np.random.Generator,
    device: torch.device,
) -> Footage:
    """Move a camera over the first of `items`; with more of them, each is a nearer layer in front of it."""
    path = draw_path(frames, settings, rng)
    background = _background(items[0], path, region, zoom, rng, device)
    nearer = [_foreground(item, path, region, rng, device) for item in items[1:]]
    shutter = rng.uniform(*settings.shutter) if rng.random() < settings.blur else 0.0
    return film([background, *nearer], region, shutter)


def _background(
    item: Item, path: CameraPath, region: tuple[int, int], zoom: float, rng: np.random.Generator, device: torch.device
) -> Layer:
    poses = path.poses(region, zoom)
    swing = poses[:, :2, 2] - poses[len(poses) // 2, :2, 2]
    low, high = swing.min(axis=0), swing.max(axis=0)
    size = int(region[0] * zoom + (high - low)[1]), int(region[1] * zoom + (high - low)[0])
    top, left = place(item, size, rng)
    corner = poses[len(poses) // 2] @ np.array([0.0, 0.0, 1.0])
    shift = np.eye(3)
    shift[:2, 2] = np.array([left, top]) - low - corner[:2] / corner[2]
    return Layer(item.read(0, 1)[0].to(device), shift @ poses, zoom=zoom)


def _foreground(
    item: Item, path: CameraPath, region: tuple[int, int], rng: np.random.Generator, device: torch.device
) -> Layer:
    """A nearer thing: another picture, cut out, moving faster than the background and a little on its own."""
    zoom = draw_zoom(item.size, _LEAST_ZOOM, min(region) // 2, rng)
    count = len(path.pan)
    own = rng.normal(0, 1.5, size=2) * (np.arange(count)[:, None] - count // 2)
    turn = rng.normal(0, 0.004) * (np.arange(count) - count // 2)
    moving = dataclasses.replace(path, pan=path.pan + own, roll=path.roll + turn)
    poses = moving.poses(region, zoom, depth=1 + rng.exponential(0.5))
    top, left = (int(rng.integers(max(1, side - int(cut * zoom)))) for side, cut in zip(item.size, region, strict=True))
    shift = np.array([[1.0, 0, left], [0, 1.0, top], [0, 0, 1.0]])
    parts = _outline(region, zoom, (left, top), rng)
    return Layer(item.read(0, 1)[0].to(device), shift @ poses, parts, zoom * rng.uniform(1.0, 3.0), zoom)


def _outline(
    region: tuple[int, int], zoom: float, corner: tuple[int, int], rng: np.random.Generator
) -> tuple[Part, ...]:
    """One to three wavy blobs or boxes, or a fence of thin bars, somewhere in view."""
    if rng.random() < 0.15:
        gap = rng.uniform(16, 64) * zoom
        return (Part("bars", corner, (gap, rng.uniform(0.8, 3) * zoom), rng.uniform(0, math.pi)),)
    return tuple(_piece(region, zoom, corner, rng) for _ in range(int(rng.integers(1, 4))))


def _piece(region: tuple[int, int], zoom: float, corner: tuple[int, int], rng: np.random.Generator) -> Part:
    side = min(region) * zoom
    centre = (corner[0] + rng.uniform(0, region[1]) * zoom, corner[1] + rng.uniform(0, region[0]) * zoom)
    radii = (side * rng.uniform(0.04, 0.3), side * rng.uniform(0.04, 0.3))
    waves = (rng.uniform(0, 0.25), float(rng.integers(2, 9)), rng.uniform(0, 2 * math.pi))
    return Part("ellipse" if rng.random() < 0.7 else "box", centre, radii, rng.uniform(0, math.pi), waves)


def quantised(truth: Tensor) -> Tensor:
    """Return 0..1 frames as uint8."""
    return truth.mul(255).round_().clamp_(0, 255).to(torch.uint8)
