"""Plain bicubic enlargement behind the interface of the networks: a baseline, and the last resort of a live stream."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gtasr_video.errors import ModelChoiceError
from gtasr_video.models.facts import ModelFacts, State
from gtasr_video.ops.resize import enlarge


class Bicubic(nn.Module):
    """Enlarge by the integer `scale` (1 to 8) with the project's bicubic kernel; it remembers nothing.

    Its one buffer is empty and only follows ``.to(device)``, so that the state is made where the frames are.
    Raises ModelChoiceError for a scale it cannot mean.
    """

    anchor: Tensor

    def __init__(self, scale: int = 4) -> None:
        super().__init__()
        if not 1 <= scale <= 8:
            raise ModelChoiceError(f"bicubic enlarges by 1 to 8, not {scale}")
        self.scale = scale
        self.register_buffer("anchor", torch.empty(0), persistent=False)

    @property
    def facts(self) -> ModelFacts:
        """Any size will do, and a pixel depends on two neighbours to each side. Computed in float32 only."""
        return ModelFacts("bicubic", self.scale, multiple_of=1, receptive_field=2, dtypes=(torch.float32,))

    def initial(self, batch: int, height: int, width: int) -> State:
        """Return a state in which only the age of the stream is kept."""
        nothing = self.anchor.new_empty(batch, 0, 0, 0)
        age = torch.zeros(batch, dtype=torch.int64, device=self.anchor.device)
        return State(nothing, nothing, nothing, nothing, nothing, age)

    def step(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Tensor, State]:
        """Enlarge x (B, 3, H, W) in [-1, 1]; the kernel overshoots, so the output may leave that range a little."""
        y = x.clone() if self.scale == 1 else enlarge(x, self.scale)  # y is the caller's, x is not
        return y, state._replace(age=state.age + 1)
