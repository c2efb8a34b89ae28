from __future__ import annotations

import copy

import pytest
import torch

from gtasr_video.models import BUDGETS, TIERS, VideoModel, gtasr, tier_facts
from gtasr_video.models.facts import State
from gtasr_video.models.gtasr import Architecture, GTASRVideo
from gtasr_video.models.temporal import FADING, find_reference, missed
from gtasr_video.ops.edges import luma
from gtasr_video.ops.resize import bicubic, enlarge
from tests.models.networks import TINY, TINY_FINE, scene, tiny

SHAPES = (TINY, TINY_FINE)


@pytest.mark.parametrize("tier", sorted(TIERS))
def test_tiers_stay_within_their_budgets(tier: str) -> None:
    facts = tier_facts(tier)
    assert facts.parameters <= BUDGETS[tier].parameters
    assert all(macs <= BUDGETS[tier].macs for macs in facts.macs.values())
    assert facts.macs[4] > 0.5 * BUDGETS[tier].macs, "a tier this far under its budget leaves quality behind"


@pytest.mark.parametrize("architecture", SHAPES)
@pytest.mark.parametrize("scale", [4, 3, 2, 1])
def test_a_step_enlarges_by_the_scale(architecture: Architecture, scale: int) -> None:
    model = tiny(architecture, (scale,))
    assert isinstance(model, VideoModel)
    x = scene(1)[:, 0]
    y, state = model.step(x, model.initial(1, 24, 32))
    assert y.shape == (1, 3, 24 * scale, 32 * scale)
    assert y.dtype == torch.float32
    assert state.age.tolist() == [1]
    assert model.facts.scale == scale


def test_scales_share_the_trunk_and_nothing_of_the_adapters() -> None:
    model = tiny(scales=(4, 2))
    x = scene(1)[:, 0]
    before, _ = model.step(x, model.initial(1, 24, 32))
    model.scale = 2
    small, _ = model.step(x, model.initial(1, 24, 32))
    assert small.shape[-1] == 64
    model.adapters["x2"].head.weight.zero_()
    model.scale = 4
    assert torch.equal(model.step(x, model.initial(1, 24, 32))[0], before)
    model.trunk.down[0][0].second.weight.zero_()
    assert not torch.equal(model.step(x, model.initial(1, 24, 32))[0], before)


