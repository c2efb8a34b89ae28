from __future__ import annotations

import torch

from gtasr_video.ops.resize import bicubic, enlarge


def test_enlarging_keeps_brightness_and_scale_one_is_the_picture_itself() -> None:
    x = torch.rand(1, 3, 12, 16)
    assert enlarge(x, 1) is x
    flat = torch.full((1, 3, 6, 7), 0.3)
    assert torch.allclose(enlarge(flat, 4), torch.full((1, 3, 24, 28), 0.3), atol=1e-6)


def test_shrinking_is_antialiased() -> None:
    fine = torch.tensor([0.0, 1.0]).repeat(32).expand(1, 1, 64, 64)
    small = bicubic(fine, (16, 16))[..., 2:-2, 2:-2]
    assert (small - 0.5).abs().max().item() < 0.05


def test_shrinking_what_was_enlarged_gives_it_back() -> None:
    x = bicubic(torch.rand(1, 3, 6, 6), (24, 24))
    assert (bicubic(enlarge(x, 4), (24, 24)) - x).abs().mean().item() < 0.01
