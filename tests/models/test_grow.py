"""A larger network grown from a smaller one: the same pictures at first, and all of it learns."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
import torch

from gtasr_video.models.grow import can_grow, grow
from gtasr_video.models.gtasr import TIERS, Architecture
from tests.models.networks import TINY_FINE, scene, tiny

LARGE = Architecture("large", 2, (12, 20), ((2, 3), (3, 0)), guide=6, embedding=12)


@torch.inference_mode()
@pytest.mark.parametrize("noise_scale", [0.0, 0.3])
@pytest.mark.parametrize("steps", [1, 2])
def test_it_makes_the_same_pictures(noise_scale: float, steps: int) -> None:
    small = tiny(scales=(4, 2), noise_scale=noise_scale)
    large = grow(small, LARGE).eval()
    clip = scene(3, shift=1)
    for scale in (4, 2):
        for model in (small, large):
            model.scale, model.steps = scale, steps
        wanted, found = small(clip, seed=3), large(clip, seed=3)
        assert float(wanted.std()) > 0.1
        assert torch.allclose(found, wanted, atol=1e-5)


def test_everything_new_learns() -> None:
    large = grow(tiny(), LARGE).train().requires_grad_(True)
    optimiser = torch.optim.SGD(large.parameters(), lr=1e-2)
    before = {name: value.clone() for name, value in large.state_dict().items()}
    clip = scene(3, shift=1)
    for _ in range(3):  # what is silenced by a zero hears of its error once that has moved
        optimiser.zero_grad()
        large(clip).square().mean().backward()
        optimiser.step()
    still = [
        name
        for name, value in large.state_dict().items()
        if bool((value == before[name]).all()) and "maps" not in name and "state.weight" not in name
    ]
    assert still == [], "the maps are asked for in training alone, the state only on the path before its end"


def test_each_tier_has_a_place_in_the_next() -> None:
    tiers = list(TIERS.values())
    for small, large in pairwise(tiers):
        assert can_grow(small, small)
        assert can_grow(small, large)
        assert not can_grow(large, small)


def test_what_has_no_place_is_refused() -> None:
    assert not can_grow(dataclasses.replace(LARGE, guide=8), LARGE)
    with pytest.raises(ValueError, match="tier 'tiny-fine' has no place for all of tier 'tiny'"):
        grow(tiny(), TINY_FINE)
