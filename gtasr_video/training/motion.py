"""Camera paths: where each pixel of each frame comes from, so that the flow is known and not estimated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gtasr_video.config import rising


@dataclass(frozen=True, slots=True)
class MotionSettings:
    """Synthetic camera motion over still pictures.

    speed        median pan in HR pixels a frame; the spread is wide, up to `fastest`
    standing     share of clips whose camera does not move
    layers       share of clips with one or two nearer layers that move faster and hide what is behind them
    blur         share of clips blurred along the motion; `shutter`: part of a frame's time that is exposed
    """

    speed: float = 2.0
    fastest: float = 24.0
    standing: float = 0.1
    layers: float = 0.35
    blur: float = 0.15
    shutter: tuple[float, float] = (0.2, 0.8)

    def __post_init__(self) -> None:
        rising(self, "shutter")


@dataclass(frozen=True, slots=True)
class CameraPath:
    """What a camera does, frame by frame: pan (T, 2) in HR pixels x, y; roll (T,) in radians; zoom (T,) as a factor;
    tilt (T, 2), the perspective terms of a homography."""

    pan: np.ndarray
    roll: np.ndarray
    zoom: np.ndarray
    tilt: np.ndarray

    def poses(self, size: tuple[int, int], zoom: float = 1.0, depth: float = 1.0) -> np.ndarray:
        """Return (T, 3, 3): from pixel centres of a frame of `size` to pixels of a picture, about its origin.

        zoom   pixels of the picture per pixel of the frame;  depth   how much faster than the background this moves
        """
        centre = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
        return np.stack([self._pose(k, centre, zoom, depth) for k in range(len(self.pan))])

    def _pose(self, k: int, centre: np.ndarray, zoom: float, depth: float) -> np.ndarray:
        c, s = math.cos(self.roll[k]) * self.zoom[k], math.sin(self.roll[k]) * self.zoom[k]
        turn = np.array([[c, -s, 0.0], [s, c, 0.0], [*self.tilt[k], 1.0]])
        enlarge = _shift(centre * zoom) @ np.diag([zoom, zoom, 1.0])
        pose: np.ndarray = enlarge @ _shift(self.pan[k] * depth) @ turn @ _shift(-centre)
        return pose

    def reversed(self) -> CameraPath:
        """Return the same path walked backwards."""
        return CameraPath(*(a[::-1].copy() for a in (self.pan, self.roll, self.zoom, self.tilt)))


def _shift(by: np.ndarray) -> np.ndarray:
    matrix = np.eye(3)
    matrix[:2, 2] = by
    return matrix


def draw_path(frames: int, settings: MotionSettings, rng: np.random.Generator) -> CameraPath:
    """Return a hand-held, panning, zooming or rolling camera, or one that stands still."""
    steadiness = 0.0 if rng.random() < settings.standing else 1.0
    pan = np.cumsum(_velocity(frames, settings, rng) + _walk(frames, 0.3, rng), axis=0)
    roll = np.cumsum(rng.normal(0, 0.002) + _walk(frames, 0.0004, rng)[:, 0])
    zoom = np.cumsum(rng.normal(0, 0.004) + _walk(frames, 0.0006, rng)[:, 0])
    tilt = np.cumsum(rng.normal(0, 4e-6, size=2) + _walk(frames, 5e-7, rng), axis=0)
    middle = frames // 2
    pan, roll, zoom, tilt = ((a - a[middle]) * steadiness for a in (pan, roll, zoom, tilt))
    return CameraPath(pan, roll, np.exp(zoom), tilt)


def _velocity(frames: int, settings: MotionSettings, rng: np.random.Generator) -> np.ndarray:
    """A pan whose speed is log-normal and swells or ebbs by up to half over the clip."""
    speed = min(settings.fastest, settings.speed * math.exp(rng.normal(0, 0.9)))
    angle = rng.uniform(0, 2 * math.pi)
    ramp = 1 + rng.uniform(-0.5, 0.5) * np.linspace(-1, 1, frames)
    velocity: np.ndarray = speed * ramp[:, None] * np.array([math.cos(angle), math.sin(angle)])
    return velocity


def _walk(frames: int, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Hand tremor as a velocity (T, 2): it drifts back to rest, so that the hand sways and does not wander off."""
    velocity = np.zeros((frames, 2))
    for k in range(1, frames):
        velocity[k] = 0.7 * velocity[k - 1] + rng.normal(0, strength, size=2)
    return velocity


def draw_steps(frames: int, room: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return a slow pan by whole pixels, (T, 2) as y, x from 0 to at most `room` (down, right): cheap to render."""
    path = np.cumsum(rng.normal(0, 2.0, size=2) + rng.normal(0, 0.7, size=(frames, 2)), axis=0)
    steps = np.round(path - path.min(axis=0)).astype(np.int64)
    within: np.ndarray = np.minimum(steps, np.asarray(room))
    return within


def between(poses: np.ndarray, offset: float) -> np.ndarray:
    """Return the poses `offset` frames later (-1..1), in a straight line between neighbours and on at both ends."""
    steps = np.diff(poses, axis=0)
    if not len(steps):
        return poses
    ahead = steps if offset >= 0 else -steps
    kept = np.concatenate((ahead, ahead[-1:])) if offset >= 0 else np.concatenate((ahead[:1], ahead))
    return poses + abs(offset) * kept


def points(poses: np.ndarray, size: tuple[int, int], device: torch.device) -> Tensor:
    """Return where `poses` (T, 3, 3) send the pixel centres of a (height, width) frame: (T, H, W, 2), x then y."""
    height, width = size
    m = torch.from_numpy(poses).to(device=device, dtype=torch.float32).unsqueeze(-1).unsqueeze(-1)
    x = torch.arange(width, device=device, dtype=torch.float32)[None, None, :]
    y = torch.arange(height, device=device, dtype=torch.float32)[None, :, None]
    depth = m[:, 2, 0] * x + m[:, 2, 1] * y + m[:, 2, 2]
    return torch.stack([(m[:, row, 0] * x + m[:, row, 1] * y + m[:, row, 2]) / depth for row in (0, 1)], dim=-1)


def true_flow(poses: np.ndarray, size: tuple[int, int], device: torch.device) -> Tensor:
    """Return (T-1, 2, *size): frame k-1 at p + flow[k-1](p) shows what frame k shows at p, for one rigid picture."""
    steps = np.linalg.inv(poses[:-1]) @ poses[1:]
    here = points(np.eye(3)[None], size, device)
    return (points(steps / steps[:, 2:, 2:], size, device) - here).permute(0, 3, 1, 2)
