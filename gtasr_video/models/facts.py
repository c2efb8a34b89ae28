"""What a caller may know of a network, and the one interface all networks here have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts a runtime needs so that it never asks for a model's name.

    name             tier or class name, for reports
    scale            output pixels per input pixel along one side
    multiple_of      input height and width must be multiples of this
    receptive_field  input pixels on each side that can change one output pixel, within one frame
    dtypes           floating-point types the weights may be converted to
    """

    name: str
    scale: int
    multiple_of: int
    receptive_field: int
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16, torch.float16)


class State(NamedTuple):
    """What a network remembers from one frame to the next; tensors only, so that it can be saved or captured.

    detail     (B, (c s)^2, H/c, W/c) luma of the previous residual over bicubic, pixel-unshuffled (c: cell, s: scale):
               what the LR frame lacks is fine detail, and that of colour no video holds at full size
    features   (B, C, H/c, W/c) last trunk features of the previous frame
    frame      (B, 3, H, W) previous LR frame in [-1, 1]
    noise      (B, 3 s^2, H, W) previous unit Gaussian noise, pixel-unshuffled, for each step of inference; no channels
               at noise_scale 0
    drift      (B, 2, H, W) sub-pixel remainder of the noise's motion; no channels at noise_scale 0
    age        (B,) int64 frames since the last cut; 0 means that nothing before is valid
    inner      states of the networks that one is made of, where it is made of several
    """

    detail: Tensor
    features: Tensor
    frame: Tensor
    noise: Tensor
    drift: Tensor
    age: Tensor
    inner: tuple[State, ...] = ()


@runtime_checkable
class VideoModel(Protocol):
    """A causal video network: one frame in, one larger frame out, memory passed in and out.

    Example::

        >>> import torch
        >>> model = load_model("bicubic", scale=2)
        >>> larger, state = model.step(torch.zeros(1, 3, 8, 8), model.initial(1, 8, 8))
        >>> larger.shape
        torch.Size([1, 3, 16, 16])
    """

    @property
    def facts(self) -> ModelFacts:
        """Facts of this network at its current scale."""

    def initial(self, batch: int, height: int, width: int) -> State:
        """Return the state before the first frame of a stream of LR size `height` x `width`."""

    def step(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Tensor, State]:
        """Upscale one frame: float32 x (B, 3, H, W) in [-1, 1] -> float32 (B, 3, s H, s W), and the next state.

        `y` is the caller's own: new memory that no state refers to, so it may be overwritten in place. `x` may be kept
        in the state returned and must not be changed while that is in use; neither may a state be.
        """
