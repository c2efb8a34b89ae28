"""Planes of a decoded picture as tensors, and back.

Planar YUV (4:2:0, 4:2:2, 4:4:4), planar RGB (``gbrp``, planes in the order G, B, R) and grey of 8 to 16 bits pass
through untouched, with alpha as a fourth plane or without. Everything else is converted once, by swscale, to the
nearest of those: semi-planar (NV12, P010) and packed YUV and big-endian samples only move, 4:1:1 and 4:4:0 get the
next finer chroma, palettes and packed RGB become planar RGB, floating point becomes 16 bits, grey with alpha becomes
planar RGB with alpha.
"""

from __future__ import annotations

import av
import torch
from av.video.reformatter import Interpolation, VideoReformatter
from torch import Tensor

from gtasr_video.frames import PixelLayout

# Formats that some decoders always give, and the place of alpha in them.
_USED_ALPHA = {"bgra": 3, "argb": 0}
_DEPTHS = (8, 9, 10, 12, 14, 16)
_ACCURATE = int(Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP)
_FULL_CHROMA = int(Interpolation.FULL_CHR_H_INT)


def with_alpha(family: str) -> str:
    """Return FFmpeg's name of the layout `family` with alpha (grey has none in planes)."""
    return family.replace("yuv4", "yuva4").replace("gbrp", "gbrap")


def without_alpha(layout: PixelLayout) -> PixelLayout:
    """Return `layout` without its plane of alpha."""
    return LAYOUTS[layout.name.replace("yuva4", "yuv4").replace("gbrap", "gbrp")]


def _table() -> dict[str, PixelLayout]:
    """All layouts frames can have here, by FFmpeg's name."""
    layouts = {}
    for bits in _DEPTHS:
        suffix = "" if bits == 8 else f"{bits}le"
        for family, log2_w, log2_h in (("yuv420p", 1, 1), ("yuv422p", 1, 0), ("yuv444p", 0, 0), ("gbrp", 0, 0)):
            layouts[family + suffix] = PixelLayout(family + suffix, bits, log2_w, log2_h)
            name = with_alpha(family) + suffix
            layouts[name] = PixelLayout(name, bits, log2_w, log2_h, planes=4)
        name = "gray" + suffix
        layouts[name] = PixelLayout(name, bits, 0, 0, planes=1)
    return layouts


LAYOUTS = _table()


def carried_as(pix_fmt: str) -> PixelLayout | None:
    """Return the layout whose planes a frame of `pix_fmt` already holds, or None if it must be converted.

    ``yuvj420p`` is ``yuv420p`` in full range.
    """
    return LAYOUTS.get(pix_fmt.replace("yuvj", "yuv"))


def nearest_layout(pix_fmt: str, *, alpha: bool = False) -> PixelLayout:
    """Return the layout that a picture of FFmpeg's format `pix_fmt` is carried in, converted if need be.

    alpha   whether a format that must be converted keeps its alpha
    """
    found = carried_as(pix_fmt)
    if found is not None:
        return found
    if "f16" in pix_fmt or "f32" in pix_fmt:
        depth = 16
    else:
        components = [c for c in av.VideoFormat(pix_fmt, 64, 64).components if not c.is_alpha]
        depth = next(d for d in _DEPTHS if d >= max(c.bits for c in components))
    suffix = "" if depth == 8 else f"{depth}le"
    family = _family(av.VideoFormat(pix_fmt, 64, 64))
    if alpha:
        family = with_alpha(family.replace("gray", "gbrp"))
    return LAYOUTS[family + suffix]


def _family(form: av.VideoFormat) -> str:
    """Name of the planar family nearest to `form` (made for 64 x 64) that loses no chroma it can keep."""
    if form.is_rgb or form.has_palette or form.name.startswith("xyz"):
        return "gbrp"
    if sum(not c.is_alpha for c in form.components) == 1:
        return "gray"
    across, down = 64 // form.chroma_width(64), 64 // form.chroma_height(64)
    if across == 1:
        return "yuv444p"
    return "yuv422p" if down == 1 else "yuv420p"


