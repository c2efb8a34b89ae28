"""A frame in parts is the frame in one piece, and so is the state it leaves."""

from __future__ import annotations

import copy

import pytest
import torch

from gtasr_video.models.cascade import Cascade
from gtasr_video.models.gtasr import TIERS, Architecture, GTASRVideo
from gtasr_video.runtime.tiles import Grid, margin_of, parts, spans, tiled
from tests.models.networks import TINY, TINY_FINE, scene, tiny

STEP = 1 / 255 * 2  # of the network's range [-1, 1]


def clip(frames: int, height: int, width: int) -> torch.Tensor:
    """A moving scene that is cut to another one half way."""
    half = frames // 2
    one, other = scene(half, height, width, shift=3), scene(frames - half, height, width, seed=5, shift=-2)
    return torch.cat([one, other], dim=1)


@pytest.mark.parametrize(
    ("architecture", "scale", "steps", "noise_scale", "grid"),
    [
        (TINY, 4, 1, 0.0, Grid(1, 2)),
        (TINY, 3, 2, 0.1, Grid(2, 3)),
        (TINY_FINE, 2, 1, 0.1, Grid(2, 3)),
        (TINY_FINE, 1, 1, 0.0, Grid(3, 1)),
    ],
    ids=str,
)
@torch.inference_mode()
def test_tiles_give_the_whole_frame_and_the_whole_state(
    architecture: Architecture, scale: int, steps: int, noise_scale: float, grid: Grid
) -> None:
    model = tiny(architecture, (scale,), noise_scale)
    model.steps = steps
    cut = tiled(model, grid)
    assert cut is not None
    whole_state = tiled_state = model.initial(1, 152, 208)
    for x in clip(4, 152, 208).unbind(dim=1):
        whole, whole_state = model.step(x, whole_state, seed=3)
        parted, tiled_state = cut.step(x, tiled_state, seed=3)
        assert float((whole - parted).abs().max()) < 0.1 * STEP
        for one, other in zip(whole_state[:-1], tiled_state[:-1], strict=True):
            assert one.shape == other.shape and one.dtype == other.dtype
            assert torch.allclose(one.float(), other.float(), atol=0.1 * STEP)


def test_without_its_margin_a_tile_shows() -> None:
    """The test above can fail: what lies outside a tile does matter."""
    model = tiny()
    x, state = scene(1, 152, 208)[:, 0], model.initial(1, 152, 208)
    whole, _ = model.step(x, state)
    (left, _) = parts(Grid(1, 2), 152, 208, 0, 4)
    narrow, _ = model.step(left.seen(x), model.initial(1, *left.seen(x).shape[-2:]))
    edge = 4 * left.across.last
    assert float((whole[..., edge - 8 : edge] - narrow[..., -8:]).abs().max()) > STEP


@torch.inference_mode()
def test_bf16_tiles_stay_within_a_step_of_the_whole() -> None:
    model = tiny().to(torch.bfloat16)
    cut = tiled(model, Grid(2, 2))
    assert cut is not None
    whole_state = tiled_state = model.initial(1, 152, 208)
    for x in scene(3, 152, 208, shift=2).unbind(dim=1):
        whole, whole_state = model.step(x, whole_state)
        parted, tiled_state = cut.step(x, tiled_state)
        assert float((whole - parted).abs().mean()) < 0.1 * STEP


@torch.inference_mode()
def test_what_is_made_again_in_float32_is_float32_in_parts_too() -> None:
    """What fp16 cannot hold, the state that comes of a second look must hold."""
    model = tiny()
    cut = tiled(model, Grid(2, 2))
    assert cut is not None
    x, state = scene(1, 152, 208)[:, 0], copy.deepcopy(model).half().initial(1, 152, 208)
    assert state.features.dtype is torch.float16
    for seen in (model, cut):
        prediction, following = seen.step_in_cells(x, state)
        assert {f.dtype for f in (*prediction, following.detail, following.features)} == {torch.float32}


@torch.inference_mode()
def test_two_networks_one_after_the_other_are_cut_one_by_one() -> None:
    model = Cascade(tiny(scales=(2,)), tiny(scales=(2,), seed=1))
    cut = tiled(model, Grid(2, 2))
    assert cut is not None
    whole_state = tiled_state = model.initial(1, 120, 136)
    for x in scene(2, 120, 136, shift=1).unbind(dim=1):
        whole, whole_state = model.step(x, whole_state)
        parted, tiled_state = cut.step(x, tiled_state)
        assert float((whole - parted).abs().max()) < 0.1 * STEP


@pytest.mark.parametrize("count", [1, 2, 5])
def test_weights_of_all_parts_add_to_one(count: int) -> None:
    for numerator, denominator in ((4, 1), (1, 2), (1, 1)):
        like = torch.zeros(1)
        total = torch.zeros(120 * numerator // denominator)
        for span in spans(120, count, 20, 4):
            first = span.first * numerator // denominator
            weights = span.weights(numerator, denominator, like)
            total[first : first + len(weights)] += weights
            assert span.begin % 4 == span.end % 4 == 0
            assert span.first - span.begin >= 20 or span.begin == 0
            assert span.end - span.last >= 20 or span.end == 120
        assert torch.allclose(total, torch.ones_like(total))


def test_the_overlap_is_no_smaller_than_the_receptive_field() -> None:
    for architecture in TIERS.values():
        facts = GTASRVideo(architecture).facts
        margin = margin_of(facts)
        one, other = spans(1000, 2, margin, facts.multiple_of)
        assert one.end - other.begin >= 2 * facts.receptive_field


def test_a_frame_is_not_cut_into_slivers() -> None:
    with pytest.raises(ValueError, match="cannot be cut into 9 parts"):
        spans(64, 9, 8, 4)
