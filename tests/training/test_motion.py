"""Filming stills: frame k - 1, warped by the true flow, is frame k wherever it is said to be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from gtasr_video.ops.warp import inside, warp
from gtasr_video.training.film import Footage, Layer, Part, film
from gtasr_video.training.motion import CameraPath, MotionSettings, between, draw_path, draw_steps, true_flow
from tests.training.material import texture

SIZE = (96, 128)
CPU = torch.device("cpu")


def path(frames: int = 4, pan: tuple[float, float] = (0, 0), roll: float = 0, zoom: float = 0) -> CameraPath:
    k = np.arange(frames)
    return CameraPath(k[:, None] * np.array(pan), k * roll, np.exp(k * zoom), np.zeros((frames, 2)))


def at(x: float, y: float) -> np.ndarray:
    pose = np.eye(3)
    pose[:2, 2] = x, y
    return pose


def layer(
    camera: CameraPath, seed: int = 0, parts: tuple[Part, ...] = (), corner: tuple[int, int] = (100, 80)
) -> Layer:
    return Layer(texture(300, 400, seed), at(*corner) @ camera.poses(SIZE), parts)


def errors(footage: Footage) -> tuple[torch.Tensor, torch.Tensor]:
    """Return |warp(frame k - 1) - frame k| in 8-bit steps, and where it should be nothing."""
    assert footage.flow is not None and footage.valid is not None
    gap = (warp(footage.frames[:-1], footage.flow) - footage.frames[1:]).abs().mean(1, keepdim=True) * 255
    return gap, footage.valid & inside(footage.flow)


@pytest.mark.parametrize(
    "camera",
    [
        path(pan=(3, -2)),
        path(pan=(0.37, 0.81)),
        path(roll=0.02),
        path(zoom=0.02),
        path(pan=(1.5, 0.5), roll=-0.01, zoom=-0.015),
        dataclasses.replace(path(pan=(1, 1)), tilt=np.arange(4)[:, None] * np.array([2e-5, -3e-5])),
    ],
    ids=["pan", "part of a pixel", "roll", "zoom", "all", "perspective"],
)
def test_the_flow_of_one_layer_is_true(camera: CameraPath) -> None:
    gap, valid = errors(film([layer(camera)], SIZE))
    assert valid.float().mean() > 0.85
    assert gap[valid].mean() < 0.6
    assert gap[valid].max() < 6


def test_the_flow_points_to_where_things_were() -> None:
    """A camera that pans right sees what it saw 3 pixels to the right a frame ago."""
    flow = film([layer(path(pan=(3, 0)))], SIZE).flow
    assert flow is not None
    assert torch.allclose(flow[:, 0], torch.full_like(flow[:, 0], 3.0), atol=1e-3)
    assert torch.allclose(flow[:, 1], torch.zeros_like(flow[:, 1]), atol=1e-3)


@pytest.mark.parametrize("kind", ["ellipse", "box", "bars"])
def test_occlusion_by_a_nearer_layer_is_known(kind: str) -> None:
    outline = (Part(kind, (110 + 48, 90 + 40), (25, 6 if kind == "bars" else 18), 0.5, (0.1, 5, 0.3)),)
    scene = [layer(path(pan=(1, 0))), layer(path(pan=(6, 3)), 1, outline, corner=(110, 90))]
    footage = film(scene, SIZE)
    gap, valid = errors(footage)
    hidden = ~valid & inside(footage.flow)
    assert 0.01 < hidden.float().mean() < 0.35
    assert gap[valid].max() < 8
    assert gap[hidden].mean() > 4 * gap[valid].mean()


def test_both_layers_move_as_they_should() -> None:
    outline = (Part("ellipse", (110 + 64, 90 + 48), (30, 30), 0.0),)
    footage = film([layer(path(pan=(1, 0))), layer(path(pan=(-4, 2)), 1, outline, corner=(110, 90))], SIZE)
    assert footage.flow is not None
    assert footage.flow[0, :, 48, 64].tolist() == pytest.approx([-4, 2], abs=1e-3)
    assert footage.flow[0, :, 5, 5].tolist() == pytest.approx([1, 0], abs=1e-3)


def test_beyond_its_edges_a_picture_is_mirrored_and_the_flow_still_true() -> None:
    gap, valid = errors(film([layer(path(pan=(-5, -4)), corner=(-20, -15))], SIZE))
    assert gap[valid].mean() < 0.8


def test_sampling_between_pixels_keeps_fine_detail_steady() -> None:
    """The strength of detail must not flicker as a camera drifts by parts of a pixel."""
    camera = path(frames=9, pan=(0.25, 0.125))
    drifting = Layer(texture(300, 400), at(60, 50) @ camera.poses(SIZE, 1.25), zoom=1.25)
    detail = film([drifting], SIZE).frames.diff(dim=-1).abs().mean(dim=(1, 2, 3))
    assert (detail.std() / detail.mean()) < 0.01


def test_blur_follows_the_motion_and_only_it() -> None:
    sharp = film([layer(path(pan=(14, 0)))], SIZE).frames
    blurred = film([layer(path(pan=(14, 0)))], SIZE, shutter=0.8).frames
    along = blurred.diff(dim=-1).abs().mean() / sharp.diff(dim=-1).abs().mean()
    across = blurred.diff(dim=-2).abs().mean() / sharp.diff(dim=-2).abs().mean()
    assert along < 0.7
    assert across > along + 0.15
    assert torch.equal(film([layer(path())], SIZE, shutter=0.8).frames, film([layer(path())], SIZE).frames)


def test_poses_between_frames_lie_on_a_line() -> None:
    poses = path(pan=(2, 1)).poses(SIZE)
    assert between(poses, 0.5)[:, 0, 2] == pytest.approx(poses[:, 0, 2] + 1)
    assert between(poses, -0.25)[:, 1, 2] == pytest.approx(poses[:, 1, 2] - 0.25)


def test_a_reversed_path_has_the_opposite_flow() -> None:
    camera = path(frames=2, pan=(2, -1))
    there = true_flow(camera.poses(SIZE), SIZE, CPU)
    back = true_flow(camera.reversed().poses(SIZE), SIZE, CPU)
    assert torch.allclose(there, -back, atol=1e-3)


def test_paths_are_drawn_by_their_generator_within_their_limits() -> None:
    settings = MotionSettings(speed=4, fastest=10, standing=0.3)
    drawn = [draw_path(7, settings, np.random.default_rng(n)) for n in range(200)]
    again = draw_path(7, settings, np.random.default_rng(5))
    assert all(
        np.array_equal(a, b) for a, b in zip(dataclasses.astuple(drawn[5]), dataclasses.astuple(again), strict=True)
    )
    speeds = np.array([np.linalg.norm(np.diff(p.pan, axis=0), axis=1).mean() for p in drawn])
    assert 0.2 < (speeds == 0).mean() < 0.4
    assert 2.5 < np.median(speeds[speeds > 0]) < 6
    assert speeds.max() < 12


def test_steps_stay_in_their_room() -> None:
    steps = [draw_steps(5, (3, 10), np.random.default_rng(n)) for n in range(50)]
    assert all(s.min() >= 0 and s[:, 0].max() <= 3 and s[:, 1].max() <= 10 for s in steps)
    assert any(s.max() > 3 for s in steps)
