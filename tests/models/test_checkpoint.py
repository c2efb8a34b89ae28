from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gtasr_video.errors import ModelError
from gtasr_video.models import load_model, read_card, save_model
from gtasr_video.models.checkpoint import load_network, read_tensors, sha256, weights_path, write_tensors
from gtasr_video.models.consistency import Path as ConsistencyPath
from gtasr_video.models.rescale import with_scales
from tests.models.networks import scene, tiny


def test_weights_come_back_and_say_what_they_are(tmp_path: Path) -> None:
    model = tiny(scales=(4, 2), noise_scale=0.1)
    path = tmp_path / "w.safetensors"
    save_model(path, model, clips=123, licence="Apache-2.0", data="none")
    card = read_card(path)
    assert (card.architecture, card.scales, card.noise_scale, card.clips) == (model.architecture, (4, 2), 0.1, 123)
    clip = scene(2, shift=1)
    again = load_model(str(path), scale=2)
    model.scale = 2
    assert torch.allclose(again(clip), model(clip), atol=1e-4)  # type: ignore[operator]
    assert len(sha256(path)) == 64
    assert list(tmp_path.iterdir()) == [path]


def test_half_precision_storage_loads_as_fp32(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_model(path, tiny(), dtype=torch.bfloat16)
    assert load_network(path).dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "message"),
    [("q", "no model 'q'"), ("bicubik", "did you mean 'bicubic'"), ("missing.safetensors", "no such weights file")],
)
def test_unknown_models_are_named(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(name)


def test_a_missing_scale_is_named_with_those_there_are(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_model(path, tiny(scales=(2,)))
    with pytest.raises(ModelError, match=r"no weights for scale 4 \(it has 2\)"):
        load_model(str(path), scale=4)
    with pytest.raises(ModelError, match=r"no weights for scale 1 \(it has 2\)"):
        load_model(str(path), scale=1)


@pytest.mark.parametrize("scale", [2, 3])
def test_smaller_scales_are_derived_from_the_one_that_was_trained(scale: int, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    trained = tiny(scales=(4,))
    save_model(path, trained)
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    found = load_model(str(path), scale=scale)
    expected = with_scales(trained, (scale,))
    expected.scale = scale
    larger, _ = found.step(x, found.initial(1, 16, 16))
    wanted, _ = expected.step(x, expected.initial(1, 16, 16))
    assert larger.shape == (1, 3, 16 * scale, 16 * scale)
    assert torch.allclose(larger, wanted, atol=1e-5)


def test_foreign_and_broken_files_are_refused_in_one_line(tmp_path: Path) -> None:
    foreign, broken = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file({"x": torch.zeros(2)}, foreign)
    broken.write_bytes(b"not weights at all")
    for path, message in ((foreign, "not a weights file of gtasr-video"), (broken, "not a safetensors file")):
        with pytest.raises(ModelError, match=message) as caught:
            load_model(str(path))
        assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_their_header_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    model = tiny()
    tensors = model.state_dict()
    tensors["join_guide.weight"] = tensors["join_guide.weight"][:2]
    save_model(path, model, tensors=tensors)
    with pytest.raises(ModelError, match="do not fit"):
        load_network(path)


@pytest.mark.parametrize(
    "wrong",
    [
        *("null", '"text"', "[" * 100_000),
        *({"widths": widths} for widths in ([-1, 2], [], "ab", [1.5, 2], [200_000, 200_000])),
        *({"depths": depths} for depths in ([[1, 1]], [[-2, 1], [1, 0]], [[10**9, 1], [1, 0]])),
        *({"guide": 10**9}, {"embedding": -3}, {"cell": "2"}, {"cell": 0}),
        *({"scales": scales} for scales in ([], [0], ["4"], [4.0], [10**6])),
        *({"noise_scale": noise} for noise in ("x", None, -1, float("nan"), float("inf"))),
        *({"path_steps": 0}, {"path_steps": 2.5}, {"path_power": 0}, {"clips": "many"}, {"finished": "no"}),
    ],
)
def test_a_header_that_no_network_of_ours_has_is_refused(wrong: str | dict[str, object], tmp_path: Path) -> None:
    """Each ended in an error to report, or in as much memory as it claimed to need."""
    path = tmp_path / "w.safetensors"
    save_model(path, tiny())
    tensors, metadata = read_tensors(path)
    card = json.loads(metadata["card"])
    if isinstance(wrong, dict):
        for key, value in wrong.items():
            (card["architecture"] if key in card["architecture"] else card)[key] = value
    write_tensors(path, tensors, metadata | {"card": wrong if isinstance(wrong, str) else json.dumps(card)})
    for load in (read_card, load_network):
        with pytest.raises(ModelError, match="its header cannot be read") as caught:
            load(path)
        assert "\n" not in str(caught.value)


def test_a_header_that_claims_a_larger_network_than_there_is_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_model(path, tiny())
    tensors, metadata = read_tensors(path)
    card = json.loads(metadata["card"])
    card["architecture"] |= {"widths": [2048, 2048], "depths": [[60, 60], [60, 60]]}  # 18 G parameters
    write_tensors(path, tensors, metadata | {"card": json.dumps(card)})
    with pytest.raises(ModelError, match="do not fit its header"):
        load_network(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float, tmp_path: Path) -> None:
    """They gave black pictures, and `evaluate` measured those."""
    model = tiny()
    tensors = model.state_dict()
    tensors["join_guide.weight"] = torch.full_like(tensors["join_guide.weight"], value)
    save_model(tmp_path / "w.safetensors", model, tensors=tensors)
    with pytest.raises(ModelError, match=r"spoiled \('join_guide.weight' holds what is no number\)"):
        load_network(tmp_path / "w.safetensors")


def test_bicubic_has_no_weights_to_start_from() -> None:
    """It was "no model 'bicubic' (did you mean 'bicubic'?)"."""
    with pytest.raises(ModelError, match="bicubic has no weights; use s, m, l or the path"):
        weights_path("bicubic")


def test_the_path_it_was_trained_on_comes_back_and_says_which_steps_there_are(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    model = tiny(noise_scale=0.1)
    model.path = ConsistencyPath(3, 1.0, 0.1)
    save_model(path, model)
    assert read_card(path).path == load_network(path).path == ConsistencyPath(3, 1.0, 0.1)
    clip = scene(2, shift=1)
    model.steps = 2
    assert torch.allclose(load_model(str(path), steps=2)(clip), model(clip), atol=1e-4)  # type: ignore[operator]
    with pytest.raises(ModelError, match=r"w.safetensors: a path of 3 steps allows 1 to 3 of them at inference, not 4"):
        load_model(str(path), steps=4)
    with pytest.raises(ModelError, match="bicubic has no path to take 2 steps on"):
        load_model("bicubic", steps=2)


def test_a_scale_that_another_tier_has_is_said_with_that_tier() -> None:
    with pytest.raises(ModelError, match=r"no weights for scale 1 \(it has 2, 3, 4, 8\); --model m has them"):
        load_model("s", scale=1)
