"""The weights that ship: whole, within their terms, and better than bicubic on a picture from no training set."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gtasr_video.media import Reader
from gtasr_video.models import TIERS, load_model, read_card
from gtasr_video.models.checkpoint import WEIGHTS
from gtasr_video.ops.color import yuv_to_rgb
from gtasr_video.ops.degrade import Blur, Noise, add_noise, blur
from gtasr_video.ops.edges import luma, sobel
from gtasr_video.ops.resize import bicubic, enlarge

SHIPPED = sorted(p.stem for p in WEIGHTS.glob("*.safetensors"))
RESTORING = [tier for tier in SHIPPED if 1 in read_card(WEIGHTS / f"{tier}.safetensors").scales]
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


@pytest.fixture(scope="module")
def truth() -> list[torch.Tensor]:
    """Six frames of the sample, (1, 3, 128, 320) in [-1, 1]."""
    with Reader(SAMPLE, frames=6) as reader:
        rgb = [yuv_to_rgb(frame.planes, reader.spec.layout, reader.spec.color) for frame in reader]
    return [x[..., :128, :320] * 2 - 1 for x in rgb]


@pytest.mark.parametrize("tier", SHIPPED)
def test_a_static_scene_comes_to_rest(tier: str, truth: list[torch.Tensor]) -> None:
    """From frame 17 on no pixel changes by half of one 255th, at LR size and where details are as sharp as they get."""
    model = load_model(tier)
    for x in (bicubic(truth[0], (32, 80)).clamp(-1, 1), truth[3][..., :64, :96].contiguous()):
        state = model.initial(1, *x.shape[-2:])
        last, changes = x.new_zeros(()), []
        with torch.inference_mode():
            for _ in range(30):
                y, state = model.step(x, state)
                changes.append(float((y - last).abs().max()) * 127.5)
                last = y
        assert max(changes[17:]) < 0.5
        assert changes[1] > max(changes[17:]), "the memory has influence, and then settles"


@pytest.mark.parametrize("tier", SHIPPED)
def test_a_long_stream_does_not_wear_out(tier: str, truth: list[torch.Tensor]) -> None:
    """Forth and back without a cut: the same frame scores the same early and late (benchmarks/long_stream.py: 1000)."""
    small = [bicubic(x, (32, 80)).clamp(-1, 1) for x in truth]
    order = [*range(6), *range(4, 0, -1)]
    scores: dict[tuple[int, int], tuple[float, float]] = {}
    model = load_model(tier)
    state = model.initial(1, 32, 80)
    rounds = 8
    with torch.inference_mode():
        for turn in range(rounds):
            for place, k in enumerate(order):
                y, state = model.step(small[k], state)
                scores[turn, place] = psnr(y, truth[k]), float(sobel(luma(y)).mean())
    assert int(state.age[0]) == rounds * len(order), "a cut was seen, and the stream began anew"
    for place in range(len(order)):
        early, late = scores[1, place], scores[rounds - 1, place]
        assert abs(early[0] - late[0]) < 0.1
        assert late[1] == pytest.approx(early[1], rel=0.02)


def edge_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((sobel(luma(a.clamp(-1, 1))) - sobel(luma(b))).abs().mean())


@pytest.mark.parametrize("tier", SHIPPED)
@pytest.mark.parametrize("scale", [4, 3, 2])
def test_shipped_weights_hold_against_bicubic_on_the_sample(tier: str, scale: int, truth: list[torch.Tensor]) -> None:
    """No compression and little detail, where bicubic is hard to beat: nearly its PSNR, at x4 truer edges."""
    model = load_model(tier, scale=scale)
    size = 96 // scale // 4 * 4, 288 // scale // 4 * 4
    state = model.initial(1, *size)
    gains, edges = [], []
    with torch.inference_mode():
        for whole in truth:
            x = whole[..., : size[0] * scale, : size[1] * scale]
            small = bicubic(x, size).clamp(-1, 1)
            output, state = model.step(small, state)
            plain = enlarge(small, scale)
            gains.append(psnr(output, x) - psnr(plain, x))
            edges.append(edge_error(output, x) / edge_error(plain, x))
    assert len(gains) == 6
    assert sum(gains) / 6 > -0.1
    assert sum(edges) / 6 < (1 if scale == 4 else 1.05)


@pytest.mark.parametrize("tier", RESTORING)
def test_scale_1_restores_what_is_damaged_and_changes_little_else(tier: str, truth: list[torch.Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    model = load_model(tier, scale=1)
    gains, kept = [], []
    damaged_state = whole_state = model.initial(1, *truth[0].shape[-2:])
    with torch.inference_mode():
        for x in truth:
            damaged = add_noise(blur(x / 2 + 0.5, Blur((1.2, 1.2))), Noise(6 / 255), generator) * 2 - 1
            output, damaged_state = model.step(damaged, damaged_state)
            gains.append(psnr(output, x) - psnr(damaged, x))
            output, whole_state = model.step(x, whole_state)
            kept.append(psnr(output, x))
    assert sum(gains) / 6 > 0.3
    assert min(kept) > 38


def test_the_middle_tier_restores() -> None:
    assert "m" in RESTORING
