"""Two networks behind the interface of one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gtasr_video.errors import ModelError
from gtasr_video.models import VideoModel, load_model, save_model
from gtasr_video.models.bicubic import Bicubic
from gtasr_video.models.cascade import Cascade
from tests.models.networks import TINY_FINE, scene, tiny


def eight(noise_scale: float = 0.0) -> Cascade:
    return Cascade(tiny(scales=(4,), noise_scale=noise_scale), tiny(scales=(2,), noise_scale=noise_scale, seed=1))


def test_it_is_one_network_after_the_other() -> None:
    model = eight()
    assert isinstance(model, VideoModel)
    assert model.facts.scale == 8
    clip = scene(3, shift=2)
    state = model.initial(1, 24, 32)
    between = model.first(clip).clamp(-1, 1)  # type: ignore[operator]
    expected = model.second(between)  # type: ignore[operator]
    for k, x in enumerate(clip.unbind(1)):
        y, state = model.step(x, state)
        assert y.shape == (1, 3, 192, 256)
        assert torch.equal(y, expected[:, k])
    assert state.age.tolist() == [3]


def test_sizes_suit_both_and_the_receptive_fields_add() -> None:
    fine = tiny(TINY_FINE, scales=(3,))
    assert Cascade(fine, tiny(scales=(2,))).facts.multiple_of == 4
    assert Cascade(tiny(scales=(4,)), fine).facts.multiple_of == 4
    assert Cascade(Bicubic(3), Bicubic(2)).facts.receptive_field == 3
    assert Cascade(Bicubic(2), tiny(scales=(4,))).facts.dtypes == (torch.float32,)
    reach = eight().facts.receptive_field
    first, second = eight().first.facts.receptive_field, eight().second.facts.receptive_field
    assert reach == first + -(-second // 4)


@pytest.mark.parametrize("noise_scale", [0.0, 0.5])
def test_a_new_scene_starts_like_a_fresh_stream(noise_scale: float) -> None:
    model = eight(noise_scale)
    state = model.initial(1, 24, 32)
    for x in scene(3, seed=1, shift=1).unbind(1):
        _, state = model.step(x, state)
    fresh = model.initial(1, 24, 32)
    for x in (-scene(2, seed=9).sign() * 0.9).unbind(1):
        y, state = model.step(x, state)
        expected, fresh = model.step(x, fresh)
        assert torch.equal(y, expected)
        assert torch.equal(state.age, fresh.age)


def test_the_second_forgets_when_the_first_sees_a_cut_and_it_does_not() -> None:
    """The second network alone would go on: to it both scenes look the same."""

    class Flat(Bicubic):
        def step(self, x, state, *, seed=0):  # type: ignore[no-untyped-def]
            y, state = super().step(x, state)
            cut = x.mean() > 0.5
            return y * 0, state._replace(age=torch.ones_like(state.age) if cut else state.age)

    model = Cascade(Flat(2), tiny(scales=(2,)))
    state = model.initial(1, 24, 32)
    for level in (0.0, 0.0, 0.9, 0.0):
        _, state = model.step(torch.full((1, 3, 24, 32), level), state)
        ages = [inner.age.item() for inner in state.inner]
        assert ages[0] == ages[1]
    assert ages == [2, 2]


def test_scale_eight_is_made_of_four_and_two_where_the_weights_have_both(tmp_path: Path) -> None:
    both, four, own = (tmp_path / f"{name}.safetensors" for name in ("both", "four", "own"))
    save_model(both, tiny(scales=(4, 2)))
    save_model(four, tiny(scales=(4,)))
    save_model(own, tiny(scales=(8,)))
    model = load_model(str(both), scale=8, steps=2)
    assert isinstance(model, Cascade)
    assert model.facts.scale == 8
    assert model.first.steps == model.second.steps == 2  # type: ignore[attr-defined]
    y, _ = model.step(torch.zeros(1, 3, 8, 8), model.initial(1, 8, 8))
    assert y.shape == (1, 3, 64, 64)
    assert not isinstance(load_model(str(own), scale=8), Cascade)
    assert load_model(str(four), scale=8).facts.scale == 8
    for path in (both, four):
        with pytest.raises(ModelError, match=rf"{path.name}: no weights for scale 5 \(it has 2, 3, 4, 8\)"):
            load_model(str(path), scale=5)
