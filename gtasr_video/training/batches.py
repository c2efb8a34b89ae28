"""What a training step is given: clips, and clips stacked into batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Clip:
    """One training clip, RGB.

    hr      (T, 3, H, W) uint8 truth
    lr      (T, 3, h, w) uint8 degraded input
    flow    (T-1, 2, H, W) float32: frame k-1 at p + flow[k-1](p) shows what frame k shows at p; None if not known
    valid   (T-1, 1, H, W) bool: where that holds (not disoccluded, not outside); None where flow is
    """

    hr: Tensor
    lr: Tensor
    flow: Tensor | None = None
    valid: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Clips of equal size: hr (B, T, 3, H, W), lr (B, T, 3, h, w), both uint8.

    flow (B, T-1, 2, H, W) and valid (B, T-1, 1, H, W) are zero where `has_flow` (B,) is False.
    """

    hr: Tensor
    lr: Tensor
    flow: Tensor
    valid: Tensor
    has_flow: Tensor


def stack(clips: Sequence[Clip]) -> Batch:
    """Stack clips of equal size into a batch."""
    hr = torch.stack([c.hr for c in clips])
    batch, frames, _, height, width = hr.shape
    flow = torch.zeros(batch, frames - 1, 2, height, width, device=hr.device)
    valid = torch.zeros(batch, frames - 1, 1, height, width, dtype=torch.bool, device=hr.device)
    for k, clip in enumerate(clips):
        if clip.flow is not None and clip.valid is not None:
            flow[k], valid[k] = clip.flow, clip.valid
    has_flow = torch.tensor([c.flow is not None for c in clips], device=hr.device)
    return Batch(hr, torch.stack([c.lr for c in clips]), flow, valid, has_flow)
