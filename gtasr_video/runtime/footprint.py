"""How much memory a step takes, counted without taking it, and into how many parts a frame must be cut to fit.

The count runs the step on torch's meta device, where tensors have sizes and no contents, and follows which of them
live at once. It is exact for tensors; what libraries take for themselves comes on top, hence the share left free.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gtasr_video.frames import VideoSpec
from gtasr_video.models.facts import VideoModel
from gtasr_video.runtime.tiles import Grid, margin_of, parts, tiled

# No network here takes so much for a pixel of its input at x4: below it nothing needs to be counted.
_MORE_THAN_ENOUGH = 6000
_USABLE = 0.75  # of the free memory; the rest is for convolution workspaces, codecs and neighbours
_MOST_PARTS = 16  # along one side


def frame_bytes(spec: VideoSpec) -> int:
    """Return the bytes of the planes of one frame."""
    sizes = (spec.layout.plane_size(i, spec.width, spec.height) for i in range(spec.layout.planes))
    return sum(h * w for h, w in sizes) * spec.layout.dtype.itemsize


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors made in the block that live at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._known:
            self._known.add(key)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key, storage.nbytes())

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


@torch.inference_mode()
def state_bytes(model: VideoModel, height: int, width: int) -> int:
    """Return the bytes of what is remembered between frames."""
    hollow: Any = copy.deepcopy(model).to("meta")  # type: ignore[attr-defined]
    return sum(tensor.nbytes for tensor in tree_leaves(hollow.initial(1, height, width)))


@torch.inference_mode()
def peak_bytes(model: VideoModel, height: int, width: int) -> int:
    """Return the most bytes that tensors of one step take at once, the state before it included, weights not."""
    assert isinstance(model, nn.Module)
    hollow: Any = copy.deepcopy(model).to("meta")
    live = _Live()
    with live:
        state = hollow.initial(1, height, width)
        hollow.step(torch.zeros(1, 3, height, width, device="meta"), state)
    return live.peak


class Fit:
    """Chooses how to cut frames of `height` x `width` (padded LR size) for `model`; counts only when it has to.

    `states` are kept for frames under way besides the two that a step needs.
    """

    def __init__(self, model: VideoModel, height: int, width: int, states: int = 0) -> None:
        self._model, self._height, self._width, self._states = model, height, width, states
        self._costs: tuple[float, float] | None = None

    def first(self, free: int) -> Grid:
        """Return the coarsest grid that takes no more than its share of `free` bytes, or the finest there is."""
        scale = self._model.facts.scale
        pixels = self._height * self._width
        if pixels * _MORE_THAN_ENOUGH * max(1, scale / 4) ** 2 < free * _USABLE or not self._can_be_cut:
            return Grid()
        whole, of_tile = self._per_pixel()
        grids = list(self._grids())
        needs = [pixels * whole + self._seen(grid) * of_tile for grid in grids]
        if pixels * (of_tile + self._kept()) < free * _USABLE:
            return Grid()
        fitting = [grid for grid, need in zip(grids, needs, strict=True) if need < free * _USABLE]
        return fitting[0] if fitting else min(grids, key=self._seen, default=Grid())

    def finer(self, grid: Grid) -> Grid | None:
        """Return the next grid whose tiles are at most two thirds as large as those of `grid`; None at the end."""
        if not self._can_be_cut:
            return None
        limit = self._seen(grid) * 2 / 3
        return next((finer for finer in self._grids() if self._seen(finer) <= limit), None)

    @property
    def _can_be_cut(self) -> bool:
        return tiled(self._model, Grid()) is not None

    def _grids(self) -> Iterator[Grid]:
        """Yield what a frame can be cut into, the least work first."""
        multiple = self._model.facts.multiple_of
        rows = min(_MOST_PARTS, self._height // (4 * multiple))
        columns = min(_MOST_PARTS, self._width // (4 * multiple))
        grids = [Grid(r, c) for r in range(1, rows + 1) for c in range(1, columns + 1) if r * c > 1]
        yield from sorted(grids, key=lambda grid: sum(self._areas(grid)))

    def _areas(self, grid: Grid) -> list[int]:
        facts = self._model.facts
        tiles = parts(grid, self._height, self._width, margin_of(facts), facts.multiple_of)
        return [(p.down.end - p.down.begin) * (p.across.end - p.across.begin) for p in tiles]

    def _seen(self, grid: Grid) -> int:
        """LR pixels of the largest tile, margins included."""
        return max(self._areas(grid))

    def _per_pixel(self) -> tuple[float, float]:
        """Return the bytes a step takes for each LR pixel of the frame, and for each of the tile at work."""
        if self._costs is None:
            facts, side = self._model.facts, 32 * self._model.facts.multiple_of
            of_tile = peak_bytes(self._model, side, side) / side**2
            length = 8 * margin_of(facts) // facts.multiple_of * facts.multiple_of
            cut = tiled(self._model, Grid(1, 2))
            assert cut is not None
            seen = Fit(self._model, side, length)._seen(Grid(1, 2))
            whole = (peak_bytes(cut, side, length) - seen * of_tile) / (side * length)
            self._costs = max(0.0, whole) + self._kept(), of_tile
        return self._costs

    def _kept(self) -> float:
        """Bytes a LR pixel of the states that are kept besides."""
        side = 32 * self._model.facts.multiple_of
        return self._states * state_bytes(self._model, side, side) / side**2
