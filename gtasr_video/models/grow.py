"""A larger network out of a smaller one: the same pictures, with room to learn more.

What the smaller one computes stays in the first channels of each layer, and nothing of the new channels flows into
them; blocks that it does not have begin as identity (Net2Net, arXiv 1511.05641, but with zeros in place of copies: what
is new begins unheard, not doubled). The new channels have weights of their own from the start, so that they learn.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gtasr_video.models.gtasr import Architecture, GTASRVideo


def can_grow(small: Architecture, large: Architecture) -> bool:
    """Return whether each layer of a network of shape `small` has a place in one of shape `large`."""
    return (
        small.cell == large.cell
        and len(small.widths) == len(large.widths)
        and all(a <= b for a, b in zip(small.widths, large.widths, strict=True))
        and all(a <= c and b <= d for (a, b), (c, d) in zip(small.depths, large.depths, strict=True))
        and small.guide <= large.guide
        and small.embedding <= large.embedding
    )


@torch.no_grad()
def grow(small: GTASRVideo, architecture: Architecture) -> GTASRVideo:
    """Return a new network of shape `architecture` that computes what `small` does, but for rounding.

    Its new weights are drawn from torch's global generator. Raises ValueError where `can_grow` says no.
    """
    if not can_grow(small.architecture, architecture):
        raise ValueError(f"tier '{architecture.tier}' has no place for all of tier '{small.architecture.tier}'")
    large = GTASRVideo(architecture, small.scales, small.noise_scale)
    large.path, large.scale = small.path, small.scale
    old = small.state_dict()
    for name, value in large.state_dict().items():
        if name in old:
            _place(name, old[name], value)
        elif ".second." in name:
            value.zero_()
    return large


def _place(name: str, old: Tensor, new: Tensor) -> None:
    """Put `old` into `new`, and zeros where what `old` computes would hear of what is new."""
    # A modulation gives as many scales as shifts: two lists of channels, each of which grows.
    rows = _spread(old.shape[0], new.shape[0], lists=2 if ".modulation." in name else 1)
    if old.ndim == 1:
        new[rows] = old
        return
    columns = torch.arange(old.shape[1])
    if name.endswith(".reference.weight"):
        columns[-1] = new.shape[1] - 1  # the confidence, which stays the last of its inputs
    new[rows] = 0
    new[rows[:, None], columns[None, :]] = old


def _spread(old: int, new: int, lists: int) -> Tensor:
    """Return the places of `old` channels among `new`, where both are made of `lists` lists of equal length."""
    starts = torch.arange(lists)[:, None] * (new // lists)
    return (starts + torch.arange(old // lists)[None, :]).flatten()
