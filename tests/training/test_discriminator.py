"""The discriminator: what it can tell apart, and how far it may be moved by what it sees."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.training import losses
from gtasr_video.training.discriminator import Discriminator


def truth(step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.rand(4, 3, 32, 32, generator=generator) * 2 - 1


def softened(picture: Tensor) -> Tensor:
    return F.avg_pool2d(picture, 3, stride=1, padding=1)


def told_apart(case: str) -> list[float]:
    """Teach a discriminator for some steps; return its error at each."""
    torch.manual_seed(0)
    judge = Discriminator()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, betas=(0.9, 0.99))
    errors = []
    for step in range(60):
        true, still = truth(step), torch.zeros(4, 3, 32, 32)
        yup = softened(softened(true))
        made, change = {
            "soft": (softened(true), still),
            "flickering": (true, softened(truth(step + 1000)[:, :1]).expand(-1, 3, -1, -1)),
            "of another input": (truth(step + 1000), still),
            "the same": (true, still),
        }[case]
        loss = losses.discriminator(judge(true, still, yup), judge(made, change, yup))
        errors.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return errors


@pytest.mark.parametrize("case", ["soft", "flickering"])
def test_it_learns_to_tell_what_is_soft_or_flickers(case: str) -> None:
    errors = told_apart(case)
    assert sum(errors[-5:]) / 5 < 1.2 < 1.9 < errors[0]


def test_it_cannot_tell_apart_what_is_the_same() -> None:
    assert told_apart("the same")[-1] == pytest.approx(2, abs=1e-5)


def test_it_says_something_of_every_patch_in_fp32() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        verdict = Discriminator()(*[truth(0)] * 3)
    assert verdict.shape == (4, 1, 4, 4)
    assert verdict.dtype == torch.float32


def test_its_layers_stretch_nothing() -> None:
    judge = Discriminator()
    for step in range(30):  # each look brings the singular values nearer to what they are
        judge(*[truth(step)] * 3)
    for layer in judge.layers:
        assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2).item() < 1.1