@pytest.mark.parametrize("noise_scale", [0.0, 0.1, 1.0])
def test_at_the_truth_the_function_is_the_identity(noise_scale: float) -> None:
    model = tiny(noise_scale=noise_scale)
    context = model.observe(scene(1)[:, 0], model.initial(1, 24, 32))
    state = torch.randn(1, 3 * 64, 12, 16)
    residual = model.predict(context, state, torch.zeros(1)).residual
    assert torch.allclose(residual, state, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("noise_scale", [0.0, 0.3])
def test_folding_changes_nothing_but_the_cost(noise_scale: float, steps: int) -> None:
    model = tiny(noise_scale=noise_scale)
    model.steps = steps
    folded = copy.deepcopy(model).fold()
    assert not any("modulation" in name for name, _ in folded.trunk.named_parameters())
    clip = scene(3, shift=2)
    assert torch.allclose(model(clip), folded(clip), atol=1e-4)


def test_a_newborn_network_is_bicubic() -> None:
    from gtasr_video.ops.resize import enlarge

    x = scene(1)[:, 0]
    model = GTASRVideo(TINY).eval()
    with torch.no_grad():
        y, _ = model.step(x, model.initial(1, 24, 32))
    assert torch.allclose(y, enlarge(x, 4), atol=1e-6)


@pytest.mark.parametrize("noise_scale", [0.0, 0.3])
def test_two_steps_are_the_function_read_twice_along_the_path(noise_scale: float) -> None:
    """xhat = f(x_N, N), then f(q(xhat, t'), t') with the path's own q, and noise of its own at each."""
    from gtasr_video.models.temporal import fresh_noise

    model = tiny(noise_scale=noise_scale)
    x = scene(1)[:, 0]
    context = model.observe(x, model.initial(1, 24, 32))
    eps = [
        torch.nn.functional.pixel_shuffle(fresh_noise(seed, torch.zeros(1, dtype=torch.int64), 48, 24, 32), 4)
        for seed in (7, 7 + 2**32)
    ]
    xhat = context.yup
    for t, noise in zip((4, 2), eps, strict=True):
        tau = model.path.tau(torch.tensor([t]))
        point = model.path.point(xhat, context.yup, noise, tau)
        residual = model.predict(context, model.to_cells(point - context.yup), tau).residual
        xhat = context.yup + model.to_picture(residual)
    once, _ = model.step(x, model.initial(1, 24, 32), seed=7)
    model.steps = 2
    twice, state = model.step(x, model.initial(1, 24, 32), seed=7)
    assert torch.allclose(twice, xhat, atol=1e-5)
    assert not torch.allclose(twice, once, atol=1e-3)
    assert state.noise.shape[1] == (96 if noise_scale else 0)


@pytest.mark.parametrize("architecture", SHAPES)
def test_noise_that_moves_by_a_pixel_moves_in_the_picture(architecture: Architecture) -> None:
    """Also by less than a cell: the network must meet it where the scene has gone."""
    model = tiny(architecture, noise_scale=1.0)
    noise = torch.randn(1, 48, 24, 32)
    for shift in (1, 2, 3):
        moved = model.to_picture(model.noise_cells(noise.roll((shift, -1), dims=(2, 3))))
        assert torch.equal(moved, model.to_picture(model.noise_cells(noise)).roll((4 * shift, -4), dims=(2, 3)))


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("noise_scale", [0.0, 0.5])
def test_streaming_equals_batch_bit_for_bit(noise_scale: float, steps: int) -> None:
    model = tiny(noise_scale=noise_scale)
    model.steps = steps
    clip = scene(6, shift=3)
    whole = model(clip, seed=5)
    state = model.initial(1, 24, 32)
    for k, x in enumerate(clip.unbind(1)):
        y, state = model.step(x, state, seed=5)
        assert torch.equal(y, whole[:, k])
    # In chunks of 1, 2 and 3 frames, each going on from the state the one before left.
    state, k = model.initial(1, 24, 32), 0
    for length in (1, 2, 3):
        chunk = clip[:, k : k + length]
        assert torch.equal(model(chunk, state, seed=5), whole[:, k : k + length])
        for x in chunk.unbind(1):
            _, state = model.step(x, state, seed=5)
        k += length
    assert k == clip.shape[1]


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("noise_scale", [0.0, 0.5])
def test_a_new_scene_starts_like_a_fresh_stream(noise_scale: float, steps: int) -> None:
    model = tiny(noise_scale=noise_scale)
    model.steps = steps
    state = model.initial(1, 24, 32)
    for x in scene(4, seed=1, shift=1).unbind(1):
        _, state = model.step(x, state)
    after = -scene(2, seed=9).sign() * 0.9
    fresh = model.initial(1, 24, 32)
    for x in after.unbind(1):
        y, state = model.step(x, state)
        expected, fresh = model.step(x, fresh)
        assert torch.equal(y, expected)
        assert torch.equal(state.age, fresh.age)


@torch.inference_mode()
@pytest.mark.parametrize("folded", [False, True])
def test_what_is_remembered_is_the_luma_of_what_bicubic_lacks(folded: bool) -> None:
    model = tiny()
    model = model.fold() if folded else model
    x = scene(1)[:, 0]
    y, state = model.step(x, model.initial(1, 24, 32))
    assert torch.allclose(model.to_picture(state.detail), luma(y - enlarge(x, 4)), atol=1e-5)
    assert state.detail.abs().max() > 1e-3


@torch.inference_mode()
@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("scale", [4, 3])
def test_what_memory_has_missed_of_the_frame_is_added_to_it_enlarged(folded: bool, scale: int) -> None:
    model = tiny(scales=(scale,))
    model = model.fold() if folded else model
    picture = scene(1, 32, 48, seed=4)[:, 0]
    y, state = model.step(picture, model.initial(1, 32, 48))
    # The same place, but for noise.
    now = picture + 0.1 * torch.randn(1, 1, 32, 48, generator=torch.Generator().manual_seed(0))
    detail = model.observe(now, state, find_reference(luma(picture), luma(picture), state.age, 2)).detail
    assert detail is not None
    put_right = missed(luma(now), bicubic(luma(y), (32, 48)))
    expected = luma(y) + enlarge(put_right, scale) - enlarge(luma(now), scale)
    assert put_right.abs().mean() > 0.01
    inner = (..., slice(4 * scale, -4 * scale), slice(4 * scale, -4 * scale))
    assert torch.allclose(model.to_picture(detail)[inner], expected[inner], atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("scale", [4, 1])
def test_motion_is_looked_for_in_the_last_picture_where_something_is_enlarged(folded: bool, scale: int) -> None:
    """It has drifted half an LR pixel off the frames, which move by one."""
    model = tiny(scales=(scale,))
    model = model.fold() if folded else model
    wide = enlarge(scene(1, 64, 100, seed=4)[:, 0], 4)
    before, now = (bicubic(wide[..., x : x + 384], (64, 96)) for x in (8, 12))
    drifted = bicubic(wide[..., 6 : 6 + 384], (64 * scale, 96 * scale))
    state = model.initial(1, 64, 96)._replace(frame=before, age=torch.tensor([3]))
    detail = model.to_cells(luma(drifted) - luma(enlarge(before, scale)))
    flow = model.find_reference(now, state._replace(detail=detail)).motion.flow[..., 8:-8, 8:-8]
    assert (flow[:, 0] - (1.5 if scale > 1 else 1)).abs().median() < 0.1
    assert flow[:, 1].abs().median() < 0.1


@torch.inference_mode()
def test_where_nothing_is_enlarged_memory_does_not_become_the_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(scales=(1,))
    frame = scene(1)[:, 0]
    _, state = model.step(frame, model.initial(1, 24, 32))
    now = frame + 0.1 * torch.randn(1, 1, 24, 32, generator=torch.Generator().manual_seed(0))
    recalled = model.observe(now, state).detail
    monkeypatch.setattr(gtasr, "missed", lambda y, _: y)
    again = model.observe(now, state).detail
    assert recalled is not None and again is not None
    assert torch.equal(recalled, again)


@torch.inference_mode()
@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("scale", [4, 3])
def test_what_is_recalled_is_the_last_picture_where_it_has_gone(
    folded: bool, scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less what bicubic makes of this frame, so that it is the residual that memory alone would give."""
    monkeypatch.setattr(gtasr, "missed", lambda y, *_: torch.zeros_like(y))  # a test of its own
    model = tiny(scales=(scale,))
    model = model.fold() if folded else model
    picture = scene(1, 32, 48, seed=4)[:, 0]
    y, state = model.step(picture, model.initial(1, 32, 48))
    detail = model.observe(picture, state, find_reference(luma(picture), luma(picture), state.age, 2)).detail
    assert detail is not None
    assert torch.allclose(model.to_picture(detail), luma(y - enlarge(picture, scale)), atol=1e-4)
    shift = 4
    moved = picture.roll(shift, dims=-1)
    detail = model.observe(moved, state).detail
    assert detail is not None
    expected = luma(y.roll(shift * scale, dims=-1) - enlarge(moved, scale))
    inner = (..., slice(8 * scale, -8 * scale), slice(16 * scale, -16 * scale))
    gap = (model.to_picture(detail) - expected)[inner].abs().mean()
    # White noise at full size, as this network makes: a twentieth of an LR pixel of motion is a fifth of it.
    assert gap < 0.4 * luma(y - enlarge(picture, scale))[inner].abs().mean()


def holding_all() -> GTASRVideo:
    """A network that holds of memory all that is trusted."""
    model = tiny()
    hold = model.adapter.hold
    assert hold.bias is not None
    with torch.no_grad():
        hold.weight.zero_()
        hold.bias.fill_(50.0)
    return model


@torch.inference_mode()
@pytest.mark.parametrize("folded", [False, True])
def test_memory_is_held_as_far_as_it_is_trusted_and_in_grey(folded: bool) -> None:
    model = holding_all().fold() if folded else holding_all()
    first = scene(1, seed=1)[:, 0]
    _, state = model.step(first, model.initial(1, 24, 32))
    now = (first + 0.02 * torch.randn(first.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    context = model.observe(now, state)
    confidence = context.reference.confidence
    assert 0.2 < confidence.mean() < 1
    told = model.descend(context, torch.zeros(1, 0, 24, 32))
    assert told.held is not None and context.detail is not None
    # As far as the confidence goes, less what fades, the luma is what was there; for the rest it is what the head says.
    alone = model.descend(context._replace(detail=None), torch.zeros(1, 0, 24, 32))
    expected = alone.luma + FADING * confidence * (context.detail - alone.luma)
    assert torch.allclose(told.luma, expected, atol=2e-3)
    assert torch.allclose(told.luma, alone.luma + told.held, atol=1e-5)
    red, green, blue = (told.residual - alone.residual).chunk(3, dim=1)
    assert torch.allclose(red, told.held, atol=1e-5)
    assert torch.allclose(red, green, atol=1e-6) and torch.allclose(red, blue, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("tau", [0.0, 0.05, 0.2, 0.6])
def test_what_the_path_already_holds_is_not_added_again_from_memory(tau: float) -> None:
    model = holding_all()
    for layer in (model.adapter.head, model.gates):  # and this frame itself says nothing
        for parameter in layer.parameters():
            parameter.zero_()
    first = scene(1, seed=1)[:, 0]
    _, state = model.step(first, model.initial(1, 24, 32))
    context = model.observe(first, state._replace(detail=torch.full_like(state.detail, 0.1)))
    assert context.detail is not None
    there = torch.cat([(1 - tau) * context.detail] * 3, dim=1)  # q(x0, t) - yup, where x0 is what memory says
    told = model.predict(context, there, torch.tensor([tau])).luma
    # Between what the path holds and what memory says, and no further.
    held = told / context.detail
    assert held.min() > -1e-3
    assert held.max() < 1 + 1e-3
    if tau == 0:
        assert torch.allclose(told, context.detail, atol=1e-6)


@torch.inference_mode()
def test_sums_of_the_residual_are_read_without_looking_at_it() -> None:
    model = tiny().fold()
    state = model.initial(1, 24, 32)
    for x in scene(2, shift=1).unbind(1):
        prediction, state = model.step_in_cells(x, state)
    assert prediction.held is not None and prediction.held.abs().max() > 1e-3
    matrix = torch.randn(5, 3 * 64, generator=torch.Generator().manual_seed(1))
    expected = torch.einsum("kc,bchw->bkhw", matrix, prediction.residual)
    unseen = prediction._replace(residual=torch.full_like(prediction.residual, float("nan")))
    assert torch.allclose(model.read_residual(unseen, matrix), expected, atol=1e-3)


@torch.inference_mode()
def test_nothing_before_is_the_same_as_a_state_that_says_so() -> None:
    model = tiny()
    x = scene(1)[:, 0]
    told, found = model.observe(x, None), model.observe(x, model.initial(1, 24, 32))
    assert torch.allclose(told.features, found.features, atol=1e-6)
    assert torch.equal(told.yup, found.yup)
    for name in ("confidence", "valid"):
        assert torch.equal(getattr(told.reference, name), getattr(found.reference, name))


def test_the_temporal_reference_has_influence_within_a_scene() -> None:
    model = tiny()
    clip = scene(2, shift=2)
    with_memory = model(clip)[:, 1]
    without, _ = model.step(clip[:, 1], model.initial(1, 24, 32))
    assert (with_memory - without).abs().max() > 1e-4


@pytest.mark.parametrize("noise_scale", [0.0, 0.5])
def test_a_static_scene_is_constant_when_the_state_is_reset(noise_scale: float) -> None:
    model = tiny(noise_scale=noise_scale)
    x = scene(1)[:, 0]
    first, _ = model.step(x, model.initial(1, 24, 32), seed=3)
    again, _ = model.step(x, model.initial(1, 24, 32), seed=3)
    assert torch.equal(first, again)


@pytest.mark.parametrize("noise_scale", [0.0, 1.0])
@pytest.mark.parametrize("architecture", SHAPES)
def test_the_output_moves_with_the_input(
    architecture: Architecture, noise_scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fresh state, and the noise moved as the picture is: away from the borders the output moves as far."""
    from gtasr_video.models import gtasr

    model = tiny(architecture, noise_scale=noise_scale)
    move = architecture.multiple_of
    border = 4 * (architecture.receptive_field + 4)
    size = 2 * (architecture.receptive_field + 4) + 6 * move
    size += -size % move
    wide = scene(1, size, size + move, seed=4)[:, 0]
    noise = torch.randn(1, 48, size, size + move)
    places = [slice(0, size), slice(move, size + move)]

    def enlarged(x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        monkeypatch.setattr(gtasr, "fresh_noise", lambda *_: noise)
        return model.step(x.contiguous(), model.initial(1, size, size))[0]

    left, right = (enlarged(wide[..., p], noise[..., p]) for p in places)
    a = left[..., border:-border, border + 4 * move : -border]
    b = right[..., border:-border, border : -border - 4 * move]
    assert a.numel() > 0
    assert torch.allclose(a, b, atol=1e-5)
    # With noise that stays where it is on the screen it would not.
    stuck = enlarged(wide[..., move:], noise[..., :-move])[..., border:-border, border : -border - 4 * move]
    assert torch.allclose(a, stuck, atol=1e-5) is (noise_scale == 0)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("architecture", SHAPES)
def test_one_output_pixel_sees_no_further_than_the_receptive_field(architecture: Architecture, steps: int) -> None:
    model = tiny(architecture)
    model.steps = steps
    reach = model.facts.receptive_field
    size = 2 * reach + 8 * architecture.multiple_of
    size += -size % architecture.multiple_of
    x = scene(1, size, size, seed=2)[:, 0].requires_grad_(True)
    y, _ = model.step(x, model.initial(1, size, size))
    middle = size // 2
    y[..., 4 * middle, 4 * middle].sum().backward()
    assert x.grad is not None
    rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert middle - int(rows.min()) <= reach
    assert int(rows.max()) - middle <= reach
    assert int(rows.max()) - int(rows.min()) > reach, "the stated field is far larger than the real one"


def test_different_seeds_give_different_noise_and_the_same_seed_the_same() -> None:
    model = tiny(noise_scale=0.5)
    clip = scene(3, shift=1)
    assert torch.equal(model(clip, seed=1), model(clip, seed=1))
    assert not torch.equal(model(clip, seed=1), model(clip, seed=2))


def test_streams_in_a_batch_do_not_touch_each_other() -> None:
    model = tiny(noise_scale=0.2)
    a, b = scene(3, seed=1, shift=2), scene(3, seed=2, shift=-1)
    together = model(torch.cat([a, b]))
    assert torch.allclose(together[:1], model(a), atol=1e-5)
    assert torch.allclose(together[1:], model(b), atol=1e-5)


def test_half_precision_stays_close() -> None:
    model = tiny()
    clip = scene(3, shift=1)
    exact = model(clip)
    rough = model.to(torch.bfloat16)(clip)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.02 * exact.abs().mean()


def test_state_is_tensors_only() -> None:
    state = tiny(noise_scale=0.1).initial(2, 24, 32)
    assert isinstance(state, State)
    assert all(isinstance(t, torch.Tensor) for t in state[:-1])
    assert state.inner == ()
    assert state.noise.shape == (2, 48, 24, 32)


@pytest.mark.parametrize("scale", [4, 1])
def test_the_output_may_be_overwritten(scale: int) -> None:
    model = tiny(scales=(scale,), noise_scale=0.2)
    clip = scene(3, shift=1)
    wanted = model(clip)
    state = model.initial(1, 24, 32)
    for k, x in enumerate(clip.unbind(1)):
        y, state = model.step(x, state)
        assert torch.equal(y, wanted[:, k])
        y.fill_(float("nan"))
