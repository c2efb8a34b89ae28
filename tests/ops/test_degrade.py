"""Degradations: what is drawn is drawn by seed and in proportion, and each does what its name says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from gtasr_video.ops.degrade import (
    Blur,
    Degradation,
    DegradationSettings,
    Noise,
    Pass,
    add_grain,
    add_noise,
    blur,
    degrade,
    draw,
    interlace,
)
from gtasr_video.ops.resize import bicubic
from tests.training.material import texture

SETTINGS = DegradationSettings()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clip(frames: int = 3, side: int = 64) -> torch.Tensor:
    return torch.stack([texture(side, side, n) for n in range(frames)]).float() / 255


def drawn(settings: DegradationSettings, count: int = 600) -> list[Degradation]:
    return [draw(settings, np.random.default_rng(n)) for n in range(count)]


def test_equal_generators_draw_equal_plans() -> None:
    assert drawn(SETTINGS, 20) == drawn(SETTINGS, 20)
    assert len(set(drawn(SETTINGS, 20))) > 10


def test_settings_are_the_shares_of_what_is_drawn() -> None:
    plans = drawn(replace(SETTINGS, clean_share=0, blur=0.3, codec=0.8, second_order=0.2, interlace=0.25))

    def share(predicate: object) -> float:
        return sum(map(predicate, plans)) / len(plans)  # type: ignore[arg-type]

    assert share(lambda p: p.passes[-1].blur is not None) == pytest.approx(0.3, abs=0.07)
    assert share(lambda p: bool(p.codecs)) == pytest.approx(0.8, abs=0.07)
    assert share(lambda p: len(p.passes) == 2) == pytest.approx(0.2, abs=0.07)
    assert share(lambda p: bool(p.interlace)) == pytest.approx(0.25, abs=0.07)
    rates = [c.crf for p in plans for c in p.codecs]
    assert min(rates) >= 18 and max(rates) <= 36
    assert {c.name for p in plans for c in p.codecs} == {"h264", "hevc", "mpeg4", "vp9"}


def test_clean_clips_are_only_shrunk_and_encoded_as_h264() -> None:
    plans = drawn(replace(SETTINGS, clean_share=1), 50)
    assert all(replace(p, codecs=()) == Degradation() for p in plans)
    assert {c.name for p in plans for c in p.codecs} == {"h264"}


def test_the_clean_degradation_is_the_projects_bicubic() -> None:
    assert torch.equal(degrade(clip(), Degradation(), (16, 16), generator()), bicubic(clip(), (16, 16)).clamp(0, 1))


@pytest.mark.parametrize("method", ["bicubic", "area", "bilinear"])
def test_shrinking_moves_nothing(method: str) -> None:
    """The centre of brightness of a spot stays where it is, in units of the picture."""
    spot = torch.zeros(1, 3, 64, 64)
    spot[..., 20:28, 36:40] = 1
    small = degrade(spot, Degradation((Pass(None, method, None),)), (16, 16), generator())[0, 0]
    weights = small / small.sum()
    rows = (weights.sum(1) * (torch.arange(16) + 0.5)).sum() * 4
    columns = (weights.sum(0) * (torch.arange(16) + 0.5)).sum() * 4
    assert float(rows) == pytest.approx(24, abs=0.15)
    assert float(columns) == pytest.approx(38, abs=0.15)


def test_a_first_pass_at_another_size_moves_nothing_either() -> None:
    plan = Degradation((Pass(Blur((1.0, 1.0)), "area", None, factor=0.37), Pass(None, "bicubic", None)))
    small = degrade(clip(1, 128), plan, (32, 32), generator())
    gaps = {
        (y, x): float((small - bicubic(clip(1, 128).roll((y, x), (2, 3)), (32, 32)))[..., 2:-2, 2:-2].square().mean())
        for y in (-2, 0, 2)
        for x in (-2, 0, 2)
    }
    assert min(gaps, key=lambda k: gaps[k]) == (0, 0)


def measured_width(kernel: Blur, drift: float = 0.0, frame: int = 0, frames: int = 1) -> tuple[float, float]:
    """Return the standard deviations along x and y of a blurred point."""
    point = torch.zeros(frames, 1, 41, 41)
    point[..., 20, 20] = 1
    spread = blur(point, kernel, drift)[frame, 0]
    at = torch.arange(41) - 20.0
    assert float(spread.sum()) == pytest.approx(1, abs=1e-3)
    return float((spread.sum(0) * at**2).sum().sqrt()), float((spread.sum(1) * at**2).sum().sqrt())


def test_blur_is_as_wide_as_it_says() -> None:
    assert measured_width(Blur((2.0, 2.0))) == pytest.approx((2, 2), rel=0.03)
    assert measured_width(Blur((3.0, 1.0), 0.0)) == pytest.approx((3, 1), rel=0.06)
    assert measured_width(Blur((3.0, 1.0), math.pi / 2)) == pytest.approx((1, 3), rel=0.06)


def test_blur_drifts_over_the_clip() -> None:
    first = measured_width(Blur((2.0, 2.0)), 0.2, 0, 3)[0]
    last = measured_width(Blur((2.0, 2.0)), 0.2, 2, 3)[0]
    assert (first, last) == pytest.approx((1.6, 2.4), rel=0.03)


def test_blur_works_on_pictures_smaller_than_its_kernel() -> None:
    assert blur(torch.rand(1, 3, 5, 5), Blur((4.0, 4.0))).shape == (1, 3, 5, 5)


def test_noise_has_its_strength_is_fresh_each_frame_and_seeded() -> None:
    flat = torch.full((2, 3, 96, 96), 0.5)
    noisy = add_noise(flat, Noise(8 / 255), generator()) - flat
    assert float(noisy.std()) * 255 == pytest.approx(8, rel=0.03)
    assert abs(float((noisy[0] * noisy[1]).mean() / noisy.var())) < 0.03
    assert torch.equal(noisy, add_noise(flat, Noise(8 / 255), generator()) - flat)


def test_poisson_noise_grows_with_light_and_gray_noise_has_no_colour() -> None:
    levels = torch.tensor([0.1, 0.4, 0.9]).view(1, 3, 1, 1).expand(1, 3, 128, 128)
    spread = (add_noise(levels, Noise(0.02, poisson=True), generator()) - levels).std(dim=(0, 2, 3))
    assert (spread / (2 * levels[0, :, 0, 0]).sqrt()).tolist() == pytest.approx([0.02] * 3, rel=0.05)
    gray = add_noise(levels, Noise(0.02, gray=True), generator()) - levels
    assert torch.allclose(gray[:, 0], gray[:, 1], atol=1e-6)


def test_grain_clumps_and_spares_black() -> None:
    halves = torch.zeros(1, 3, 128, 128)
    halves[..., 64:] = 0.5
    grain = add_grain(halves, 5 / 255, generator()) - halves
    assert float(grain[..., 64:].std()) * 255 == pytest.approx(5, rel=0.15)
    assert float(grain[..., :64].abs().max()) == 0
    bright = grain[0, 0, :, 64:]
    assert float((bright[:, 1:] * bright[:, :-1]).mean() / bright.var()) > 0.2


def test_interlacing_takes_odd_rows_from_the_next_frame_or_between() -> None:
    x = clip(3, 16)
    combed = interlace(x, interpolated=False)
    assert torch.equal(combed[0, :, 0::2], x[0, :, 0::2])
    assert torch.equal(combed[0, :, 1::2], x[1, :, 1::2])
    assert torch.equal(combed[2], x[2])
    between = interlace(x, interpolated=True)
    assert torch.allclose(between[1, :, 3], (x[1, :, 2] + x[1, :, 4]) / 2)
    assert interlace(clip(1, 15), interpolated=True).shape == (1, 3, 15, 15)


def test_everything_at_once_stays_in_range_and_repeats() -> None:
    plan = Degradation(
        (Pass(Blur((2, 1), 0.3), "area", Noise(0.05), 0.5), Pass(Blur((1, 1)), "bilinear", Noise(0.1, True, True))),
        grain=0.05,
        interlace="combed",
        drift=0.2,
    )
    first = degrade(clip(), plan, (16, 16), generator(3))
    assert first.shape == (3, 3, 16, 16)
    assert float(first.min()) >= 0 and float(first.max()) <= 1
    assert torch.equal(first, degrade(clip(), plan, (16, 16), generator(3)))
    assert not torch.equal(first, degrade(clip(), plan, (16, 16), generator(4)))
