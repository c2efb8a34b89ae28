"""Training clips: a pure function of seed and index, input aligned with truth, flow true after every turn."""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
import itertools
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from gtasr_video.errors import TrainingError
from gtasr_video.ops.degrade import DegradationSettings
from gtasr_video.ops.resize import bicubic, enlarge
from gtasr_video.ops.warp import inside, warp
from gtasr_video.training.augment import Turn, vary_colour, vary_light
from gtasr_video.training.clips import Clip, ClipSource, DataSettings, Loader
from gtasr_video.training.footage import at_rest
from gtasr_video.training.loader import ahead
from gtasr_video.training.motion import MotionSettings
from tests.training.material import panning, save_picture, save_video, texture

PLAIN = DegradationSettings(clean_share=1, codec=0)
SMALL = DataSettings(crop=16, colour=0, light=0, crops_per_clip=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("material")
    for n in range(3):
        save_picture(root / f"stills/{n}.png", texture(160, 200, n))
    save_video(root / "clips/a.mp4", panning(9, 128, 160), crf="10")
    return root


def source(folder: Path, seed: int = 1, **changes: object) -> ClipSource:
    return ClipSource([folder], dataclasses.replace(SMALL, **changes), seed)  # type: ignore[arg-type]


def equal(a: Clip, b: Clip) -> bool:
    pairs = ((a.hr, b.hr), (a.lr, b.lr), (a.flow, b.flow), (a.valid, b.valid))
    return all((x is None and y is None) or (x is not None and y is not None and torch.equal(x, y)) for x, y in pairs)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_clip_depends_on_seed_and_index_alone(folder: Path, frames: int) -> None:
    one, other = source(folder, frames=frames), source(folder, frames=frames)
    forwards = [one.clip(n) for n in range(8)]
    backwards = [other.clip(n) for n in reversed(range(8))][::-1]
    assert all(equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert not equal(forwards[0], source(folder, seed=2, frames=frames).clip(0))
    assert len({c.hr.sum().item() for c in forwards}) >= 4


@pytest.mark.parametrize("frames", [1, 4])
def test_shapes_and_types_are_as_promised(folder: Path, frames: int) -> None:
    batch = source(folder, frames=frames).batch(range(6))
    assert (batch.hr.shape, batch.hr.dtype) == ((6, frames, 3, 64, 64), torch.uint8)
    assert (batch.lr.shape, batch.lr.dtype) == ((6, frames, 3, 16, 16), torch.uint8)
    assert (batch.flow.shape, batch.flow.dtype) == ((6, frames - 1, 2, 64, 64), torch.float32)
    assert (batch.valid.shape, batch.valid.dtype) == ((6, frames - 1, 1, 64, 64), torch.bool)
    assert batch.has_flow.any() == (frames > 1)


def test_flow_is_known_for_filmed_stills_and_where_a_video_stands_still(folder: Path) -> None:
    filmed = source(folder, frames=3, still_motion_share=1.0).batch(range(4))
    taken = source(folder, frames=3, still_motion_share=0.0).batch(range(4))
    assert filmed.has_flow.all() and filmed.valid.any()
    assert not taken.valid.any() and not taken.flow.any(), "these videos pan"


def test_a_video_is_at_rest_where_nothing_but_noise_changes() -> None:
    truth = torch.rand(1, 3, 64, 64).repeat(3, 1, 1, 1)
    truth += 1 / 255 * torch.randn(truth.shape)
    truth[2, :, :, 32:] = torch.rand(3, 64, 32)
    flow, still = at_rest(truth)
    assert flow.shape == (2, 2, 64, 64) and not flow.any()
    assert still.shape == (2, 1, 64, 64) and still[0].all()
    assert still[1, ..., :28].all() and not still[1, ..., 32:].any()


def test_the_flow_of_crops_is_true_however_they_are_turned(folder: Path) -> None:
    still = source(
        folder,
        frames=3,
        still_motion_share=1.0,
        crops_per_clip=1,
        motion=MotionSettings(standing=0, layers=0.5, blur=0),
    )
    for n in range(24):
        clip = still.clip(n)
        assert clip.flow is not None and clip.valid is not None
        gap = (warp(clip.hr[:-1].float(), clip.flow) - clip.hr[1:].float()).abs().mean(1, keepdim=True)
        assert gap[clip.valid].mean() < 1.5, n
        assert not (clip.valid & ~inside(clip.flow)).any()
        unmoved = (clip.hr[:-1].float() - clip.hr[1:].float()).abs().mean(1, keepdim=True)[clip.valid].mean()
        assert unmoved > 1.2 * gap[clip.valid].mean(), n


@pytest.mark.parametrize("frames", [1, 3])
def test_the_input_lies_exactly_under_the_truth(folder: Path, frames: int) -> None:
    """Away from the borders of a crop, the plain input is the bicubic shrinking of the truth."""
    plain = source(folder, frames=frames, degradation=PLAIN)
    for n in range(8):
        clip = plain.clip(n)
        small = bicubic(clip.hr.float(), (16, 16)).clamp(0, 255)
        assert (small - clip.lr.float())[..., 3:-3, 3:-3].abs().max() < 2, n


def test_a_codec_damages_and_does_not_move(folder: Path) -> None:
    coded = source(folder, frames=2, degradation=DegradationSettings(clean_share=1, codec=1, crf=(30, 36)))
    clip = coded.clip(0)
    gap = enlarge(clip.lr.float(), 4) - clip.hr.float()
    moved = enlarge(clip.lr.float(), 4) - clip.hr.float().roll(4, 3)
    assert gap[..., 8:-8, 8:-8].square().mean() < moved[..., 8:-8, 8:-8].square().mean()


def test_crops_of_one_group_share_their_degradation_and_lie_far_apart(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gtasr_video.media import codec_loop

    calls = []
    right = codec_loop.round_trip
    monkeypatch.setattr(codec_loop, "round_trip", lambda *a, **k: calls.append(1) or right(*a, **k))
    always = DegradationSettings(clean_share=1, codec=1)
    drawn = source(folder, crops_per_clip=4, degradation=always)
    # A round takes one crop from each of four groups, eight apart; from the second round on three of them are known.
    for first in range(0, 4 * 20, 4):
        drawn.batch(range(first, first + 4))
    assert len(calls) == 20 + 3 * 8
    assert len(drawn._ready) <= 3 * 8 + 1


def test_a_clip_is_the_same_whatever_was_drawn_before(folder: Path) -> None:
    in_order = source(folder, crops_per_clip=3)
    for n in range(60):
        clip = in_order.clip(n)
        if n % 13 == 0:
            assert equal(clip, source(folder, crops_per_clip=3).clip(n)), n


def test_other_settings_draw_from_the_same_material(folder: Path) -> None:
    first = source(folder)
    longer = first.with_settings(dataclasses.replace(SMALL, frames=4))
    assert longer.library is first.library
    assert longer.clip(0).hr.shape[0] == 4 and first.clip(0).hr.shape[0] == 1
    assert equal(longer.clip(3), source(folder, frames=4).clip(3))


def test_too_few_frames_are_an_error_that_says_how_many(folder: Path) -> None:
    with pytest.raises(TrainingError, match="no video has the 20 frames"):
        ClipSource([folder / "clips"], dataclasses.replace(SMALL, frames=20), 0)


def test_without_pyav_the_model_takes_the_codecs_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    stills = ClipSource([folder / "stills"], dataclasses.replace(SMALL, frames=2), 3)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "av" else find(name, *a))
    monkeypatch.setitem(sys.modules, "gtasr_video.media.codec_loop", None)
    clips = [stills.clip(n) for n in range(4)]
    modelled = dataclasses.replace(SMALL, frames=2, codec="model")
    assert all(equal(c, stills.with_settings(modelled).clip(n)) for n, c in enumerate(clips))


def test_clips_are_made_where_their_codec_is(monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = torch.device("cuda:1"), torch.device("cpu")

    def place(codec: str) -> torch.device:
        return ClipSource.place(DataSettings(codec=codec), there)  # type: ignore[arg-type]

    assert (place("auto"), place("real"), place("model")) == (here, here, there)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "av" else find(name, *a))
    assert (place("auto"), place("real"), place("model")) == (there, here, there)


def test_what_cannot_be_read_any_more_is_left_out(folder: Path, tmp_path: Path) -> None:
    kept = save_picture(tmp_path / "kept.png", texture(160, 160))
    gone = save_picture(tmp_path / "gone.png", texture(160, 160, 5))
    drawn = ClipSource([tmp_path], dataclasses.replace(SMALL, memory_gb=0.0), 0)
    gone.unlink()
    assert drawn.batch(range(8)).hr.shape[0] == 8
    kept.unlink()
    with pytest.raises(TrainingError, match="could not be read"):
        drawn.clip(100)


@pytest.mark.parametrize("turn", [Turn(m, f, t) for m in (0, 1) for f in (0, 1) for t in (0, 1)])  # type: ignore[arg-type]
def test_flow_turns_with_its_picture(turn: Turn) -> None:
    picture = texture(40, 40).float()[None]
    flow = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 40, 40)
    moved = warp(picture, flow)
    turned = warp(turn.picture(picture), turn.flow(flow))
    valid = turn.picture(inside(flow)).expand_as(turned)
    assert torch.allclose(turned[valid], turn.picture(moved)[valid], atol=1e-3)


def test_colour_is_the_same_in_all_frames_and_light_is_not() -> None:
    grey = torch.full((4, 3, 8, 8), 0.5)
    coloured = vary_colour(grey, np.random.default_rng(0))
    assert torch.equal(coloured[0], coloured[3]) and not torch.allclose(coloured, grey, atol=1e-3)
    lit = vary_light(grey, np.random.default_rng(0)).mean(dim=(1, 2, 3))
    assert lit.unique().numel() == 4 and lit.min() > 0.3 and lit.max() < 0.7


def test_batches_come_in_the_same_order_from_any_number_of_workers(folder: Path) -> None:
    drawn = source(folder)
    for workers in (0, 1, 2):
        batches = iter(Loader(drawn, 3, start_index=2, workers=workers))
        for number in (2, 3, 4):
            assert torch.equal(next(batches).lr, drawn.batch(range(3 * number, 3 * number + 3)).lr)
        del batches


def test_a_workers_error_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: ClipSource, indices: object) -> None:
        raise TrainingError("nothing left to read")

    monkeypatch.setattr(ClipSource, "batch", fail)
    with pytest.raises(TrainingError, match=r"^nothing left to read$"):
        next(iter(Loader(source(folder), 2, workers=1)))


