"""Training clips: truth, degraded input and, for synthetic motion, the true flow; drawn by seed and index."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gtasr_video.errors import TrainingError
from gtasr_video.ops.degrade import Codec, DegradationSettings, degrade, draw
from gtasr_video.ops.warp import inside
from gtasr_video.training.files import Library, load_library
from gtasr_video.training.motion import draw_camera, draw_shift, render, true_flow

__all__ = ["Batch", "Clip", "ClipSource", "DataSettings", "Loader"]


@dataclass(frozen=True, slots=True)
class DataSettings:
    """What training clips look like.

    scale                HR pixels per LR pixel along one side
    crop                 side of a crop in LR pixels
    frames               frames a clip; 1 for single pictures
    still_motion_share   clips filmed from stills rather than taken from videos, where the data hold both
    crops_per_clip       crops taken from one degraded clip, so that one codec round trip serves several
    region               side of the degraded clip in LR pixels; 0 chooses it from crop and frames
    lead                 extra frames encoded around a clip, so that it is seldom the codec's first picture
    short_side           larger pictures are shrunk to this short side when they are read
    degradation          how the input is made from the truth
    """

    scale: int = 4
    crop: int = 64
    frames: int = 1
    still_motion_share: float = 0.5
    crops_per_clip: int = 4
    region: int = 0
    lead: int = 2
    short_side: int = 1620
    degradation: DegradationSettings = field(default_factory=DegradationSettings)

    def __post_init__(self) -> None:
        if min(self.scale, self.crop, self.frames, self.crops_per_clip) < 1 or self.crop % 2:
            raise ValueError("scale, frames and crops_per_clip must be at least 1, crop even and positive")


@dataclass(frozen=True, slots=True)
class Clip:
    """One training clip, RGB.

    hr      (T, 3, H, W) uint8 truth
    lr      (T, 3, h, w) uint8 degraded input
    flow    (T-1, 2, H, W) float32: frame k-1 at p + flow[k-1](p) shows what frame k shows at p, or None
    valid   (T-1, 1, H, W) bool: where that holds (not disoccluded, not outside); None where flow is
    """

    hr: Tensor
    lr: Tensor
    flow: Tensor | None = None
    valid: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Stacked clips: hr (B, T, 3, H, W), lr (B, T, 3, h, w), uint8; flow (B, T-1, 2, H, W) and
    valid (B, T-1, 1, H, W), zero where `has_flow` (B,) is False."""

    hr: Tensor
    lr: Tensor
    flow: Tensor
    valid: Tensor
    has_flow: Tensor


def stack(clips: Sequence[Clip]) -> Batch:
    """Stack clips of equal size into a batch."""
    hr = torch.stack([c.hr for c in clips])
    batch, frames, _, height, width = hr.shape
    flow = torch.zeros(batch, frames - 1, 2, height, width)
    valid = torch.zeros(batch, frames - 1, 1, height, width, dtype=torch.bool)
    for k, clip in enumerate(clips):
        if clip.flow is not None and clip.valid is not None:
            flow[k], valid[k] = clip.flow, clip.valid
    has_flow = torch.tensor([c.flow is not None for c in clips])
    return Batch(hr, torch.stack([c.lr for c in clips]), flow, valid, has_flow)


@dataclass(frozen=True, slots=True)
class _Group:
    """A degraded region from which several crops are cut: float truth is gone, only bytes are kept."""

    hr: Tensor
    lr: Tensor
    flow: Tensor | None


