"""Convolutions in 8 bits: the ranges they need, measured, and a network in which each rounds as integers would.

The network returned is an ordinary module whose convolutions round their inputs and weights to the grid of the
integers ("fake quantisation"): it can be measured in torch, and a compiler that knows the pattern runs it in integers.

* Inputs: one symmetric scale a tensor, from what was seen on real frames.
* Weights: one scale an output channel, of 7 bits: products of 8-bit inputs and 7-bit weights can be added in pairs
  within 16 bits, as CPUs without VNNI do, so that all CPUs give the same picture.
* What reads the picture itself stays in floating point, and so does everything that is not a convolution.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gtasr_video.models.blocks import Int8Conv2d
from gtasr_video.models.gtasr import GTASRVideo


@torch.inference_mode()
def measure_limits(model: nn.Module, shots: Iterable[Tensor]) -> dict[str, float]:
    """Return, for each convolution to be done in integers, the largest input seen; by its name in `model`.

    model  a folded `GTASRVideo`, or a module made of several, in float32
    shots  clips (T, 3, H, W) in [-1, 1], each begun without memory; sides are cut to what the network takes
    """
    limits: dict[str, float] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            limits[name] = max(limits.get(name, 0.0), float(inputs[0].abs().max()))

        return look

    hooks = [conv.register_forward_pre_hook(watch(name)) for name, conv in _convolutions(model)]
    try:
        for shot in shots:
            _play(model, shot)
    finally:
        for hook in hooks:
            hook.remove()
    return limits


def with_int8(model: nn.Module, limits: Mapping[str, float]) -> nn.Module:
    """Return a copy of `model` with the convolutions named in `limits` in integers."""
    model = copy.deepcopy(model)
    for name, conv in list(_convolutions(model)):
        if name in limits:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, Int8Conv2d(conv, limits[name]))
    return model


def _convolutions(model: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    """Yield all convolutions but those that read the picture itself."""
    networks = [module for module in model.modules() if isinstance(module, GTASRVideo)]
    readers = {id(module) for network in networks for module in network.readers()}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and id(module) not in readers:
            yield name, module


def _play(model: Any, shot: Tensor) -> None:
    multiple = model.facts.multiple_of
    height, width = (side - side % multiple for side in shot.shape[-2:])
    state = model.initial(1, height, width)
    for frame in shot[..., :height, :width]:
        _, state = model.step(frame[None], state)
