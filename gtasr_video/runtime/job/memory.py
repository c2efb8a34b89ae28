"""The network's memory on disk: safetensors, with the order in which each tensor lies in memory.

That order belongs to the result: a convolution rounds otherwise over channels that lie last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from torch import Tensor

from gtasr_video.errors import ModelError
from gtasr_video.models.checkpoint import read_tensors, write_tensors
from gtasr_video.models.facts import State

_TENSORS: Final = tuple(name for name in State._fields if name != "inner")


def copied(state: State, device: torch.device | str) -> State:
    """Return a copy of `state` on `device`: who made it may use its memory again some steps later."""
    return _each(state, lambda tensor: tensor.to(device, copy=True))


def _each(state: State, change: Callable[[Tensor], Tensor]) -> State:
    inner = tuple(_each(part, change) for part in state.inner)
    return State(**{name: change(getattr(state, name)) for name in _TENSORS}, inner=inner)


def save_state(path: Path, state: State) -> None:
    """Write a state on the host to `path`, whole or not at all. Raises OSError."""
    tensors = dict(_named(state, ""))
    strides = {name: tensor.stride() for name, tensor in tensors.items()}
    flat = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    try:
        write_tensors(path, flat, {"strides": json.dumps(strides)})
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        raise OSError(int(found[1]) if found else 5, str(error), str(path)) from error


def load_state(path: Path) -> State | None:
    """Return the state in `path` just as it was saved, or None if there is none that is whole."""
    try:
        tensors, facts = read_tensors(path)
        strides = json.loads(facts["strides"])
        return _state({name: _laid_out(tensor, strides[name]) for name, tensor in tensors.items()}, "")
    except (ModelError, KeyError, ValueError, RuntimeError):
        return None


def _named(state: State, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name in _TENSORS:
        yield prefix + name, getattr(state, name)
    for number, part in enumerate(state.inner):
        yield from _named(part, f"{prefix}inner.{number}.")


def _laid_out(tensor: Tensor, strides: Any) -> Tensor:
    if tuple(strides) == tensor.stride() or 0 in strides:
        return tensor
    return torch.empty_strided(tensor.shape, tuple(strides), dtype=tensor.dtype).copy_(tensor)


def _state(tensors: dict[str, Tensor], prefix: str) -> State:
    inner: list[State] = []
    while f"{prefix}inner.{len(inner)}.age" in tensors:
        inner.append(_state(tensors, f"{prefix}inner.{len(inner)}."))
    return State(**{name: tensors[prefix + name] for name in _TENSORS}, inner=tuple(inner))
