"""The upscaler: colours, padding, state, seeds, and refusing what it cannot do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gtasr_video.device import Device
from gtasr_video.errors import ModelError, UsageError
from gtasr_video.frames import ColorSpec, Frame, PixelLayout, VideoSpec
from gtasr_video.models.bicubic import Bicubic
from gtasr_video.models.facts import ModelFacts, State
from gtasr_video.ops.color import yuv_to_rgb
from gtasr_video.runtime.upscaler import Upscaler
from tests import fakes

CPU = Device(torch.device("cpu"), torch.float32, "for a test")


def started(model: object, of: VideoSpec | None = None, **options: object) -> Upscaler:
    upscaler = Upscaler(model, device=CPU, **options)  # type: ignore[arg-type]
    upscaler.start(of or fakes.spec())
    return upscaler


@pytest.mark.parametrize(
    "layout",
    [
        fakes.YUV420,
        fakes.YUV444,
        PixelLayout("yuv422p10le", 10, 1, 0),
        PixelLayout("gray", planes=1),
        PixelLayout("gray12le", 12, planes=1),
    ],
    ids=lambda layout: layout.name,
)
@pytest.mark.parametrize("size", [(16, 12), (17, 11), (1, 1)], ids=str)
def test_an_identity_gives_back_every_frame_exactly(layout: PixelLayout, size: tuple[int, int]) -> None:
    of = fakes.spec(*size, layout)
    frames = list(fakes.frames(of, 3, first_pts=5))
    out = list(Upscaler(fakes.Nearest(1), device=CPU)(frames, spec=of))
    assert [(f.pts, f.duration, f.cut) for f in out] == [(f.pts, f.duration, f.cut) for f in frames]
    for one, other in zip(out, frames, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(one.planes, other.planes, strict=True))


def test_the_network_sees_minus_one_to_one_in_float32() -> None:
    model = fakes.Nearest(1)
    of = fakes.spec(2, 2, fakes.YUV444, color=ColorSpec("bt601", full_range=True))
    luma = torch.tensor([[0, 255], [128, 51]], dtype=torch.uint8)
    grey = torch.full((2, 2), 128, dtype=torch.uint8)
    started(model, of).push(Frame((luma, grey, grey), 0))
    (x,) = model.seen
    assert x.dtype is torch.float32
    assert x.shape == (1, 3, 2, 2)
    expected = luma.float() / 255 * 2 - 1
    assert torch.allclose(x, expected.expand(1, 3, 2, 2), atol=1e-6)


@pytest.mark.parametrize(("size", "padded"), [((16, 12), (16, 16)), ((13, 9), (16, 16)), ((8, 8), (8, 8))])
def test_sizes_are_padded_by_repeating_the_edge_and_cropped_again(
    size: tuple[int, int], padded: tuple[int, int]
) -> None:
    model = fakes.Nearest(2, multiple_of=8)
    of = fakes.spec(*size, fakes.YUV444)
    frame = next(fakes.frames(of, 1))
    (out,) = started(model, of).push(frame)
    assert tuple(model.seen[0].shape) == (1, 3, padded[1], padded[0])
    last_row = model.seen[0][..., size[1] - 1, : size[0]]
    assert torch.equal(model.seen[0][..., -1, : size[0]], last_row)
    assert torch.equal(out.planes[0], frame.planes[0].repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_state_is_carried_and_begins_anew_at_a_cut_and_with_a_new_stream() -> None:
    model = fakes.Nearest(1)
    upscaler = started(model)
    of = fakes.spec()
    for number, cut in enumerate((True, False, False, True, False)):
        upscaler.push(fakes.picture(of, number, number, 1, cut=cut))
    upscaler.start(of)
    upscaler.push(fakes.picture(of, 9, 9, 1))
    assert model.ages == [0, 1, 2, 0, 1, 0]


def test_the_first_frame_after_a_cut_is_that_of_a_fresh_stream() -> None:
    of = fakes.spec()
    long = started(fakes.Remembers(1))
    for number in range(4):
        long.push(fakes.picture(of, number, number, 1))
    after = long.push(fakes.picture(of, 7, 7, 1, cut=True))[0]
    fresh = started(fakes.Remembers(1)).push(fakes.picture(of, 7, 7, 1))[0]
    assert torch.equal(after.planes[0], fresh.planes[0])


def test_streaming_one_by_one_equals_the_whole_at_once() -> None:
    of = fakes.spec()
    frames = list(fakes.frames(of, 6))
    whole = list(Upscaler(fakes.Remembers(2), device=CPU)(frames, spec=of))
    upscaler = started(fakes.Remembers(2))
    single = [out for frame in frames for out in upscaler.push(frame)] + upscaler.flush()
    assert all(torch.equal(a.planes[0], b.planes[0]) for a, b in zip(whole, single, strict=True))


def test_it_is_lazy_one_frame_in_one_frame_out() -> None:
    taken = []

    def source():
        for frame in fakes.frames(fakes.spec(), 3):
            taken.append(frame.pts)
            yield frame

    out = Upscaler(fakes.Nearest(1), device=CPU)(source(), spec=fakes.spec())
    assert next(out).pts == 0
    assert taken == [0]


def test_the_seed_reaches_the_network() -> None:
    model = fakes.Nearest(1)
    started(model, seed=7).push(next(fakes.frames(fakes.spec(), 1)))
    assert model.seeds == [7]


def test_the_output_has_the_layout_and_colours_the_writer_wants() -> None:
    of = fakes.spec(8, 8, fakes.YUV444, color=ColorSpec("bt601"))
    wanted = replace(of.scaled(2), layout=PixelLayout("yuv420p10le", 10), color=ColorSpec("bt709"))
    planes = tuple(torch.full((8, 8), v, dtype=torch.uint8) for v in (120, 90, 160))
    upscaler = Upscaler(fakes.Nearest(2), device=CPU)
    assert upscaler.start(of, wanted) is wanted
    assert upscaler.output is wanted
    (out,) = upscaler.push(Frame(planes, 0))
    assert [tuple(p.shape) for p in out.planes] == [(16, 16), (8, 8), (8, 8)]
    assert all(p.dtype is torch.uint16 for p in out.planes)
    before = yuv_to_rgb(planes, of.layout, of.color)[0, :, 0, 0]
    after = yuv_to_rgb(out.planes, wanted.layout, wanted.color)[0, :, 0, 0]
    assert torch.allclose(before, after, atol=2 / 1023)


def test_the_upscaled_size_must_be_that_of_the_output() -> None:
    upscaler = Upscaler(fakes.Nearest(2), device=CPU)
    with pytest.raises(UsageError, match="output of 16x12 is not the 32x24 that will come out"):
        upscaler.start(fakes.spec(), fakes.spec())


def test_frames_that_do_not_fit_are_refused() -> None:
    upscaler = started(fakes.Nearest(1))
    with pytest.raises(UsageError, match=r"Frame\(pts=0, .* is not a yuv420p frame of 16x12"):
        upscaler.push(next(fakes.frames(fakes.spec(18, 12), 1)))
    with pytest.raises(UsageError, match="is not a yuv420p frame"):
        upscaler.push(next(fakes.frames(fakes.spec(16, 12, PixelLayout("yuv420p10le", 10)), 1)))


def test_without_a_specification_it_says_what_to_do() -> None:
    upscaler = Upscaler(fakes.Nearest(1), device=CPU)
    frame = next(fakes.frames(fakes.spec(), 1))
    for call in (lambda: upscaler.push(frame), lambda: upscaler.output):
        with pytest.raises(UsageError, match=r"call start\(spec\) first"):
            call()
    with pytest.raises(UsageError, match="give spec="):
        list(upscaler([frame]))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_network_that_gives_nan_is_an_error(value: float) -> None:
    class Broken(fakes.Nearest):
        def step(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Tensor, State]:
            y, state = super().step(x, state, seed=seed)
            y[0, 2, 3, 3] = value
            return y, state

    with pytest.raises(ModelError, match="NaN or infinity"):
        started(Broken(1)).push(next(fakes.frames(fakes.spec(), 1)))


BF16 = Device(torch.device("cpu"), torch.bfloat16, "for a test")


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -1.0], ids=["nan", "infinity", "black"])
def test_a_broken_frame_is_made_again_in_float32_from_the_state_before_it(broken: float) -> None:
    of = fakes.spec()
    frames = [fakes.picture(of, n, 40 * n, 40, cut=n == 0) for n in range(8)]
    whole = list(Upscaler(fakes.Fragile(), device=BF16)(frames, spec=of))
    fragile = Upscaler(fakes.Fragile((0, 3, 4), broken), device=BF16)
    for one, other in zip(fragile(frames, spec=of), whole, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(one.planes, other.planes, strict=True))
    assert fragile.redone == 3


def test_a_black_picture_may_come_out_black() -> None:
    of = fakes.spec(8, 8, fakes.YUV444)
    black = Frame(tuple(torch.full((8, 8), v, dtype=torch.uint8) for v in (16, 128, 128)), 0)
    started(fakes.Nearest(1), of).push(black)


def test_a_module_is_moved_to_the_device_in_a_type_it_allows() -> None:
    bf16 = Device(torch.device("cpu"), torch.bfloat16, "asked for")
    upscaler = Upscaler(Bicubic(2), device=bf16)
    assert upscaler.device.dtype is torch.float32
    assert upscaler.device.reason == "asked for; bicubic needs float32"

    class Half(torch.nn.Conv2d):
        facts = ModelFacts("half", 1, 1, 0)

    model = Half(1, 1, 1)
    assert Upscaler(model, device=bf16).device is bf16  # type: ignore[arg-type]
    assert model.weight.dtype is torch.bfloat16


def test_a_device_may_be_given_by_name() -> None:
    assert Upscaler(fakes.Nearest(1), device="cpu").device.name == "cpu"
