"""Camera motion over a still picture, with the flow it causes known exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Motion:
    """A camera path: `poses` (T, 3, 3) map pixel centres of frame k to pixel centres of the picture."""

    poses: np.ndarray

    @property
    def is_shift(self) -> bool:
        """Whether every pose moves by whole pixels and nothing else, so that slicing renders it."""
        fixed = self.poses.copy()
        fixed[:, :2, 2] = 0
        return bool(np.all(fixed == np.eye(3)) and np.all(self.poses % 1 == 0))


def draw_shift(frames: int, room: tuple[int, int], rng: np.random.Generator) -> Motion:
    """Return a slow pan by whole pixels that stays within `room` (down, right) pixels of the picture."""
    speed = rng.normal(0, 2.0, size=2)
    wobble = rng.normal(0, 0.7, size=(frames, 2))
    path = np.cumsum(speed + wobble, axis=0)
    path = np.round(path - path.min(axis=0))
    path = np.minimum(path, np.asarray(room)[::-1])
    return Motion(_shifts(path))


def _shifts(path: np.ndarray) -> np.ndarray:
    poses = np.tile(np.eye(3), (len(path), 1, 1))
    poses[:, :2, 2] = path
    return poses


def draw_camera(frames: int, size: tuple[int, int], rng: np.random.Generator) -> Motion:
    """Return a hand-held camera: pan, zoom, roll and a little perspective, smooth with tremor.

    `size` is (height, width) of the rendered frames; the poses are centred on the picture's origin and may
    reach outside, where the picture is mirrored.
    """
    height, width = size
    t = np.arange(frames) / max(frames - 1, 1)
    travel = rng.normal(0, 1.6, size=2) * frames
    pan = _smooth(frames, rng, 0.5)[:, :2] + t[:, None] * travel
    roll = np.cumsum(rng.normal(0, 0.0015) + _tremor(frames, rng, 0.0008))
    zoom = np.exp(np.cumsum(rng.normal(0, 0.003) + _tremor(frames, rng, 0.001)))
    tilt = np.cumsum(rng.normal(0, 4e-6, size=(1, 2)) * np.ones((frames, 2)), axis=0)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return Motion(np.stack([_pose(centre, pan[k], roll[k], zoom[k], tilt[k]) for k in range(frames)]))


def _tremor(frames: int, rng: np.random.Generator, strength: float) -> np.ndarray:
    return rng.normal(0, strength, size=frames)


def _smooth(frames: int, rng: np.random.Generator, strength: float) -> np.ndarray:
    """A second-order walk: velocity drifts, so the hand moves rather than jumps."""
    velocity = np.cumsum(rng.normal(0, strength, size=(frames, 2)), axis=0)
    return np.cumsum(velocity - velocity.mean(axis=0), axis=0)


def _pose(centre: np.ndarray, pan: np.ndarray, roll: float, zoom: float, tilt: np.ndarray) -> np.ndarray:
    to_centre, back = np.eye(3), np.eye(3)
    to_centre[:2, 2], back[:2, 2] = -centre, centre + pan
    c, s = math.cos(roll) * zoom, math.sin(roll) * zoom
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [tilt[0], tilt[1], 1.0]])
    pose: np.ndarray = back @ turn @ to_centre
    return pose


def points(pose: np.ndarray, size: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Return where `pose` sends the pixel centres of a (height, width) frame: (H, W, 2), x then y."""
    height, width = size
    m = torch.from_numpy(pose).to(device=device, dtype=torch.float32)
    x = torch.arange(width, device=device, dtype=torch.float32)[None, :]
    y = torch.arange(height, device=device, dtype=torch.float32)[:, None]
    depth = m[2, 0] * x + m[2, 1] * y + m[2, 2]
    across, down = ((m[row, 0] * x + m[row, 1] * y + m[row, 2]) / depth for row in (0, 1))
    return torch.stack((across, down), dim=-1)


def render(picture: Tensor, motion: Motion, size: tuple[int, int]) -> Tensor:
    """Film `picture` (3, H, W) uint8 along `motion`: (T, 3, *size) float32 in 0..1, mirrored beyond its edge.

    Sampling is bicubic: bilinear makes frames at half-pixel positions softer than their neighbours, which is
    flicker in the truth.
    """
    if motion.is_shift:
        return torch.stack([_slice(picture, pose, size) for pose in motion.poses]).float().div_(255)
    source = picture[None].float().div_(255)
    frames = [_sample(source, points(pose, size, picture.device)) for pose in motion.poses]
    return torch.cat(frames).clamp_(0, 1)


def _slice(picture: Tensor, pose: np.ndarray, size: tuple[int, int]) -> Tensor:
    x, y = int(pose[0, 2]), int(pose[1, 2])
    return picture[:, y : y + size[0], x : x + size[1]]


def _sample(source: Tensor, at: Tensor) -> Tensor:
    height, width = source.shape[-2:]
    grid = at.new_tensor([2 / width, 2 / height]) * (at + 0.5) - 1
    return F.grid_sample(source, grid[None], mode="bicubic", padding_mode="reflection", align_corners=False)


def true_flow(motion: Motion, size: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Return (T-1, 2, *size): frame k-1 at p + flow[k-1](p) shows what frame k shows at p."""
    here = points(np.eye(3), size, device)
    steps = np.linalg.inv(motion.poses[:-1]) @ motion.poses[1:]
    flows = [points(step / step[2, 2], size, device) - here for step in steps]
    return torch.stack(flows).permute(0, 3, 1, 2) if flows else here.new_zeros((0, 2, *size))
