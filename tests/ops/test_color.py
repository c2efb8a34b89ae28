"""Colour conversion against standards' figures, against swscale, and as a round trip."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from gtasr_video.frames import ColorSpec, PixelLayout
from gtasr_video.ops.color import rgb_to_yuv, yuv_to_rgb

if TYPE_CHECKING:
    import av


def layout(name: str, bits: int = 8) -> PixelLayout:
    full = name + ("" if bits == 8 else f"{bits}le")
    if name.startswith("gray"):
        return PixelLayout(full, bits, 0, 0, planes=1)
    log2 = {"yuv420p": (1, 1), "yuv422p": (1, 0), "yuv444p": (0, 0), "gbrp": (0, 0)}[name]
    return PixelLayout(full, bits, *log2)


def random_planes(form: PixelLayout, width: int, height: int, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randint(0, 1 << form.bits, form.plane_size(i, width, height), generator=generator).to(form.dtype)
        for i in range(form.planes)
    )


# 100 % colour bars in 8-bit limited range: white, yellow, cyan, green, magenta, red, blue, black (BT.601, BT.709).
BARS = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 1, 0], [1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0]])
CODES = {
    "bt601": [
        *[(235, 128, 128), (210, 16, 146), (170, 166, 16), (145, 54, 34)],
        *[(106, 202, 222), (81, 90, 240), (41, 240, 110), (16, 128, 128)],
    ],
    "bt709": [
        *[(235, 128, 128), (219, 16, 138), (188, 154, 16), (173, 42, 26)],
        *[(78, 214, 230), (63, 102, 240), (32, 240, 118), (16, 128, 128)],
    ],
}


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv444p"])
def test_colour_bars_have_the_codes_of_the_standard(matrix: str, name: str) -> None:
    picture = BARS.float().T[None, :, None].repeat_interleave(16, dim=3).expand(1, 3, 8, 128)
    form, color = layout(name), ColorSpec(matrix=matrix)  # type: ignore[arg-type]
    planes = rgb_to_yuv(picture, form, color)
    for bar, wanted in enumerate(CODES[matrix]):
        for index, plane in enumerate(planes):
            width = plane.shape[1] // 8
            middle = plane[plane.shape[0] // 2, bar * width + width // 2]
            assert int(middle) == wanted[index], (bar, index)
    back = yuv_to_rgb(planes, form, color)
    middles = back[0, :, 4, 8::16]
    assert (middles - BARS.float().T).abs().max() < 0.6 / 219 * 2.2


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("full", [False, True])
def test_black_and_white_lie_where_the_range_says(bits: int, full: bool) -> None:
    form, color = layout("yuv444p", bits), ColorSpec(full_range=full)
    top = (1 << bits) - 1
    for value, limited, whole in ((0.0, 16, 0), (1.0, 235, top)):
        y, cb, cr = rgb_to_yuv(torch.full((1, 3, 2, 2), value), form, color)
        assert y.unique().tolist() == [whole if full else limited << bits - 8]
        assert cb.unique().tolist() == cr.unique().tolist() == [1 << bits - 1]


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv444p", "gbrp", "gray"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_round_trip_changes_nothing(name: str, bits: int) -> None:
    """Noise of every code, illegal colours included, at even, odd and tiny sizes, for every matrix and siting."""
    form = layout(name, bits)
    sizes = [(32, 24), (33, 25), (5, 3), (2, 2), (1, 1)]
    sitings = ["left", "center", "topleft"]
    for matrix, full, siting, size in itertools.product(["bt601", "bt709", "bt2020"], [False, True], sitings, sizes):
        color = ColorSpec("rgb" if name == "gbrp" else matrix, full, chroma_siting=siting)  # type: ignore[arg-type]
        planes = random_planes(form, *size)
        back = rgb_to_yuv(yuv_to_rgb(planes, form, color), form, color)
        for before, after in zip(planes, back, strict=True):
            assert after.dtype == form.dtype
            assert torch.equal(before, after), (matrix, full, siting, size)


def test_half_precision_and_any_memory_order_are_taken() -> None:
    rgb = torch.rand(1, 3, 18, 26, generator=torch.Generator().manual_seed(1))
    form = layout("yuv420p")
    wanted = rgb_to_yuv(rgb, form, ColorSpec())
    turned = rgb.to(memory_format=torch.channels_last)
    assert all(torch.equal(a, b) for a, b in zip(wanted, rgb_to_yuv(turned, form, ColorSpec()), strict=True))
    half = rgb_to_yuv(rgb.bfloat16(), form, ColorSpec())
    assert all((a.int() - b.int()).abs().max() <= 2 for a, b in zip(wanted, half, strict=True))


def test_the_input_is_left_alone() -> None:
    form = layout("yuv420p")
    planes = random_planes(form, 16, 16)
    kept = [p.clone() for p in planes]
    rgb = yuv_to_rgb(planes, form, ColorSpec())
    before = rgb.clone()
    rgb_to_yuv(rgb, form, ColorSpec())
    assert torch.equal(rgb, before)
    assert all(torch.equal(a, b) for a, b in zip(planes, kept, strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "bits"), [("yuv420p", 8), ("yuv420p", 10), ("yuv422p", 10), ("gbrp", 8), ("gray", 8)])
def test_a_gpu_gives_the_same(name: str, bits: int) -> None:
    form = layout(name, bits)
    for siting in ("left", "center", "topleft"):
        color = ColorSpec("rgb" if name == "gbrp" else "bt709", chroma_siting=siting)  # type: ignore[arg-type]
        planes = random_planes(form, 66, 50)
        rgb = yuv_to_rgb(tuple(p.cuda() for p in planes), form, color)
        assert (rgb.cpu() - yuv_to_rgb(planes, form, color)).abs().max() < 1e-5
        for before, after in zip(planes, rgb_to_yuv(rgb, form, color), strict=True):
            assert torch.equal(before, after.cpu())


# --- against swscale ------------------------------------------------------------------------------------------------


def waves(width: int = 96, height: int = 64) -> Tensor:
    """A smooth picture (1, 3, H, W) whose colour changes fast enough that a wrong siting shows."""
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    phases = [x * 3 + y, x * 2 - y * 2 + 0.3, y * 2 + x + 0.6]
    return torch.stack([0.5 + 0.4 * torch.sin(2 * math.pi * p) for p in phases])[None]


def to_frame(planes: tuple[Tensor, ...], name: str) -> av.VideoFrame:
    import av

    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], name)
    frame.pts = 0
    for plane, source in zip(frame.planes, planes, strict=True):
        row = source.numpy()
        padded = np.zeros((row.shape[0], plane.line_size // row.itemsize), row.dtype)
        padded[:, : row.shape[1]] = row
        plane.update(padded.tobytes())
    return frame


def from_frame(frame: av.VideoFrame, dtype: torch.dtype) -> tuple[Tensor, ...]:
    planes = []
    for plane in frame.planes:
        flat = torch.frombuffer(bytearray(bytes(plane)), dtype=dtype)
        planes.append(flat.view(plane.height, -1)[:, : plane.width])
    return tuple(planes)


def swscale(frame: av.VideoFrame, target: str, options: str) -> av.VideoFrame:
    import av

    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25))
    flags = "flags=bicubic+accurate_rnd+full_chroma_inp+full_chroma_int"
    scale = graph.add("scale", f"{options}:{flags}")
    form = graph.add("format", target)
    sink = graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(form)
    form.link_to(sink)
    graph.configure()
    graph.push(frame)
    return graph.pull()


# swscale takes a name for 4:2:0 only; for 4:2:2 the position has to be given in 1/256 of a pixel.
SITING = {"yuv420p": ":{way}_chroma_loc={siting}", "yuv422p": ":{way}_h_chr_pos=0:{way}_v_chr_pos=0", "yuv444p": ""}
CASES = [
    (matrix, full, siting, name, bits)
    for matrix, full in itertools.product(["bt601", "bt709", "bt2020"], [False, True])
    for siting in ["left", "center", "topleft"]
    for name, bits in [("yuv420p", 8), ("yuv420p", 10), ("yuv444p", 8), ("yuv422p", 10)]
    if name == "yuv420p" or siting == "left"
]


@pytest.mark.parametrize(("matrix", "full", "siting", "name", "bits"), CASES)
def test_decoding_agrees_with_swscale(matrix: str, full: bool, siting: str, name: str, bits: int) -> None:
    form = layout(name, bits)
    color = ColorSpec(matrix, full, chroma_siting=siting)  # type: ignore[arg-type]
    planes = rgb_to_yuv(waves(), form, color)
    options = f"in_color_matrix={matrix}:in_range={'full' if full else 'limited'}:out_range=full"
    options += SITING[name].format(way="in", siting=siting)
    theirs = from_frame(swscale(to_frame(planes, form.name), "gbrp16le", options), torch.uint16)
    wanted = torch.stack([theirs[i].float() for i in (2, 0, 1)]) / 65535
    found = yuv_to_rgb(planes, form, color)[0].clamp(0, 1)
    error = (found - wanted).abs()[:, 4:-4, 4:-4]
    assert error.max() < 6 / 255, f"{float(error.max()) * 255:.2f} / 255"
    assert error.mean() < 1 / 255, f"{float(error.mean()) * 255:.2f} / 255"
    to_truth = (found - waves()[0]).abs()[:, 4:-4, 4:-4]
    assert to_truth.mean() < (wanted - waves()[0]).abs()[:, 4:-4, 4:-4].mean() + 0.05 / 255


@pytest.mark.parametrize(("matrix", "full", "siting", "name", "bits"), CASES)
def test_encoding_agrees_with_swscale(matrix: str, full: bool, siting: str, name: str, bits: int) -> None:
    form = layout(name, bits)
    color = ColorSpec(matrix, full, chroma_siting=siting)  # type: ignore[arg-type]
    picture = waves()
    exact = tuple((picture[0, i] * 65535).round().to(torch.int32).to(torch.uint16) for i in (1, 2, 0))
    options = f"in_range=full:out_color_matrix={matrix}:out_range={'full' if full else 'limited'}"
    options += SITING[name].format(way="out", siting=siting)
    theirs = from_frame(swscale(to_frame(exact, "gbrp16le"), form.name, options), form.dtype)
    for index, (ours, other) in enumerate(zip(rgb_to_yuv(picture, form, color), theirs, strict=True)):
        error = (ours.float() - other.float()).abs()[4:-4, 4:-4] / (1 << bits - 8)
        assert error.max() < 4.5, f"plane {index}: {float(error.max()):.2f} codes"
        assert error.mean() < 1, f"plane {index}: {float(error.mean()):.2f} codes"


def test_a_wrong_siting_or_matrix_would_show() -> None:
    """The bounds above are tight enough to tell the conventions apart."""
    form = layout("yuv420p")
    planes = rgb_to_yuv(waves(), form, ColorSpec("bt601", chroma_siting="left"))
    right = yuv_to_rgb(planes, form, ColorSpec("bt601", chroma_siting="left"))
    for other in (ColorSpec("bt601", chroma_siting="center"), ColorSpec("bt601", chroma_siting="topleft")):
        assert (yuv_to_rgb(planes, form, other) - right).abs()[..., 4:-4, 4:-4].max() > 8 / 255
    assert (yuv_to_rgb(planes, form, ColorSpec("bt709")) - right).abs().max() > 8 / 255
    assert (yuv_to_rgb(planes, form, ColorSpec("bt601", full_range=True)) - right).abs().max() > 8 / 255
