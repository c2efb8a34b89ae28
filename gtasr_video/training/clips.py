"""Training clips: truth, degraded input and, for synthetic motion, the true flow; drawn by seed and index."""

from __future__ import annotations

import copy
import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gtasr_video.config import BadValue, at_least
from gtasr_video.device import free_memory
from gtasr_video.errors import InputError, TrainingError
from gtasr_video.ops.codec_model import codec_model
from gtasr_video.ops.degrade import Codec, DegradationSettings, degrade, draw
from gtasr_video.ops.warp import inside
from gtasr_video.training.augment import draw_turn, vary_colour, vary_light
from gtasr_video.training.batches import Batch, Clip, stack
from gtasr_video.training.film import Footage
from gtasr_video.training.footage import draw_zoom, excerpt, filmed, quantised, region_of, stepped
from gtasr_video.training.items import Item
from gtasr_video.training.library import Library, load_library
from gtasr_video.training.loader import Loader
from gtasr_video.training.motion import MotionSettings

__all__ = ["Batch", "Clip", "ClipSource", "DataSettings", "Loader"]

_log = logging.getLogger("gtasr_video")
_CPU = torch.device("cpu")
_TRIES = 20
# Of the memory that is free: the rest is for the step, and for clips that wait.
_SHARE_OF_MEMORY = 0.5
# Degraded clips between two crops of the same one. A multiple of 8, so that up to 8 data processes, which take batches
# in turn, need not each make what another has made where a batch is as large as `crops_per_clip`.
_APART = 8


@dataclass(frozen=True, slots=True)
class DataSettings:
    """What training clips look like.

    scale                HR pixels per LR pixel along one side; each phase of a run sets it
    crop                 side of a crop in LR pixels
    frames               frames a clip, 1 for single pictures; each phase of a run sets it
    still_motion_share   clips filmed from stills rather than taken from videos, where the data hold both
    crops_per_clip       crops taken from one degraded clip, so that one codec round trip serves several; they are drawn
                         far apart, and as many clips take turns in between
    region               side of the degraded clip in LR pixels; 0: 2 crops for single frames, 1.5 for clips
    lead                 extra frames encoded around a clip, so that it is seldom the codec's first picture
    short_side           larger pictures, not videos, are shrunk to this short side when they are read
    memory_gb            decoded material held in memory, in GiB, but no more than half of what is free; what is beyond
                         is read from disk when drawn
    cache                folder in which decoded material is kept, so that other runs start at once; empty for none
    shrink               share of clips whose source is shrunk by up to 2 for a sharper truth, where it is large enough
    colour, light        share of clips with varied colours; with light that changes over the clip
    codec                real encoders on the CPU (``real``), a model of them on the device that trains (``model``), or
                         ``auto``: real where PyAV is installed
    motion, degradation  how cameras move, and how the input is made from the truth
    """

    scale: int = 4
    crop: int = 64
    frames: int = 1
    still_motion_share: float = 0.5
    crops_per_clip: int = 4
    region: int = 0
    lead: int = 2
    short_side: int = 1620
    memory_gb: float = 6.0
    cache: str = ""
    shrink: float = 0.5
    colour: float = 0.2
    light: float = 0.1
    codec: Literal["auto", "real", "model"] = "auto"
    motion: MotionSettings = field(default_factory=MotionSettings)
    degradation: DegradationSettings = field(default_factory=DegradationSettings)

    def __post_init__(self) -> None:
        at_least(1, self, "scale", "frames", "crops_per_clip")
        at_least(0, self, "region", "lead", "short_side", "memory_gb")
        if self.crop < 8 or self.crop % 4:
            raise BadValue("crop", "a multiple of 4, at least 8", self.crop)

    @property
    def wanted(self) -> int:
        """Side in LR pixels of the region to degrade."""
        return self.region or round(self.crop * (2.0 if self.frames == 1 else 1.5))


@dataclass(frozen=True, slots=True)
class _Group:
    """A region from which several crops are cut: bytes of truth and input, motion, and the encoders to pass.

    Until it has passed them, `lr` has more frames than `hr`, which begins at its frame `start`.
    """

    hr: Tensor
    lr: Tensor
    flow: Tensor | None
    valid: Tensor | None
    codecs: tuple[Codec, ...]
    start: int


