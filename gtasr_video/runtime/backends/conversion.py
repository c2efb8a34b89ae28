"""A frame's arithmetic as a program with explicit state: plain tensors in, plain tensors out, traced from torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gtasr_video.frames import VideoSpec
from gtasr_video.models.facts import State, VideoModel
from gtasr_video.runtime.backends.frame import enlarge

_MANY_CHANNELS = 16


class ConversionError(Exception):
    """A network cannot be converted; the message says why, in one line."""


def flatten(state: State) -> list[Tensor]:
    """Return the tensors of a state that hold anything, in a fixed order."""
    return [field for field in _fields(state) if field.numel()]


def unflatten(tensors: Sequence[Tensor], template: State) -> State:
    """Return the state that `flatten` made `tensors` of; what is empty is taken from `template`."""
    return _filled(template, iter(tensors))


def _fields(state: State) -> Iterator[Tensor]:
    for field in state[:-1]:
        assert isinstance(field, Tensor)
        yield field
    for inner in state.inner:
        yield from _fields(inner)


def _filled(template: State, tensors: Iterator[Tensor]) -> State:
    own: dict[str, Any] = {
        name: next(tensors) if field.numel() else field
        for name, field in zip(template._fields[:-1], template[:-1], strict=True)
    }
    return State(**own, inner=tuple(_filled(inner, tensors) for inner in template.inner))


def channels_last(field: Tensor) -> Tensor:
    """Return a field of a state as programs hold it: what has many channels with these last, as convolutions do."""
    return field.permute(0, 2, 3, 1) if _has_cells(field) else field


def channels_first(field: Tensor, like: Tensor) -> Tensor:
    """Return what `channels_last` returned for a field such as `like` as it was."""
    return field.permute(0, 3, 1, 2) if _has_cells(like) else field


def _has_cells(field: Tensor) -> bool:
    return field.dim() == 4 and field.shape[1] >= _MANY_CHANNELS


class FrameProgram(nn.Module):
    """`frame.enlarge` between plain tensors: (planes..., state...) -> (planes..., sound, state...).

    The state is as `channels_last` has it: turning it over each time costs more than some convolutions. Pictures of
    more than 8 bits are int32 on both sides, as few compilers know 16 bits without a sign.
    """

    def __init__(self, model: VideoModel, source: VideoSpec, output: VideoSpec, template: State, seed: int) -> None:
        super().__init__()
        self.model: Any = model
        self.source, self.output, self.template, self.seed = source, output, template, seed

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run one step."""
        count = self.source.layout.planes
        fields = zip(tensors[count:], flatten(self.template), strict=True)
        state = unflatten([channels_first(field, like) for field, like in fields], self.template)
        done = enlarge(self.model, tensors[:count], state, self.source, self.output, self.seed)
        return *done.planes, done.sound, *map(channels_last, flatten(done.state))


@torch.no_grad()
def traced(program: nn.Module, inputs: Sequence[Tensor]) -> torch.jit.ScriptModule:
    """Return `program` as a graph. Raises ConversionError."""
    with warnings.catch_warnings():
        # What depends on sizes becomes constant; sizes are fixed.
        warnings.simplefilter("ignore")
        program(*inputs)  # what is computed once and kept must not be computed while tracing
        try:
            graph: torch.jit.ScriptModule = torch.jit.trace(program, tuple(inputs), check_trace=False)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise ConversionError(f"tracing failed ({' '.join(str(error).split())[:200]})") from error
    return graph
