"""Adapters derived from another scale's: exactly the source's output, seen at the target's size."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gtasr_video.models import gtasr
from gtasr_video.models.gtasr import Architecture, GTASRVideo
from gtasr_video.models.rescale import with_scales
from gtasr_video.ops.resize import enlarge

TINY = Architecture("tiny", 2, (8, 8), ((1, 1), (1, 0)), guide=4, embedding=8)


def lively() -> GTASRVideo:
    """Return a network whose every weight counts."""
    torch.manual_seed(0)
    model = GTASRVideo(TINY, (4,))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


@torch.inference_mode()
@pytest.mark.parametrize("scale", [2, 3])
def test_the_first_frame_is_the_source_s_averaged_over_areas(scale: int) -> None:
    model = with_scales(lively(), (4, scale))
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    residuals = {}
    for wanted in (4, scale):
        model.scale = wanted
        y, _ = model.step(x, model.initial(1, 16, 16))
        residuals[wanted] = y - enlarge(x, wanted)
    by_area = F.interpolate(residuals[4], scale_factor=scale, mode="nearest")
    by_area = F.avg_pool2d(by_area, 4)
    assert float(residuals[4].abs().max()) > 0.1
    assert torch.allclose(residuals[scale], by_area, atol=1e-5)


@torch.inference_mode()
def test_what_is_read_from_a_smaller_picture_is_what_the_source_reads_from_it_enlarged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What memory misses of the frame, bicubic says; areas are the adapters' own.
    monkeypatch.setattr(gtasr, "missed", lambda y, *_: torch.zeros_like(y))
    model = with_scales(lively(), (4, 2))
    context_of = {}
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    small = torch.rand(1, 1, 32, 32) - 0.5
    for scale, picture in ((2, small), (4, F.interpolate(small, scale_factor=2, mode="nearest"))):
        model.scale = scale
        state = model.initial(1, 16, 16)._replace(detail=model.to_cells(picture), frame=x, age=torch.ones(1).long())
        context_of[scale] = model.observe(x, state).features
    assert torch.allclose(context_of[2], context_of[4], atol=1e-5)
    model.scale = 4
    forgotten = model.observe(x, model.initial(1, 16, 16)).features
    assert not torch.allclose(context_of[4], forgotten, atol=1e-2)


def test_scales_that_are_there_stay_as_they_are() -> None:
    model = lively()
    larger = with_scales(model, (4, 3, 2))
    assert larger.scales == (4, 3, 2)
    for name, value in model.state_dict().items():
        assert torch.equal(larger.state_dict()[name], value)


@torch.inference_mode()
def test_scale_1_begins_by_returning_its_input() -> None:
    model = with_scales(lively(), (4, 1))
    model.scale = 1
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    y, _ = model.step(x, model.initial(1, 16, 16))
    assert torch.equal(y, x)
