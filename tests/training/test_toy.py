"""The scalar Gaussian toy of docs/method.md: where consistency training ends with and without Trajectory Alignment.

x0 = yup + r with r ~ N(0, v), and a linear network: f(x_t, t) = yup + b_t (x_t - yup), b_0 = 1 by the preconditioning.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gtasr_video.models.consistency import Path, compose
from gtasr_video.training import losses

VARIANCE = 0.3**2
WEIGHT = 0.5  # w_TA of the paper
PATHS = (Path(4, 2.5, 1.0), Path(3, 1.0, 0.5), Path(4, 2.5, 0.2))


def alignment_weight(path: Path) -> float:
    """lambda = w_TA sum_s (1 - a_s)^2: what TA's sum over the path amounts to under squared error."""
    return WEIGHT * losses.path_weights(path, torch.device("cpu")).square().sum().item()


def fixed_point(path: Path, weight: float) -> list[float]:
    """Return b_0..b_N of docs/method.md; `weight` is lambda, 0 for CT alone."""
    a = path.tau(torch.arange(path.steps + 1)).tolist()
    b = [1.0]
    for t in range(1, path.steps + 1):
        power = (1 - a[t]) ** 2 * VARIANCE + path.noise_scale**2 * a[t] ** 2
        joint = (1 - a[t]) * (1 - a[t - 1]) * VARIANCE + path.noise_scale**2 * a[t] * a[t - 1]
        b.append((b[-1] * joint + weight * (1 - a[t]) * VARIANCE) / ((1 + weight) * power))
    return b


def states(path: Path, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw r (count,) and the states x_t - yup of all steps, (N + 1, count)."""
    r, eps = torch.randn(2, count, generator=generator)
    r, eps = (x.expand(path.steps + 1, -1) for x in (r * math.sqrt(VARIANCE), eps))
    return r[0], path.point(r, torch.zeros_like(r), eps, path.tau(torch.arange(path.steps + 1)))


def predict(path: Path, gains: Tensor, state: Tensor) -> Tensor:
    """The network: c_skip state + c_out (gain state), with one gain a step; (N + 1, count)."""
    tau = path.tau(torch.arange(path.steps + 1))
    return compose(state, gains[:, None] * state, tau)


def train(path: Path, weight: float, seed: int = 0) -> Tensor:
    """Minimise L_CT + L_TA under squared error, the live network without gradient as target; return b_0..b_N."""
    generator = torch.Generator().manual_seed(seed)
    gains = torch.zeros(path.steps + 1, requires_grad=True)
    optimizer = torch.optim.Adam([gains], lr=0.05)
    total = 500
    for step in range(total):
        optimizer.param_groups[0]["lr"] = 0.05 * 0.5 * (1 + math.cos(math.pi * step / total)) + 1e-5
        r, state = states(path, 1024, generator)
        prediction = predict(path, gains, state)
        consistency = (prediction[1:] - prediction[:-1].detach()).square().mean(dim=1)
        alignment = (prediction[1:] - r).square().mean(dim=1)
        # Each step's own problem, brought to one size so that the flat ones do not take ten times as long.
        loss = ((consistency + weight * alignment) / state[1:].square().mean(dim=1)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return predict(path, gains, torch.ones(path.steps + 1, 1))[:, 0]


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_training_reaches_both_fixed_points_and_alignment_lowers_the_error(path: Path) -> None:
    errors = []
    for weight in (0.0, alignment_weight(path)):
        reached, wanted = train(path, weight), torch.tensor(fixed_point(path, weight))
        assert reached[0].item() == 1
        assert torch.allclose(reached, wanted, rtol=0.03, atol=0.01)
        r, state = states(path, 200_000, torch.Generator().manual_seed(9))
        error = (reached[-1] * state[-1] - r).square().mean().item()
        assert error == pytest.approx(VARIANCE + (path.noise_scale * wanted[-1].item()) ** 2, rel=0.03)
        errors.append(error)
    assert errors[1] < errors[0]
    assert errors[1] - VARIANCE < 0.5 * (errors[0] - VARIANCE), "nearly all that CT adds to the least error goes"


@pytest.mark.parametrize("noise_scale", [0.05, 0.2, 1.0, 3.0])
@pytest.mark.parametrize(("steps", "power"), [(2, 1.0), (3, 1.0), (4, 2.5), (64, 2.5)])
def test_alignment_never_raises_a_gain(noise_scale: float, steps: int, power: float) -> None:
    """The inequality m_t <= b_t(CT + TA) <= b_t(CT) of docs/method.md, on many paths."""
    path = Path(steps, power, noise_scale)
    plain = fixed_point(path, 0.0)
    a = path.tau(torch.arange(steps + 1)).tolist()
    regression = [(1 - x) * VARIANCE / ((1 - x) ** 2 * VARIANCE + (noise_scale * x) ** 2) for x in a]
    for weight in (0.1, 0.5, 10.0, 1e6):
        aligned = fixed_point(path, weight)
        for low, middle, high in zip(regression, aligned, plain, strict=True):
            assert low - 1e-9 <= middle <= high + 1e-9
        assert aligned[-1] < plain[-1]
    # With much weight the end of the path is plain regression: the mean, without diversity.
    assert aligned[-1] * noise_scale < 1e-5


def test_many_small_steps_of_consistency_training_give_the_right_diversity() -> None:
    """The limit of CT is a sampler: its output varies as the truth does. TA buys fidelity with that."""
    path = Path(4000, 2.5, 1.0)
    spread = fixed_point(path, 0.0)[-1] * path.noise_scale
    assert spread == pytest.approx(math.sqrt(VARIANCE), rel=0.01)
    assert fixed_point(path, 0.5)[-1] * path.noise_scale < 0.7 * spread