class ClipSource:
    """Clips from any mix of pictures, videos, packs and folders of them.

    `clip(index)` is a pure function of (seed, index), the settings and the files, so that a run can stop and go on
    exactly. Indices have no end. With a `device` other than the CPU the material is held there and clips are made
    there, in batches, and a model of a codec takes the codec's place.
    Raises TrainingError if nothing usable is found; what was skipped is in `library.skipped`.
    """

    def __init__(self, paths: Sequence[Path], settings: DataSettings, seed: int, device: torch.device = _CPU) -> None:
        self.settings = settings
        self.seed = seed
        self.device = device
        self.library: Library = load_library(
            paths,
            minimum=settings.crop * settings.scale,
            short_side=settings.short_side,
            memory=min(int(settings.memory_gb * 2**30), int(_SHARE_OF_MEMORY * free_memory(device))),
            device=device,
            cache=Path(settings.cache) if settings.cache else None,
        )
        self._ready: dict[int, _Group] = {}
        self._select()

    def _select(self) -> None:
        """Choose what the settings can use: videos need enough frames."""
        self._stills = self.library.stills
        self._videos = tuple(v for v in self.library.videos if v.frames >= self.settings.frames)
        if not self._stills and not self._videos:
            raise TrainingError(f"no video has the {self.settings.frames} frames that each clip is to have")
        self._chances = {id(items): _by_size(items) for items in (self._stills, self._videos)}

    def with_settings(self, settings: DataSettings) -> ClipSource:
        """Return a source of the same material that draws clips by other settings (same crop, scale not larger)."""
        other = copy.copy(self)
        other.settings, other._ready = settings, {}
        other._select()
        return other

    def summary(self) -> str:
        """Return one line on what was found and what was skipped."""
        return self.library.summary()

    def clip(self, index: int) -> Clip:
        """Return clip number `index`, the same for the same seed and files."""
        return self._clips([index])[0]

    def batch(self, indices: Sequence[int]) -> Batch:
        """Return the clips of `indices`, stacked."""
        return stack(self._clips(indices))

    @staticmethod
    def place(settings: DataSettings, device: torch.device) -> torch.device:
        """Return where to make clips for training on `device`: there if a model stands for the codecs, else the CPU."""
        real = settings.codec == "real" or (settings.codec == "auto" and importlib.util.find_spec("av") is not None)
        return _CPU if real else device

    def _clips(self, indices: Sequence[int]) -> list[Clip]:
        places = [self._place(index) for index in indices]
        missing = [n for n in dict.fromkeys(group for group, _ in places) if n not in self._ready]
        made = self._encode([self._draft(n) for n in missing]) if missing else []
        self._ready |= zip(missing, made, strict=True)
        clips = [self._cut(self._ready[group], group, within) for group, within in places]
        per_clip = self.settings.crops_per_clip
        first = min(indices) // per_clip
        wanted_again = range(first, first + (per_clip - 1) * _APART + 1)
        self._ready = {n: g for n, g in self._ready.items() if n in wanted_again}
        return clips

    def _place(self, index: int) -> tuple[int, int]:
        """Return the group that clip `index` is cut from, and which of its crops that is."""
        round_, within = divmod(index, self.settings.crops_per_clip)
        return round_ + (self.settings.crops_per_clip - 1 - within) * _APART, within

    def _draft(self, number: int) -> _Group:
        """Draw group `number` of the run up to its codec."""
        rng = np.random.default_rng([self.seed, number])
        settings = self.settings
        footage = self._footage(rng, settings.frames + settings.lead)
        truth = footage.frames
        truth = vary_colour(truth, rng) if rng.random() < settings.colour else truth
        truth = vary_light(truth, rng) if rng.random() < settings.light and settings.frames > 1 else truth
        hr = quantised(truth)
        plan = draw(settings.degradation, rng)
        size = int(hr.shape[-2]) // settings.scale, int(hr.shape[-1]) // settings.scale
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        lr = quantised(degrade(hr.float().div_(255), plan, size, generator))
        start = int(rng.integers(hr.shape[0] - settings.frames + 1))
        kept, steps = slice(start, start + settings.frames), slice(start, start + settings.frames - 1)
        flow, valid = (None if f is None else f[steps] for f in (footage.flow, footage.valid))
        return _Group(hr[kept], lr, flow, valid, plan.codecs, start)

    def _footage(self, rng: np.random.Generator, frames: int) -> Footage:
        """Draw material until some can be read; what cannot is named each time a process meets it."""
        for _ in range(_TRIES):
            wants_still = bool(rng.random() < self.settings.still_motion_share)
            try:
                if self._stills and (wants_still or not self._videos):
                    return self._from_stills(rng, frames)
                return self._from_video(rng, frames)
            except InputError as error:
                _log.warning("skipping what was drawn: %s", error)
        raise TrainingError(f"{_TRIES} files in a row could not be read; see the warnings above")

    def _from_video(self, rng: np.random.Generator, frames: int) -> Footage:
        item = self._pick(self._videos, rng)
        zoom = self._zoom(item, 1.0, rng) if rng.random() < self.settings.shrink else 1.0
        return excerpt(item, frames, self._region(item, zoom), zoom, rng, self.device)

    def _from_stills(self, rng: np.random.Generator, frames: int) -> Footage:
        motion = self.settings.motion
        layers = 1 + int(rng.random() < motion.layers) * int(rng.integers(1, 3)) if self.settings.frames > 1 else 1
        items = [self._pick(self._stills, rng) for _ in range(layers)]
        if self.settings.frames == 1:
            zoom = self._zoom(items[0], 1.0, rng) if rng.random() < self.settings.shrink else 1.0
            return stepped(items[0], frames, self._region(items[0], zoom), zoom, rng, self.device)
        zoom = self._zoom(items[0], 1.25, rng)
        return filmed(items, frames, self._region(items[0], zoom), zoom, motion, rng, self.device)

    def _zoom(self, item: Item, least: float, rng: np.random.Generator) -> float:
        return draw_zoom(item.size, least, self.settings.crop * self.settings.scale, rng)

    def _region(self, item: Item, zoom: float) -> tuple[int, int]:
        """Size in HR pixels of the region to degrade. On a device all are alike, so that they can be coded together;
        what a picture lacks is mirrored."""
        settings = self.settings
        if self.device.type != "cpu":
            return settings.wanted * settings.scale, settings.wanted * settings.scale
        return region_of(item.size, settings.wanted, settings.crop, settings.scale, zoom)

    def _pick(self, items: Sequence[Item], rng: np.random.Generator) -> Item:
        return items[int(rng.choice(len(items), p=self._chances[id(items)]))]

    def _encode(self, drafts: Sequence[_Group]) -> list[_Group]:
        """Pass the inputs through their encoders and keep the frames that match the truth."""
        clips, codecs = [d.lr for d in drafts], [d.codecs for d in drafts]
        encoded = _encode_by_model(clips, codecs) if self._models_codecs() else _encode_for_real(clips, codecs)
        frames = self.settings.frames
        return [replace(d, lr=lr[d.start : d.start + frames]) for d, lr in zip(drafts, encoded, strict=True)]

    def _models_codecs(self) -> bool:
        if self.settings.codec != "auto":
            return self.settings.codec == "model"
        return self.device.type != "cpu" or not importlib.util.find_spec("av")

    def _cut(self, group: _Group, number: int, within: int) -> Clip:
        """Cut one crop from a group and lay it one of eight ways."""
        rng = np.random.default_rng([self.seed, number, 1 + within])
        scale, side = self.settings.scale, self.settings.crop
        y, x = (int(rng.integers(whole - side + 1)) for whole in group.lr.shape[-2:])
        turn = draw_turn(rng)
        lr = turn.picture(group.lr[..., y : y + side, x : x + side])
        rows, columns = slice(y * scale, (y + side) * scale), slice(x * scale, (x + side) * scale)
        hr = turn.picture(group.hr[..., rows, columns])
        if group.flow is None or group.valid is None or self.settings.frames == 1:
            return Clip(hr, lr)
        flow = turn.flow(group.flow[..., rows, columns])
        return Clip(hr, lr, flow, turn.picture(group.valid[..., rows, columns]) & inside(flow))