def test_a_worker_that_dies_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(ClipSource, "batch", lambda self, indices: os._exit(9))
    with pytest.raises(TrainingError, match="a data process ended unexpectedly"):
        next(iter(Loader(source(folder), 2, workers=1)))


class _Collecting:
    """Stands for a source whose work has Python look for garbage."""

    device = torch.device("cpu")

    def batch(self, indices: range) -> int:
        gc.collect()
        return len(indices)


@pytest.mark.timeout(30)
def test_a_worker_leaves_the_decoders_of_this_process_alone(small_clip: Path) -> None:
    """One with threads that is freed in a worker waits there for threads which a fork does not have."""
    gc.disable()
    try:
        container = av.open(str(small_clip))
        video = container.streams.video[0]
        video.thread_type, video.codec_context.thread_count = "FRAME", 2
        next(container.decode(video))
        ring: list[Any] = [container, video]
        ring.append(ring)
        del container, video, ring
        batches: Any = Loader(_Collecting(), 2, workers=1)  # type: ignore[arg-type]
        assert next(iter(batches)) == 2
    finally:
        gc.enable()


def test_on_a_device_nothing_passes_through_the_cpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors without content stand for a GPU's: mixing them with the CPU's, or asking for a value, raises."""

    class NoGenerator:
        def __init__(self, device: torch.device) -> None: ...

        def manual_seed(self, seed: int) -> None: ...

    right = torch.randn
    monkeypatch.setattr(torch, "Generator", NoGenerator)
    monkeypatch.setattr(torch, "randn", lambda *a, generator=None, **k: right(*a, **k))
    everything = DegradationSettings(0.1, blur=0.9, noise=0.9, grain=0.5, second_order=0.5, interlace=0.5)
    settings = dataclasses.replace(SMALL, frames=2, colour=0.5, light=0.5, degradation=everything)
    there = ClipSource([folder], settings, 1, torch.device("meta"))
    batch = there.batch(range(20))
    assert batch.lr.shape == (20, 2, 3, 16, 16)
    tensors = (batch.hr, batch.lr, batch.flow, batch.valid, batch.has_flow)
    assert {t.device.type for t in tensors} == {"meta"}


@pytest.mark.gpu
def test_clips_are_made_on_the_gpu(tmp_path: Path) -> None:
    device = torch.device("cuda")
    for n in range(3):
        save_picture(tmp_path / f"{n}.png", texture(160, 200, n))
    there = ClipSource([tmp_path], dataclasses.replace(SMALL, frames=3, memory_gb=1), 1, device)
    batch = next(iter(Loader(there, 8, workers=4)))
    assert batch.hr.device.type == batch.flow.device.type == "cuda"
    assert batch.hr.shape == (8, 3, 3, 64, 64) and batch.has_flow.any()
    # Other groups of clips are other batches to cuDNN, which may then sum in another order.
    assert (batch.lr.int() - there.batch(range(8)).lr.int()).abs().max() <= 1


def test_a_thread_makes_ahead_passes_errors_on_and_ends() -> None:
    before = threading.active_count()
    assert list(ahead(iter(range(20)), 2)) == list(range(20))

    def failing() -> Iterator[int]:
        yield 1
        raise TrainingError("no more")

    made = ahead(failing(), 2)
    assert next(made) == 1
    with pytest.raises(TrainingError, match="no more"):
        next(made)
    endless = ahead(itertools.count(), 2)
    assert [next(endless), next(endless)] == [0, 1]
    endless.close()
    assert threading.active_count() == before