class ClipSource:
    """Clips from any mix of pictures, videos and folders of them, decoded once into memory.

    `clip(index)` is a pure function of (seed, index) and the files, so a run can stop and go on exactly.
    Indices have no end. Raises TrainingError if nothing usable is found.
    """

    def __init__(self, paths: Sequence[Path], settings: DataSettings, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.library: Library = load_library(
            paths, minimum=settings.crop * settings.scale, short_side=settings.short_side
        )
        if settings.frames > 1:
            self._check_lengths()
        self._weights = _by_size(self.library.stills), _by_size(self.library.clips)
        self._last: tuple[int, _Group] | None = None

    def _check_lengths(self) -> None:
        usable = [c for c in self.library.clips if c.shape[0] >= self.settings.frames]
        if not usable and not self.library.stills:
            raise TrainingError(f"no video has the {self.settings.frames} frames that data.frames asks for")
        self.library = Library(self.library.stills, tuple(usable), self.library.skipped)

    def with_settings(self, settings: DataSettings) -> ClipSource:
        """Return a source of the same decoded material that draws clips by other settings (same crop and scale)."""
        other = copy.copy(self)
        other.settings, other._last = settings, None
        other._check_lengths()
        other._weights = _by_size(other.library.stills), _by_size(other.library.clips)
        return other

    def summary(self) -> str:
        """Return one line on what was found and what was skipped."""
        return self.library.summary()

    def clip(self, index: int) -> Clip:
        """Return clip number `index`, the same for the same seed and files."""
        group, within = divmod(index, self.settings.crops_per_clip)
        if self._last is None or self._last[0] != group:
            self._last = (group, self._make_group(np.random.default_rng([self.seed, group])))
        rng = np.random.default_rng([self.seed, group, 1 + within])
        return _augment(_crop(self._last[1], self.settings, rng), rng)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Return the clips of `indices`, stacked."""
        return stack([self.clip(i) for i in indices])

    def _make_group(self, rng: np.random.Generator) -> _Group:
        count = self.settings.frames + self.settings.lead
        truth, flow = self._film(rng, count) if self._use_still(rng) else self._excerpt(rng, count)
        truth = truth.mul(255).round_().div_(255)
        lr = _damage(truth, self.settings, rng)
        start = int(rng.integers(truth.shape[0] - self.settings.frames + 1))
        kept = slice(start, start + self.settings.frames)
        hr = truth[kept].mul(255).round_().to(torch.uint8)
        return _Group(hr, lr[kept], None if flow is None else flow[start : kept.stop - 1])

    def _use_still(self, rng: np.random.Generator) -> bool:
        wants_still = bool(rng.random() < self.settings.still_motion_share)
        return bool(self.library.stills) and (wants_still or not self.library.clips)

    def _region(self, size: tuple[int, int], spare: int) -> tuple[int, int]:
        """Size in HR pixels of the region to degrade: even in LR pixels, within `size` less `spare`."""
        crop, scale = self.settings.crop, self.settings.scale
        wanted = self.settings.region or round(crop * (2.5 if self.settings.frames == 1 else 2.0))
        height, width = (max(crop, min(wanted, (side - spare) // scale) // 2 * 2) * scale for side in size)
        return height, width

    def _film(self, rng: np.random.Generator, frames: int) -> tuple[Tensor, Tensor | None]:
        picture = _pick(self.library.stills, self._weights[0], rng)
        size = (int(picture.shape[1]), int(picture.shape[2]))
        region = self._region(size, spare=0)
        room = size[0] - region[0], size[1] - region[1]
        if self.settings.frames == 1:
            motion = draw_shift(frames, (min(room[0], 16), min(room[1], 16)), rng)
        else:
            motion = draw_camera(frames, region, rng)
        if rng.random() < 0.5:
            motion = type(motion)(motion.poses[::-1].copy())
        reach = motion.poses[:, 1::-1, 2].max(axis=0) if motion.is_shift else np.zeros(2)
        y, x = (int(rng.integers(free - int(far) + 1)) for free, far in zip(room, reach, strict=True))
        truth = render(picture[:, y:, x:], motion, region)
        return truth, None if self.settings.frames == 1 else true_flow(motion, region)

    def _excerpt(self, rng: np.random.Generator, frames: int) -> tuple[Tensor, None]:
        video = _pick(self.library.clips, self._weights[1], rng)
        frames = min(frames, video.shape[0])
        size = (int(video.shape[2]), int(video.shape[3]))
        region = self._region(size, spare=0)
        t = int(rng.integers(video.shape[0] - frames + 1))
        y, x = (int(rng.integers(side - cut + 1)) for side, cut in zip(size, region, strict=True))
        part = video[t : t + frames, :, y : y + region[0], x : x + region[1]]
        part = part.flip(0) if rng.random() < 0.5 else part
        return part.float().div_(255), None


def _by_size(items: Sequence[Tensor]) -> np.ndarray:
    """Chances in proportion to the picture's side: a large one holds more to see."""
    weights = np.array([float(t.shape[-1] * t.shape[-2]) ** 0.5 for t in items])
    return weights / weights.sum() if len(weights) else weights


def _pick(items: Sequence[Tensor], weights: np.ndarray, rng: np.random.Generator) -> Tensor:
    return items[int(rng.choice(len(items), p=weights))]


def _damage(truth: Tensor, settings: DataSettings, rng: np.random.Generator) -> Tensor:
    """Return the LR clip (T, 3, h, w) uint8 of a float clip 0..1, codec included."""
    plan = draw(settings.degradation, rng)
    generator = torch.Generator(truth.device).manual_seed(int(rng.integers(2**62)))
    size = truth.shape[-2] // settings.scale, truth.shape[-1] // settings.scale
    lr = degrade(truth, plan, size, generator).mul_(255).round_().to(torch.uint8)
    for codec in plan.codecs:
        lr = _encode(lr, codec)
    return lr


def _encode(clip: Tensor, codec: Codec) -> Tensor:
    from gtasr_video.media.codec_loop import round_trip

    return round_trip(clip, codec.name, codec.crf, codec.preset)


def _crop(group: _Group, settings: DataSettings, rng: np.random.Generator) -> Clip:
    scale, crop = settings.scale, settings.crop
    y, x = (int(rng.integers(side - crop + 1)) for side in group.lr.shape[-2:])
    lr = group.lr[..., y : y + crop, x : x + crop]
    y, x, crop = y * scale, x * scale, crop * scale
    hr = group.hr[..., y : y + crop, x : x + crop]
    flow = None if group.flow is None else group.flow[..., y : y + crop, x : x + crop]
    return Clip(hr, lr, flow)


def _augment(clip: Clip, rng: np.random.Generator) -> Clip:
    """Mirror and turn a square clip; the flow's vectors turn too, and what leaves the crop is not valid."""
    mirror, down, turn = (bool(b) for b in rng.integers(2, size=3))
    dims = [d for d, wanted in ((-1, mirror), (-2, down)) if wanted]
    hr, lr, flow = (None if t is None else t.flip(dims) for t in (clip.hr, clip.lr, clip.flow))
    assert hr is not None and lr is not None
    if flow is not None:
        flow = flow * flow.new_tensor([-1.0 if mirror else 1.0, -1.0 if down else 1.0]).view(2, 1, 1)
    if turn:
        hr, lr = hr.transpose(-1, -2), lr.transpose(-1, -2)
        flow = None if flow is None else flow.transpose(-1, -2).flip(-3)
    valid = None if flow is None else inside(flow)
    return Clip(hr.contiguous(), lr.contiguous(), None if flow is None else flow.contiguous(), valid)


from gtasr_video.training.loader import Loader  # noqa: E402  (the loader needs Batch)
