"""The weights that ship: whole, within their terms, and better than bicubic on a picture from no training set."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gtasr_video.media import Reader
from gtasr_video.models import TIERS, load_model, read_card
from gtasr_video.models.checkpoint import WEIGHTS
from gtasr_video.ops.color import yuv_to_rgb
from gtasr_video.ops.edges import luma
from gtasr_video.ops.resize import bicubic, enlarge

SHIPPED = sorted(p.stem for p in WEIGHTS.glob("*.safetensors"))
SAMPLE = Path(__file__).parents[2] / "samples" / "sintel_320x136.mp4"


def test_the_smallest_tier_ships() -> None:
    assert "s" in SHIPPED
    assert sum(p.stat().st_size for p in WEIGHTS.glob("*.safetensors")) < 45_000_000


@pytest.mark.parametrize("tier", SHIPPED)
def test_shipped_weights_state_their_terms(tier: str) -> None:
    card = read_card(WEIGHTS / f"{tier}.safetensors")
    assert card.architecture == TIERS[tier]
    assert card.licence
    assert card.data
    assert card.clips > 0
    text = (WEIGHTS / f"{tier}.md").read_text(encoding="utf-8")
    assert card.licence in text


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    error = (luma(a.clamp(-1, 1)) - luma(b))[..., 4:-4, 4:-4].square().mean() / 4
    return float(-10 * torch.log10(error))


@pytest.mark.parametrize("tier", SHIPPED)
def test_shipped_weights_beat_bicubic_on_the_sample(tier: str) -> None:
    model = load_model(tier)
    state = model.initial(1, 32, 80)
    gains = []
    with Reader(SAMPLE, frames=6) as reader, torch.inference_mode():
        for frame in reader:
            truth = yuv_to_rgb(frame.planes, reader.spec.layout, reader.spec.color)[..., :128, :320] * 2 - 1
            small = bicubic(truth, (32, 80)).clamp(-1, 1)
            output, state = model.step(small, state)
            gains.append(psnr(output, truth) - psnr(enlarge(small, 4), truth))
    assert len(gains) == 6
    assert min(gains) > 0
    assert sum(gains) / len(gains) > 0.1
