"""Two networks one after the other, behind the interface of one: x8 as x4, then x2."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gtasr_video.models.facts import ModelFacts, State, VideoModel


class Cascade(nn.Module):
    """Enlarge by `first`, then by `second`; each keeps a memory of its own.

    The picture between them is cut to [-1, 1], as a picture from a file would be, but not rounded. Where the first
    sees a new scene the second forgets too: it sees larger pictures, and might judge otherwise.
    """

    def __init__(self, first: VideoModel, second: VideoModel) -> None:
        super().__init__()
        # nn.Module registers what is a module, so that .to() moves both; a VideoModel need not be one.
        self.first, self.second = first, second

    @property
    def facts(self) -> ModelFacts:
        """The scales multiply; a size must suit both, and so must a type."""
        a, b = self.first.facts, self.second.facts
        larger = b.multiple_of // math.gcd(b.multiple_of, a.scale)
        return ModelFacts(
            f"{a.name} x{a.scale}, {b.name} x{b.scale}",
            a.scale * b.scale,
            math.lcm(a.multiple_of, larger),
            a.receptive_field + -(-b.receptive_field // a.scale),
            tuple(dtype for dtype in a.dtypes if dtype in b.dtypes),
        )

    def initial(self, batch: int, height: int, width: int) -> State:
        """Return the state before the first frame: those of the two, and the age of the stream."""
        scale = self.first.facts.scale
        inner = self.first.initial(batch, height, width), self.second.initial(batch, height * scale, width * scale)
        age = inner[0].age
        nothing = age.new_zeros((batch, 0, 0, 0), dtype=torch.float32)
        return State(nothing, nothing, nothing, nothing, nothing, age, inner)

    def step(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Tensor, State]:
        """Enlarge one frame twice; see `VideoModel.step`."""
        first, second = state.inner
        between, first = self.first.step(x, first, seed=seed)
        # An age of 1 after a frame says that nothing before it counted.
        continues = (first.age > 1).to(second.age.dtype)
        second = second._replace(age=second.age * continues)
        y, second = self.second.step(between.clamp(-1, 1), second, seed=seed)
        return y, state._replace(age=first.age, inner=(first, second))
