"""What the objective is given: pictures in the range and colour that the network is to keep."""

from __future__ import annotations

import torch

from gtasr_video.training.batches import Clip, stack
from gtasr_video.training.objective import Pictures
from tests.training.material import texture


def test_the_truth_takes_the_mean_colour_of_its_input_and_keeps_its_detail() -> None:
    truth = texture(32, 32, seed=3).expand(2, 3, 32, 32)
    small = (
        truth[..., ::4, ::4].float().mean(dim=(2, 3), keepdim=True).expand(2, 3, 8, 8)
        + torch.tensor([5.0, 0, -9])[:, None, None]
    )
    batch = stack([Clip(truth.contiguous(), small.round().to(torch.uint8))])
    pictures = Pictures.of(batch, torch.device("cpu"))
    colour = pictures.x0.mean(dim=(1, 3, 4))
    assert torch.allclose(colour, pictures.y.mean(dim=(1, 3, 4)), atol=1e-5)
    plain = batch.hr.float() / 127.5 - 1
    shift = pictures.x0 - plain
    assert float(shift.abs().max()) > 5 / 255
    assert torch.allclose(shift, shift.mean(dim=(1, 3, 4), keepdim=True).expand_as(shift), atol=1e-5)
