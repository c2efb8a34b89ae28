from __future__ import annotations

import pytest
import torch

from gtasr_video.errors import ModelError
from gtasr_video.models.bicubic import Bicubic
from gtasr_video.models.facts import VideoModel
from gtasr_video.ops.resize import enlarge


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_it_is_the_kernel_of_the_project_behind_the_interface_of_the_networks(scale: int) -> None:
    model = Bicubic(scale)
    assert isinstance(model, VideoModel)
    x = torch.rand(2, 3, 6, 8) * 2 - 1
    y, state = model.step(x, model.initial(2, 6, 8))
    assert y.shape == (2, 3, 6 * scale, 8 * scale)
    assert torch.equal(y, enlarge(x, scale))
    assert state.age.tolist() == [1, 1]


def test_a_scale_that_cannot_be_is_refused() -> None:
    with pytest.raises(ModelError, match="bicubic enlarges by 1 to 8, not 0"):
        Bicubic(0)


@pytest.mark.parametrize("scale", [1, 2])
def test_the_output_may_be_overwritten(scale: int) -> None:
    model = Bicubic(scale)
    x = torch.rand(1, 3, 6, 8)
    kept = x.clone()
    y, _ = model.step(x, model.initial(1, 6, 8))
    y.zero_()
    assert torch.equal(x, kept)
