"""Frames too large for the memory at hand, a part at a time: the same picture, and the same state, as in one piece.

What looks across the frame (motion, scene cuts, noise) is computed on the whole of it, at LR size, and the state stays
whole. Only the network runs on parts. Each part is seen with a margin as wide as a pixel of it can see, the way
of the memory moved included, so that what is kept of a part is what the whole frame would have given; where two parts
meet they are blended over a few pixels, so that rounding leaves no edge either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gtasr_video.models.cascade import Cascade
from gtasr_video.models.facts import ModelFacts, State, VideoModel
from gtasr_video.models.flow import REACH
from gtasr_video.models.gtasr import GTASRVideo, Prediction
from gtasr_video.ops.resize import BICUBIC_REACH, enlarge

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Grid:
    """Into how many parts a frame is cut, down and across."""

    rows: int = 1
    columns: int = 1

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"


@dataclass(frozen=True, slots=True)
class Span:
    """One part along one side, in LR pixels: `begin` to `end` is seen, `first` to `last` is kept.

    The kept ranges of neighbours overlap by ``2 * blend`` pixels; there their weights rise and fall and add to one.
    """

    begin: int
    end: int
    first: int
    last: int
    blend: int
    length: int

    def weights(self, numerator: int, denominator: int, like: Tensor) -> Tensor:
        """Return the weight of each kept sample where ``numerator / denominator`` samples make one LR pixel."""
        count = (self.last - self.first) * numerator // denominator
        at = (torch.arange(count, device=like.device, dtype=torch.float32) + 0.5) * (denominator / numerator)
        weights = torch.ones_like(at)
        if self.first > 0:
            weights = weights.minimum(at / (2 * self.blend))
        if self.last < self.length:
            weights = weights.minimum((self.last - self.first - at) / (2 * self.blend))
        return weights.to(like.dtype)


def spans(length: int, count: int, margin: int, multiple: int) -> list[Span]:
    """Cut `length` into `count` parts at multiples of `multiple`, each seen with at least `margin` around what is kept.

    Raises ValueError if a part would be too narrow to blend with both of its neighbours.
    """
    units = length // multiple
    cuts = [units * i // count * multiple for i in range(count + 1)]
    if count > 1 and min(b - a for a, b in pairwise(cuts)) < 2 * multiple:
        raise ValueError(f"{length} pixels cannot be cut into {count} parts")
    margin += -margin % multiple
    found = []
    for low, high in pairwise(cuts):
        first, last = max(0, low - multiple), min(length, high + multiple)
        if count == 1:
            first, last = 0, length
        found.append(Span(max(0, first - margin), min(length, last + margin), first, last, multiple, length))
    return found


@dataclass(frozen=True, slots=True)
class Part:
    """One tile: where it lies, down and across."""

    down: Span
    across: Span

    def seen(self, tensor: Tensor) -> Tensor:
        """Return what this part sees of a whole-frame tensor (B, C, h, w), whatever its resolution."""
        return _crop(tensor, self.down, self.across, self.down.begin, self.down.end, self.across.begin, self.across.end)

    def add(self, whole: Tensor, tile: Tensor) -> None:
        """Add the kept middle of `tile` (computed from what was seen), weighted, to the frame it is a part of."""
        down, across = self.down, self.across
        rows, columns = (whole.shape[-2], down.length), (whole.shape[-1], across.length)
        top, left = (down.first - down.begin, across.first - across.begin)
        high, wide = down.last - down.first, across.last - across.first
        kept = tile[..., _at(top, rows) : _at(top + high, rows), _at(left, columns) : _at(left + wide, columns)]
        weights = down.weights(*rows, like=kept)[:, None] * across.weights(*columns, like=kept)
        target = _crop(whole, down, across, down.first, down.last, across.first, across.last)
        target.add_(kept * weights)


def parts(grid: Grid, height: int, width: int, margin: int, multiple: int) -> Iterator[Part]:
    """Yield the tiles of a frame, row by row."""
    across = spans(width, grid.columns, margin, multiple)
    for down in spans(height, grid.rows, margin, multiple):
        yield from (Part(down, one) for one in across)


class Tiled(nn.Module):
    """`model` behind the interface it has itself, running on the parts of `grid`."""

    def __init__(self, model: GTASRVideo, grid: Grid) -> None:
        super().__init__()
        self.model, self.grid = model, grid

    @property
    def facts(self) -> ModelFacts:
        """Those of the network."""
        return self.model.facts

    def initial(self, batch: int, height: int, width: int) -> State:
        """Return the state of the network, which is that of the whole frame."""
        return self.model.initial(batch, height, width)

    def step(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Tensor, State]:
        """Upscale one frame; see `VideoModel.step`."""
        prediction, following = self.step_in_cells(x, state, seed=seed)
        return enlarge(x, self.facts.scale) + self.model.to_picture(prediction.residual).float(), following

    def step_in_cells(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Prediction, State]:
        """Upscale one frame, but return only what it adds to bicubic; see `GTASRVideo.step_in_cells`."""
        model, (height, width) = self.model, x.shape[-2:]
        facts = model.facts
        reference = model.find_reference(x, state)
        noise, drift = model.next_noise(x, state, reference, seed)
        # In the network's type, which is not the state's where a frame is made again in float32.
        fields = (state.detail, state.detail, state.features)
        luma, held, features = (torch.zeros_like(field, dtype=model.dtype) for field in fields)
        whole = Prediction(torch.cat([luma] * 3, dim=1), luma, held, features)
        for part in parts(self.grid, height, width, margin_of(facts), facts.multiple_of):
            seen = _seen(part, state), _seen(part, reference)
            context = model.observe(part.seen(x), *seen, enlarged=False)
            prediction = model.descend(context, part.seen(noise))
            for field, of_part in zip(whole, prediction, strict=True):
                assert field is not None
                assert of_part is not None
                part.add(field, of_part.to(field.dtype))
        return whole, model.advance(x, state._replace(noise=noise, drift=drift), reference, whole)


def margin_of(facts: ModelFacts) -> int:
    """Return how far outside a tile lies what one of its pixels may depend on, in LR pixels.

    Memory comes from as far as it can have moved, and is shrunk and enlarged again where it is compared with the frame.
    """
    return facts.receptive_field + REACH + 2 * BICUBIC_REACH


def tiled(model: VideoModel, grid: Grid) -> VideoModel | None:
    """Return `model` running on the parts of `grid`, or None if it cannot be taken apart or the frame not cut so."""
    if isinstance(model, GTASRVideo):
        return Tiled(model, grid)
    if isinstance(model, Cascade):
        # The second sees a larger picture, so it is the one that needs cutting; the first may as well be.
        first, second = tiled(model.first, grid), tiled(model.second, grid)
        return None if first is None or second is None else Cascade(first, second)
    return None


def _seen(part: Part, holder: T) -> T:
    """Return a state or reference with each picture of it cut to what `part` sees; per-stream values stay."""
    fields: Any = holder
    return type(holder)(*(_seen_field(part, field) for field in fields))


def _seen_field(part: Part, field: Any) -> Any:
    if isinstance(field, Tensor):
        return part.seen(field) if field.dim() == 4 else field
    return _seen(part, field) if field else field


def _crop(tensor: Tensor, down: Span, across: Span, top: int, bottom: int, left: int, right: int) -> Tensor:
    rows, columns = (tensor.shape[-2], down.length), (tensor.shape[-1], across.length)
    return tensor[..., _at(top, rows) : _at(bottom, rows), _at(left, columns) : _at(right, columns)]


def _at(position: int, resolution: tuple[int, int]) -> int:
    """Return where LR position `position` lies among ``resolution[0]`` samples that cover ``resolution[1]`` pixels."""
    samples, pixels = resolution
    return position * samples // pixels
