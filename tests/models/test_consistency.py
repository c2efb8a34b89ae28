from __future__ import annotations

import pytest
import torch

from gtasr_video.models.consistency import Path, compose, out_scale, skip_scale

NOISE_SCALES = (0.0, 0.1, 1.0)


def pictures(count: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, 3, 8, 8, generator=generator) * 2 - 1 for _ in range(count)]


@pytest.mark.parametrize("noise_scale", NOISE_SCALES)
def test_path_begins_at_the_truth_exactly(noise_scale: float) -> None:
    x0, yup, eps = pictures(3)
    path = Path(4, 2.5, noise_scale)
    assert torch.equal(path.point(x0, yup, eps, path.tau(torch.zeros(3))), x0)


@pytest.mark.parametrize("noise_scale", NOISE_SCALES)
def test_path_ends_free_of_the_truth_bit_for_bit(noise_scale: float) -> None:
    first, second, yup, eps = pictures(4)
    path = Path(4, 2.5, noise_scale)
    end = path.tau(torch.full((3,), 4))
    assert torch.equal(path.point(first, yup, eps, end), path.point(second, yup, eps, end))


def test_tau_follows_the_power_law() -> None:
    tau = Path(4, 2.5).tau(torch.arange(5))
    assert tau.tolist() == pytest.approx([0, 0.25**2.5, 0.5**2.5, 0.75**2.5, 1])
    assert Path(3, 1.0).tau(torch.tensor([1])).item() == pytest.approx(1 / 3)


def test_composition_keeps_the_boundary_condition_and_the_brightness() -> None:
    state, network = pictures(2)
    assert torch.equal(compose(state, network, torch.zeros(3)), state)
    tau = torch.linspace(0, 1, 11)
    # x_t and yup have the weights c_skip and c_out^2 (see compose): together always one.
    assert torch.allclose(skip_scale(tau) + out_scale(tau) ** 2, torch.ones(11), atol=1e-6)


def test_scalings_do_not_collapse_without_noise() -> None:
    assert skip_scale(torch.ones(1)).item() == pytest.approx(0.25 / 100.25)
    assert out_scale(torch.ones(1)).item() == pytest.approx(10 / 100.25**0.5)


@pytest.mark.parametrize(("steps", "power", "noise"), [(0, 1.0, 1.0), (3, 0.0, 1.0), (3, 1.0, -0.1)])
def test_impossible_paths_are_refused(steps: int, power: float, noise: float) -> None:
    with pytest.raises(ValueError, match="path needs"):
        Path(steps, power, noise)


@pytest.mark.parametrize(("steps", "wanted"), [(1, [4]), (2, [4, 2]), (3, [4, 3, 2]), (4, [4, 3, 2, 1])])
def test_inference_descends_over_points_of_the_path(steps: int, wanted: list[int]) -> None:
    path = Path(4, 2.5)
    assert path.descent(steps) == pytest.approx(path.tau(torch.tensor(wanted)).tolist())
    assert path.descent(steps)[0] == 1


@pytest.mark.parametrize("steps", [0, 5])
def test_more_steps_than_the_path_has_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"a path of 4 steps allows 1 to 4 of them at inference, not {steps}"):
        Path(4, 2.5).descent(steps)
