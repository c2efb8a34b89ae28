"""What is drawn in one optimiser step: points of the path, frames, windows and noise, the same however it is shared."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gtasr_video.training.ranks import ALONE, Ranks
from gtasr_video.training.settings import Phase


@dataclass(frozen=True, slots=True)
class Draw:
    """All that is random in one optimiser step, from (seed, step) alone: exact resume needs no other state.

    Where several processes share a batch, each draws for the whole of it and keeps its part: `count` and the first
    dimension of what is asked for are those of the part.
    """

    generator: torch.Generator
    seed: int
    ranks: Ranks

    @staticmethod
    def of(seed: int, step: int, ranks: Ranks = ALONE) -> Draw:
        """Return the draws of optimiser step `step`."""
        key = seed * 1_000_003 + step
        return Draw(torch.Generator().manual_seed(key), key, ranks)

    def path_steps(self, count: int, phase: Phase, device: torch.device) -> Tensor:
        """Return t (B,): N for a share `end_share` of the clips, else uniform in 1..N."""
        whole = count * self.ranks.count
        uniform = torch.randint(1, phase.steps + 1, (whole,), generator=self.generator)
        at_end = torch.rand(whole, generator=self.generator) < phase.end_share
        return self.ranks.share(torch.where(at_end, phase.steps, uniform)).to(device)

    def integers(self, high: int, count: int) -> list[int]:
        """Return `count` integers in 0..high-1."""
        whole = torch.randint(high, (count * self.ranks.count,), generator=self.generator)
        numbers: list[int] = self.ranks.share(whole).tolist()
        return numbers

    def places(self, count: int, device: torch.device) -> Tensor:
        """Return the places (B,) of the clips in the whole batch."""
        return self.ranks.share(torch.arange(count * self.ranks.count)).to(device)

    def frames(self, total: int, count: int) -> set[int]:
        """Return `count` of the frames 0..total-1, the same for all processes; all of them for 0."""
        if not 0 < count < total:
            return set(range(total))
        chosen: list[int] = torch.randperm(total, generator=self.generator)[:count].tolist()
        return set(chosen)

    def spread(self, high: int, count: int) -> list[int]:
        """Return `count` integers in 0..high-1, one from each of `count` equal parts of that range, in order."""
        place = self.ranks.share(torch.rand(count * self.ranks.count, generator=self.generator))
        numbers: list[int] = ((torch.arange(count) + place) * (high / count)).long().clamp(max=high - 1).tolist()
        return numbers

    def normal(self, like: Tensor) -> Tensor:
        """Return unit Gaussian noise of the shape of `like`, drawn where that lies."""
        key = int(torch.randint(2**62, (1,), generator=self.generator))
        there = torch.Generator(like.device).manual_seed(key)
        shape = len(like) * self.ranks.count, *like.shape[1:]
        return self.ranks.share(torch.randn(shape, generator=there, device=like.device))
