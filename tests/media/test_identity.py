"""With a network that changes nothing and an encoder that loses nothing, every format comes back as it was."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from gtasr_video.media import Encoding, Reader, Writer
from gtasr_video.media.planes import LAYOUTS
from gtasr_video.media.sequence import PictureWriter
from gtasr_video.runtime.upscaler import Upscaler
from tests.clips import Picture, make_clip
from tests.fakes import Nearest


def unchanged(source: Path, target: Path, encoding: Encoding, *, picture: bool = False) -> None:
    """Send `source` through RGB and back into `target`, as a run does."""
    upscaler = Upscaler(Nearest(1), device="cpu")
    with Reader(source) as reader:
        writer: Any = PictureWriter(target, reader.spec) if picture else Writer(target, reader.spec, encoding)
        with writer:
            for frame in upscaler(reader, output=writer.spec):
                writer.write(frame)


def psnr(one: Tensor, other: Tensor, bits: int) -> float:
    error = (one.to(torch.int32) - other.to(torch.int32)).float().square().mean()
    return float(10 * torch.log10(((1 << bits) - 1) ** 2 / error.clamp_min(1e-12)))


FAMILIES = ["yuv420p", "yuv422p", "yuv444p", "gray", "gbrp", "yuva420p", "yuva444p", "gbrap"]
NAMES = [f"{family}{'' if bits == 8 else f'{bits}le'}" for family in FAMILIES for bits in (8, 10, 12, 16)]
FORMATS = [name for name in NAMES if name in LAYOUTS and name not in ("yuva420p12le", "gbrp", "gbrap")]


@pytest.mark.parametrize("name", [*FORMATS, "bgr0", "bgra"])
@pytest.mark.parametrize("size", [(64, 48), (65, 49)], ids=str)
def test_every_format_comes_back(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    source = make_clip(tmp_path / "in.mkv", codec="ffv1", pix_fmt=name, size=size, frames=2)
    unchanged(source, tmp_path / "out.mkv", Encoding(codec="ffv1"))
    with Reader(source) as before, Reader(tmp_path / "out.mkv") as after:
        assert replace(after.spec, color=before.spec.color) == before.spec
        # The matrix used is always written, also where the source said none.
        assert replace(after.spec.color, matrix_code=before.spec.color.matrix_code) == before.spec.color
        layout = before.spec.layout
        for one, other in zip(before, after, strict=True):
            for index, (a, b) in enumerate(zip(one.planes, other.planes, strict=True)):
                exact = not (layout.log2_chroma_w or layout.log2_chroma_h) or index in (0, 3)
                found = psnr(a, b, layout.bits)
                assert found > (55 if index in (0, 3) else 45), (index, found)
                if exact:  # no chroma was resampled: nothing but rounding
                    assert (a.to(torch.int32) - b.to(torch.int32)).abs().max() <= 1


@pytest.mark.parametrize("siting", ["left", "center", "topleft"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le"])
def test_every_way_to_code_colour_comes_back(
    tmp_path: Path, siting: str, full_range: bool, matrix: int, pix_fmt: str
) -> None:
    said = Picture(matrix, full_range, matrix, matrix, siting)
    source = make_clip(tmp_path / "in.mkv", codec="ffv1", pix_fmt=pix_fmt, frames=1, picture=said)
    unchanged(source, tmp_path / "out.mkv", Encoding(codec="ffv1"))
    with Reader(source) as before, Reader(tmp_path / "out.mkv") as after:
        if pix_fmt == "yuv420p" or siting != "topleft":  # where all lines have chroma there is no "top"
            assert before.spec == after.spec
        for index, (a, b) in enumerate(zip(next(iter(before)).planes, next(iter(after)).planes, strict=True)):
            assert psnr(a, b, before.spec.layout.bits) > (45 if index else 55)


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_a_lossless_setting_of_a_lossy_codec_comes_back(tmp_path: Path, codec: str) -> None:
    source = make_clip(tmp_path / "in.mkv", codec="ffv1", pix_fmt="yuv420p", frames=3)
    encoding = Encoding(codec=codec, crf=0 if codec == "h264" else 1, preset="ultrafast")
    unchanged(source, tmp_path / "out.mkv", encoding)
    with Reader(source) as before, Reader(tmp_path / "out.mkv") as after:
        for one, other in zip(before, after, strict=True):
            assert psnr(one.planes[0], other.planes[0], 8) > 45


# --- colour bars ----------------------------------------------------------------------------------------------------

BARS = np.array([[r, g, b] for top in (0.75, 1.0) for r in (0, top) for g in (0, top) for b in (0, top)])
WEIGHTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


def coded(rgb: np.ndarray[Any, Any], matrix: int, bits: int, full_range: bool) -> np.ndarray[Any, Any]:
    """Return Y, Cb, Cr codes (3, n) of `rgb` (n, 3) in [0, 1], by the equations of H.273."""
    kr, kb = WEIGHTS[matrix]
    luma = rgb @ [kr, 1 - kr - kb, kb]
    chroma = (rgb[:, 2] - luma) / (2 - 2 * kb), (rgb[:, 0] - luma) / (2 - 2 * kr)
    unit, top = 1 << bits - 8, (1 << bits) - 1
    if full_range:
        return np.stack([luma * top, *(c * top + 128 * unit for c in chroma)]).round().clip(0, top)
    return np.stack([(16 + 219 * luma) * unit, *((128 + 224 * c) * unit for c in chroma)]).round()


def lab(rgb: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return CIELAB (n, 3) of sRGB (n, 3) in [0, 1]."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((np.maximum(rgb, 0) + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    ratio = xyz / [0.9505, 1.0, 1.089]
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("full_range", [False, True])
def test_colour_bars_keep_their_colours(tmp_path: Path, matrix: int, full_range: bool) -> None:
    """From the equations to a picture of 16 bits: every bar within delta-E 0.5 of the colour it stands for."""
    bits, wide = 12, 16
    codes = coded(BARS, matrix, bits, full_range)
    source = tmp_path / "bars.mkv"
    with av.open(str(source), "w") as output:
        stream: Any = output.add_stream("ffv1", rate=25, options={"level": "3"})
        stream.width, stream.height, stream.pix_fmt = wide * len(BARS), 16, "yuv420p12le"
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, 1 + full_range
        frame = av.VideoFrame(wide * len(BARS), 16, "yuv420p12le")
        for index, plane in enumerate(frame.planes):
            line = np.repeat(codes[index], wide if index == 0 else wide // 2).astype(np.uint16)
            values = np.frombuffer(plane, np.uint16).reshape(plane.height, -1)
            values[:, : len(line)] = line
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        frame.color_range = 1 + full_range
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    unchanged(source, tmp_path / "bars.png", Encoding(), picture=True)
    with Reader(tmp_path / "bars.png") as reader:
        green, blue, red = (p.float().numpy() / 65535 for p in next(iter(reader)).planes)
    middle = [wide * n + wide // 2 for n in range(len(BARS))]
    found = np.stack([red[8, middle], green[8, middle], blue[8, middle]], axis=1)
    assert np.abs(lab(found) - lab(BARS)).max() < 0.5
    assert np.linalg.norm(lab(found) - lab(BARS), axis=1).max() < 0.5