def _by_size(items: Sequence[Item]) -> np.ndarray:
    """Chances in proportion to the side of a picture: a large one holds more to see."""
    weights = np.array([float(i.size[0] * i.size[1]) ** 0.5 for i in items])
    return weights / weights.sum() if len(weights) else weights


def _encode_for_real(clips: Sequence[Tensor], codecs: Sequence[tuple[Codec, ...]]) -> list[Tensor]:
    from gtasr_video.media.codec_loop import round_trip

    done = []
    for clip, passes in zip(clips, codecs, strict=True):
        there = clip.cpu()
        for codec in passes:
            there = round_trip(there, codec.name, codec.crf, codec.preset, b_frames=codec.b_frames)
        done.append(there.to(clip.device))
    return done


def _encode_by_model(clips: Sequence[Tensor], codecs: Sequence[tuple[Codec, ...]]) -> list[Tensor]:
    """As above by the model of an encoder, all clips that are alike in shape and structure in one go."""
    done = list(clips)
    for turn in range(max((len(passes) for passes in codecs), default=0)):
        alike: dict[object, list[int]] = {}
        for n, passes in enumerate(codecs):
            if turn < len(passes):
                alike.setdefault((done[n].shape, passes[turn].b_frames), []).append(n)
        for members in alike.values():
            passed = codec_model(torch.stack([done[n] for n in members]), [codecs[n][turn] for n in members])
            for n, clip in zip(members, passed.unbind(), strict=True):
                done[n] = clip
    return done
