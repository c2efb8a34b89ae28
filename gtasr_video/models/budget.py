"""What a step costs: parameters and multiply-accumulates per LR pixel, counted, not estimated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch.utils.flop_counter import FlopCounterMode

from gtasr_video.models.flow import PATCH, ROUNDS, SEARCH, WINDOW
from gtasr_video.models.gtasr import TIERS, Architecture, GTASRVideo
from gtasr_video.models.temporal import no_reference
from gtasr_video.ops.resize import shrinking_macs

SCALES = (4, 3, 2)


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper bounds for a tier: parameters, multiply-accumulates per LR pixel at x4, and their aim (no measurement)."""

    parameters: int
    macs: int
    purpose: str


BUDGETS: Mapping[str, Budget] = MappingProxyType(
    {
        "s": Budget(1_000_000, 80_000, "real time to 720p on two CPU cores"),
        "m": Budget(6_000_000, 800_000, "under 20 ms to 1080p on a mid-range GPU"),
        "l": Budget(12_000_000, 3_000_000, "best picture"),
    }
)


@dataclass(frozen=True, slots=True)
class TierFacts:
    """One row of `gtasr-video models`: parameters with all scales' adapters, MACs per LR pixel by scale."""

    name: str
    parameters: int
    macs: dict[int, int]
    budget: Budget


def tier_facts(name: str) -> TierFacts:
    """Return the counted facts of a tier."""
    architecture = TIERS[name]
    parameters = sum(p.numel() for p in GTASRVideo(architecture, SCALES).parameters())
    return TierFacts(name, parameters, {s: macs_per_pixel(architecture, s) for s in SCALES}, BUDGETS[name])


def macs_per_pixel(architecture: Architecture, scale: int) -> int:
    """Return the multiply-accumulates of one folded step per LR pixel: convolutions as run, plus the fixed rest.

    The rest is 16 taps of bicubic for each value, 16 and 4 of the moved luma for each pixel, and the differences,
    products and box sums of the motion search, an operation counted as a multiply-accumulate.
    """
    side = 8 * architecture.multiple_of
    with torch.device("meta"):
        model = GTASRVideo(architecture, (scale,))
        model.folded_gate = 0.0
        for block in model.trunk.blocks():
            block.modulation = None
        counter = FlopCounterMode(display=False)
        with torch.inference_mode(), counter:
            x, state = torch.zeros(1, 3, side, side), model.initial(1, side, side)
            # Motion has no convolutions, and a thousand small operations.
            context = model.observe(x, state, no_reference(x, architecture.cell))
            model.to_picture(model.descend(context, state.noise).residual)
    convolutions = counter.get_total_flops() // 2 // side**2
    bicubic = 16 * 3 * scale**2
    # A round: a bilinear warp, two gradients, weighted products and their sums, five boxes a patch twice.
    a_round = 4 + 4 + 20 + 2 * 5 * WINDOW**2 // PATCH**2
    # The levels together have 4/3 of the pixels; each smooths both frames. Then a last warp, and the error it leaves.
    motion = (ROUNDS * a_round + 2 * 8) * 4 // 3 + 4 + 2
    # The camera's motion: one more round, two warps and what they leave, six fits of about 40 operations a patch.
    motion += a_round + 2 * (4 + 2) + 6 * 40 // PATCH**2
    # What contrast a place has: two sums over 5 x 5, one of pixels and one of cells.
    motion += 25 + 25 // architecture.cell**2
    # The exhaustive search: differences at 1/4 size, and sums over patches; the choice: two warps at half size.
    motion += (2 * SEARCH + 1) ** 2 * 4 // 16 + 2 * 6 // 4
    # What rests: what no motion leaves, and a dozen operations a cell.
    motion += 2 + 12 // architecture.cell**2
    # Shrunk twice, before it moves and after; moved sharply; what it has missed of the frame: a mean of 3 x 3, and a
    # dozen operations.
    moved = 2 * shrinking_macs(architecture.cell, scale) + (16 + 4) * scale**2 + 9 + 12
    return convolutions + bicubic + motion + moved