class Converter:
    """Brings pictures of one stream into one layout and size; keeps swscale's tables between frames."""

    def __init__(self, layout: PixelLayout, width: int, height: int, *, full_range: bool) -> None:
        self.layout, self.width, self.height = layout, width, height
        self._range = None if layout.rgb else 2 if full_range else 1
        self._flags = _ACCURATE | (0 if layout.log2_chroma_w else _FULL_CHROMA)
        self._scaler = VideoReformatter()

    def needed(self, frame: av.VideoFrame) -> bool:
        """Return whether `frame` differs from what this converter makes."""
        return (frame.width, frame.height) != (self.width, self.height) or (
            carried_as(frame.format.name) != self.layout
        )

    def convert(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Return `frame` itself if nothing needs to change, else a converted copy (bicubic where it resizes)."""
        if not self.needed(frame):
            return frame
        # One thread: swscale writes past the ends of lines, which several threads do over each other's lines.
        return self._scaler.reformat(
            frame,
            width=self.width,
            height=self.height,
            format=self.layout.name,
            interpolation=self._flags,
            src_color_range=self._range,
            dst_color_range=self._range,
            threads=1,
        )


def plane_view(plane: av.video.plane.VideoPlane, dtype: torch.dtype, width: int | None = None) -> Tensor:
    """Return one plane as a tensor (h, w) that shares its memory, without the padding at line ends."""
    step = plane.line_size // dtype.itemsize
    flat = torch.frombuffer(plane, dtype=dtype)
    size = (plane.height, width or plane.width)
    if step > 0:
        return flat.as_strided(size, (step, 1))
    lines = flat.as_strided(size, (-step, 1))
    return lines.flip(0)


def is_transparent(frame: av.VideoFrame) -> bool:
    """Return whether `frame` holds alpha; of palettes, GIF and WebP only alpha that is used."""
    form = frame.format
    if form.name == "cuda":
        return False
    if form.has_palette:
        return is_transparent(frame.reformat(format="bgra", threads=1))
    if form.name not in _USED_ALPHA:
        return any(component.is_alpha for component in form.components)
    quads = plane_view(frame.planes[0], torch.uint8, 4 * frame.width)
    return bool((quads[:, _USED_ALPHA[form.name] :: 4] < 255).any())


def to_planes(frame: av.VideoFrame, layout: PixelLayout) -> tuple[Tensor, ...]:
    """Return the planes of `frame`, which is in `layout`, sharing its memory: read them, never write them."""
    return tuple(plane_view(frame.planes[i], layout.dtype) for i in range(layout.planes))


def from_planes(
    planes: tuple[Tensor, ...], layout: PixelLayout, width: int, height: int, *, packed: bool = False
) -> av.VideoFrame:
    """Return a new video frame of `width` x `height` holding copies of `planes` (on any device).

    A plane smaller than the frame needs is continued with its last row and column: 4:2:0 encoders want even sizes.
    `packed` interleaves 8-bit G, B, R and alpha as FFmpeg's ``bgra``, or ``bgr0`` where there is none, which is how
    some encoders take RGB.
    """
    if packed:
        frame = av.VideoFrame(width, height, "bgra" if layout.alpha else "bgr0")
        quads = plane_view(frame.planes[0], torch.uint8, 4 * width)
        lines = quads.as_strided((height, width, 4), (quads.stride(0), 4, 1))
        lines[..., 3] = 0
        for channel, plane in enumerate((planes[1], planes[0], *planes[2:])):
            lines[..., channel].copy_(plane)
        return frame
    frame = av.VideoFrame(width, height, layout.name)
    for index, source in enumerate(planes):
        target = plane_view(frame.planes[index], layout.dtype)
        rows, columns = source.shape
        target[:rows, :columns].copy_(source)
        if columns < target.shape[1]:
            target[:rows, columns:] = target[:rows, columns - 1 : columns]
        if rows < target.shape[0]:
            target[rows:] = target[rows - 1]
    return frame
