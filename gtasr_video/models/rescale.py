"""An adapter for one scale out of another's: the picture of one scale, averaged over areas, is that of a smaller one.

All that an adapter does to HR pixels is linear (1x1 convolutions on cells). If U makes a cell of the source's size
from one of the target's and D the reverse, both by area, then W_in U reads a target cell as the source's convolution
reads the larger one, and D W_out writes what the source's head writes, seen at the target's size. No pixel crosses the
border of a cell.

Scale 1 restores: nothing is left to enlarge there, and what the source's head adds would sharpen what is sharp already.
Its own head begins silent, and has to be trained.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gtasr_video.models.gtasr import GTASRVideo, ScaleAdapter


def with_scales(model: GTASRVideo, scales: Sequence[int]) -> GTASRVideo:
    """Return a network with the weights of `model` and, derived from its first adapter, those for more `scales`."""
    new = [s for s in scales if s not in model.scales]
    larger = GTASRVideo(model.architecture, (*model.scales, *new), model.noise_scale)
    larger.path = model.path
    larger.load_state_dict(model.state_dict(), strict=False)
    for scale in new:
        derive_adapter(larger, model.scales[0], scale)
    return larger


@torch.no_grad()
def derive_adapter(model: GTASRVideo, source: int, target: int) -> None:
    """Overwrite the adapter for scale `target` of `model` by what its adapter for scale `source` amounts to there.

    A start for training whose output beats bicubic already; an adapter born anew needs long to get there.
    """
    cell = model.architecture.cell
    old, new = (model.adapters[f"x{s}"] for s in (source, target))
    assert isinstance(old, ScaleAdapter)
    assert isinstance(new, ScaleAdapter)
    down = _square(_areas(cell * source, cell * target))
    up = _square(_areas(cell * target, cell * source))
    new.frame.load_state_dict(old.frame.state_dict())
    new.state.weight.copy_(_reading(old.state.weight, up))
    _copy_bias(old.state.bias, new.state.bias)
    detail, others = old.reference.weight[:, : len(up)], old.reference.weight[:, len(up) :]
    new.reference.weight.copy_(torch.cat([_reading(detail, up), others], dim=1))
    _copy_bias(old.reference.bias, new.reference.bias)
    for before, after in ((old.head, new.head), (old.hold, new.hold), (old.maps.maps, new.maps.maps)):
        after.weight.copy_(_writing(before.weight, down))
        if before.bias is not None and after.bias is not None:
            after.bias.copy_(_writing(before.bias[:, None], down)[:, 0])
    if target == 1:
        for parameter in new.head.parameters():
            parameter.zero_()


def _copy_bias(old: Tensor | None, new: Tensor | None) -> None:
    if old is not None and new is not None:
        new.copy_(old)


def _areas(inputs: int, outputs: int) -> Tensor:
    """Return (outputs, inputs): the share of each input pixel in each output pixel of a line of the same length."""
    edges_in = torch.arange(inputs + 1, dtype=torch.float64) / inputs
    edges_out = torch.arange(outputs + 1, dtype=torch.float64) / outputs
    left = torch.maximum(edges_out[:-1, None], edges_in[None, :-1])
    right = torch.minimum(edges_out[1:, None], edges_in[None, 1:])
    return ((right - left).clamp(min=0) * outputs).float()


def _square(line: Tensor) -> Tensor:
    """Return the same for cells: rows first, as pixel_unshuffle orders the pixels of a channel."""
    return torch.kron(line, line)


def _reading(weight: Tensor, up: Tensor) -> Tensor:
    """Return W U: (width, C f^2, 1, 1) -> (width, C g^2, 1, 1), for `up` (f^2, g^2)."""
    width = weight.shape[0]
    return (weight.reshape(width, -1, up.shape[0]) @ up.to(weight)).reshape(width, -1, 1, 1)


def _writing(weight: Tensor, down: Tensor) -> Tensor:
    """Return D W: (C f^2, ...) -> (C g^2, ...), for `down` (g^2, f^2)."""
    planes = weight.reshape(-1, down.shape[1], weight[0].numel())
    return (down.to(weight) @ planes).reshape(-1, *weight.shape[1:])
