"""VMAF, NIQE and the truth's motion behave as what they are."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from gtasr_video.errors import EvaluationError
from gtasr_video.evaluation.flow import true_motion
from gtasr_video.evaluation.niqe import _fit, load_model, niqe
from gtasr_video.evaluation.streams import write_frames
from gtasr_video.evaluation.truth import to_unit
from gtasr_video.evaluation.vmaf import vmaf
from gtasr_video.ops.resize import bicubic
from tests.evaluation.conftest import scene


def soft(x: torch.Tensor) -> torch.Tensor:
    height, width = x.shape[-2:]
    return bicubic(bicubic(x, (height // 4, width // 4)), (height, width)).clamp(0, 1)


def test_vmaf_of_equal_clips_is_near_its_top_and_falls_with_damage(tmp_path: Path) -> None:
    frames = scene(3, 144, 176)
    write_frames(tmp_path / "truth.mkv", frames)
    write_frames(tmp_path / "noisy.mkv", [(f.int() + 40 * (k % 2)).clamp(0, 255).byte() for k, f in enumerate(frames)])
    write_frames(tmp_path / "soft.mkv", [(soft(to_unit(f))[0] * 255).byte() for f in frames])
    same = vmaf(tmp_path / "truth.mkv", tmp_path / "truth.mkv")
    assert 97 <= same <= 100
    assert vmaf(tmp_path / "soft.mkv", tmp_path / "truth.mkv") < same - 5
    assert vmaf(tmp_path / "noisy.mkv", tmp_path / "truth.mkv") < same


def test_vmaf_of_what_is_no_video_is_an_error(tmp_path: Path) -> None:
    write_frames(tmp_path / "truth.mkv", scene(2))
    (tmp_path / "text.mkv").write_text("no")
    with pytest.raises(EvaluationError, match=r"text\.mkv: VMAF cannot be measured"):
        vmaf(tmp_path / "text.mkv", tmp_path / "truth.mkv")


def test_the_fit_finds_the_shape_of_known_noise() -> None:
    draw = np.random.default_rng(0)
    gauss = _fit(draw.normal(0, 2, (400, 400)))
    laplace = _fit(draw.laplace(0, 1, (400, 400)))
    assert gauss[0] == pytest.approx(2, abs=0.05) and laplace[0] == pytest.approx(1, abs=0.05)
    assert gauss[1] == pytest.approx(0, abs=0.02)
    assert gauss[2] == pytest.approx(2 * math.sqrt(2), rel=0.03), "a Gaussian's scale is sigma times root two"
    lopsided = np.where((x := draw.normal(0, 1, (400, 400))) < 0, x, 3 * x)
    assert _fit(lopsided)[3] > 2 * _fit(lopsided)[2] and _fit(lopsided)[1] > 0.5


def test_niqe_is_zero_for_its_own_statistics_and_grows_away_from_them(niqe_file: Path, tmp_path: Path) -> None:
    """Build a model from one picture's own features: that picture is then as natural as can be."""
    from gtasr_video.evaluation import niqe as module

    draw = torch.Generator().manual_seed(0)
    picture = to_unit(scene(1, 288, 288, seed=1)[0])
    picture = (picture + 0.05 * torch.randn(picture.shape, generator=draw)).clamp(0, 1)
    full = module.luma_full(picture).float()
    features = np.hstack([module._block_features(full, 96), module._block_features(bicubic(full, (144, 144)), 48)])
    savemat(tmp_path / "own.mat", {"pop_mu": features.mean(0)[None], "pop_cov": np.cov(features.T)})
    own = load_model(tmp_path / "own.mat")
    assert niqe(picture, own) == pytest.approx(0, abs=1e-3)
    assert niqe(soft(picture), own) > 1
    assert niqe(picture, load_model(niqe_file)) > 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\0\0\0\x20ftypisom" + bytes(200), "not a file of NIQE parameters"),
        (b"", "not a file of NIQE parameters"),
        ({"pop_mu": np.zeros((1, 36)), "pop_cov": np.full((36, 36), np.nan)}, "are no numbers"),
    ],
)
def test_a_file_that_holds_no_niqe_parameters_is_told_as_that(
    content: bytes | dict[str, np.ndarray], reason: str, tmp_path: Path
) -> None:
    """A video was "not enough memory", and a parameter that is no number an error to report."""
    file = tmp_path / "wrong.mat"
    savemat(file, content) if isinstance(content, dict) else file.write_bytes(content)
    with pytest.raises(EvaluationError, match=reason):
        load_model(file)


def test_niqe_of_a_small_or_flat_picture_is_no_crash(niqe_file: Path) -> None:
    model = load_model(niqe_file)
    assert math.isnan(niqe(torch.rand(1, 3, 191, 300), model))
    assert math.isfinite(niqe(torch.full((1, 3, 192, 192), 0.5), model))


def test_niqe_parameters_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no such file"):
        load_model(tmp_path / "none.mat")
    (tmp_path / "text.mat").write_text("no parameters")
    savemat(tmp_path / "other.mat", {"mu_prisparam": np.zeros(36)})
    savemat(tmp_path / "paper.mat", {"pop_mu": np.arange(36.0), "pop_cov": np.eye(36)})
    for name, reason in (("text", "not a file"), ("other", "not a file"), ("paper", "another feature extractor")):
        with pytest.raises(EvaluationError, match=reason) as caught:
            load_model(tmp_path / f"{name}.mat")
        assert "\n" not in str(caught.value)


def test_true_motion_finds_the_motion_and_where_it_holds() -> None:
    before, now = (to_unit(f) for f in scene(2, 96, 128, step=3))
    flow, valid = true_motion(now, before)
    inner = (slice(None), slice(None), slice(16, -16), slice(16, -16))
    assert flow[inner].mean((2, 3))[0].tolist() == pytest.approx([3, 0], abs=0.15)
    assert valid[inner].float().mean() > 0.95


def test_true_motion_does_not_hold_across_a_cut() -> None:
    before, now = to_unit(scene(1, seed=1)[0]), to_unit(scene(1, seed=2)[0])
    _, valid = true_motion(now, before)
    assert valid.float().mean() < 0.6
