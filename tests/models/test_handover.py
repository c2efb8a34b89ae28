"""Another network goes on with the reference of the one before it."""

from __future__ import annotations

import pytest
import torch

from gtasr_video.models import load_model
from gtasr_video.models.gtasr import TIERS, GTASRVideo
from gtasr_video.models.handover import hand_over


def after_two_frames(tier: str, scale: int = 2) -> tuple[GTASRVideo, torch.Tensor]:
    torch.manual_seed(0)
    model = GTASRVideo(TIERS[tier], (scale,)).eval()
    torch.nn.init.normal_(model.adapter.head.weight, std=0.02)
    return model, torch.rand(1, 3, 16, 24) * 2 - 1


@pytest.mark.parametrize(("before", "after"), [("m", "s"), ("s", "m"), ("l", "s"), ("s", "l")])
@torch.inference_mode()
def test_the_last_output_stays_the_reference_and_features_begin_anew(before: str, after: str) -> None:
    (old, x), (new, _) = after_two_frames(before), after_two_frames(after)
    _, state = old.step(x, old.initial(1, 16, 24))
    taken = hand_over(state, old, new)
    assert taken is not None
    assert torch.equal(new.to_picture(taken.detail), old.to_picture(state.detail))
    assert not taken.features.any()
    assert torch.equal(taken.frame, x)
    assert torch.equal(taken.age, state.age)
    y, following = new.step(x, taken)
    assert y.shape == (1, 3, 32, 48)
    assert int(following.age[0]) == 2


@torch.inference_mode()
def test_what_cannot_be_taken_over_begins_anew() -> None:
    (old, x), (other_scale, _) = after_two_frames("m"), after_two_frames("s", scale=3)
    _, state = old.step(x, old.initial(1, 16, 24))
    bicubic = load_model("bicubic", scale=2)
    assert hand_over(state, old, other_scale) is None
    assert hand_over(state, old, bicubic) is None
    assert hand_over(bicubic.initial(1, 16, 24), bicubic, old) is None
    noisy = GTASRVideo(TIERS["s"], (2,), noise_scale=0.1)
    assert hand_over(state, old, noisy) is None
