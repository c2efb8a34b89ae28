"""One frame from planes to planes: what every backend computes."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.frames import VideoSpec
from gtasr_video.models.facts import State, VideoModel
from gtasr_video.models.gtasr import GTASRVideo, Prediction
from gtasr_video.ops import resize
from gtasr_video.ops.assembly import can_assemble, planes_from_cells
from gtasr_video.ops.color import alpha_of, alpha_plane, rgb_to_yuv, rgb_to_yuv_in_bands, yuv_to_rgb
from gtasr_video.ops.edges import luma
from gtasr_video.ops.kernels import usable
from gtasr_video.ops.resize import enlarge as enlarge_picture
from gtasr_video.ops.turn import turned
from gtasr_video.runtime.tiles import Tiled

Planes = tuple[Tensor, ...]

_BAND = 16  # cells down
# In the network's range [-1, 1]. No picture brighter than the second comes out darker than the first.
_BLACK, _DARK = -0.99, -0.95


class Enlarged(NamedTuple):
    """The planes of a larger frame, whether they show a picture, and what is remembered.

    sound   scalar bool tensor on the planes' device: False if the network gave NaN, infinity or black for a picture
            that is not black. A flag rather than an error, since reading it makes the host wait for the device
    """

    planes: Planes
    sound: Tensor
    state: State


def enlarge(
    model: VideoModel,
    planes: Planes,
    state: State,
    source: VideoSpec,
    output: VideoSpec,
    seed: int,
    *,
    in_bands: bool = False,
) -> Enlarged:
    """Return `planes` (of frames like `source`) enlarged by `model` to those of a frame like `output`.

    YUV -> RGB in [-1, 1] -> turned where `output` is to be upright -> padded to ``facts.multiple_of`` -> network ->
    cropped -> YUV; the last `in_bands` where memory is short. Between the network and YUV lies no picture where the
    cells of the network can do without. Alpha is enlarged beside all this.
    """
    done = _enlarge_colours(model, planes, state, source, output, seed, in_bands)
    if not output.layout.alpha:
        return done
    return done._replace(planes=(*done.planes, _alpha(planes, source, output, model.facts.scale)))


def _enlarge_colours(
    model: VideoModel,
    planes: Planes,
    state: State,
    source: VideoSpec,
    output: VideoSpec,
    seed: int,
    in_bands: bool,
) -> Enlarged:
    x = picture(planes, source, output, model.facts.multiple_of)
    network = model.model if isinstance(model, Tiled) else model
    if isinstance(model, GTASRVideo | Tiled) and isinstance(network, GTASRVideo) and _in_cells(network, x, output):
        prediction, following = model.step_in_cells(x, state, seed=seed)
        if in_bands and not usable(x):
            large = from_cells_in_bands(x, prediction.residual, network, output)
        else:
            large = _from_cells(x, prediction, network, output)
        before = luma(x).mean()
        return Enlarged(large, _is_sound(before, before + following.detail.float().mean()), following)
    y, following = model.step(x, state, seed=seed)
    y = y[..., : output.height, : output.width]
    sound = _is_sound(x.mean(), y.mean())
    layout, color = output.layout, output.color
    to_planes = rgb_to_yuv_in_bands if in_bands else rgb_to_yuv
    return Enlarged(to_planes(y.add_(1).mul_(0.5), layout, color, dither=True), sound, following)


def picture(planes: Planes, source: VideoSpec, output: VideoSpec, multiple: int) -> Tensor:
    """Return the frame as networks take it: RGB (1, 3, H, W) in [-1, 1], continued to multiples of `multiple`."""
    if usable(planes[0]) and shown(source, output) is source:
        from gtasr_video.ops.kernels.planes import picture_from_planes

        return picture_from_planes(planes[:3], source.layout, source.color, multiple)
    rgb = yuv_to_rgb(planes, source.layout, source.color).mul_(2).sub_(1)
    return _pad(_upright(rgb, source, output), multiple)


def shown(source: VideoSpec, output: VideoSpec) -> VideoSpec:
    """Return what frames like `source` look like when they are enlarged.

    Turned as players turn them, where players are not to turn `output`.
    """
    return source.upright() if source.is_turned and not output.is_turned else source


def _upright(x: Tensor, source: VideoSpec, output: VideoSpec) -> Tensor:
    return x if shown(source, output) is source else turned(x, source.rotation, mirrored=source.mirrored)


def _alpha(planes: Planes, source: VideoSpec, output: VideoSpec, scale: int) -> Tensor:
    """Return the plane of alpha: enlarged bicubically, as no network here has ever seen any."""
    alpha = alpha_of(planes, source.layout)
    if alpha is None:
        alpha = torch.ones_like(planes[0], dtype=torch.float32)[None, None]
    return alpha_plane(resize.enlarge(_upright(alpha, source, output), scale), output.layout)


def padded_size(source: VideoSpec, multiple: int) -> tuple[int, int]:
    """Return (height, width) of pictures like `source` continued to multiples of `multiple`."""
    return source.height + -source.height % multiple, source.width + -source.width % multiple


def _in_cells(model: GTASRVideo, x: Tensor, output: VideoSpec) -> bool:
    # On a GPU without kernels memory is fast, and convolutions in float32 are rounded to fewer bits.
    cell, scale = model.architecture.cell, model.scale
    return usable(x) or (x.device.type == "cpu" and can_assemble(x.shape[-1], cell, scale, output.layout, output.color))


def _from_cells(x: Tensor, prediction: Prediction, model: GTASRVideo, output: VideoSpec) -> Planes:
    """Return the planes of bicubic(x) + the residual of `prediction`, dithered."""
    cell, scale, layout, color = model.architecture.cell, model.scale, output.layout, output.color
    if usable(x):
        from gtasr_video.ops.kernels import planes

        size = output.height, output.width
        return planes.planes_from_cells(x, prediction.residual, cell, scale, layout, color, size)
    reader = partial(model.read_residual, prediction)
    return _cropped(planes_from_cells(x, reader, cell, scale, layout, color, dither=True), output)


def from_cells_in_bands(x: Tensor, residual: Tensor, model: GTASRVideo, output: VideoSpec) -> Planes:
    """Return the planes of bicubic(x) + residual, dithered, a few rows at a time, so that little memory is needed."""
    cell, side, layout = model.architecture.cell, model.architecture.cell * model.scale, output.layout
    sizes = [layout.plane_size(k, output.width, output.height) for k in range(min(layout.planes, 3))]
    planes = tuple(torch.empty(size, dtype=layout.dtype, device=x.device) for size in sizes)
    # Whole numbers of cells, and of the rows of dither; the margin is more than the filters of size and chroma see.
    for first in range(0, output.height, _BAND * side):
        top, bottom = first - min(first, _BAND // 2 * side), first + 3 * (_BAND // 2) * side
        rows = slice(top // side, bottom // side)
        seen = x[..., rows.start * cell : rows.stop * cell, :]
        picture = enlarge_picture(seen, model.scale) + model.to_picture(residual[..., rows, :]).float()
        picture = picture[..., : min(bottom, output.height) - top, : output.width].add_(1).mul_(0.5)
        last = min(first + _BAND * side, output.height)
        for index, part in enumerate(rgb_to_yuv(picture, layout, output.color, dither=True)[: len(planes)]):
            down = layout.log2_chroma_h if index in (1, 2) else 0
            begin, end = first >> down, -(-last >> down)
            planes[index][begin:end] = part[begin - (top >> down) : end - (top >> down)]
    return planes


def _cropped(planes: Planes, output: VideoSpec) -> Planes:
    sizes = (output.layout.plane_size(k, output.width, output.height) for k in range(len(planes)))
    return tuple(plane[:height, :width] for plane, (height, width) in zip(planes, sizes, strict=True))


def _is_sound(before: Tensor, after: Tensor) -> Tensor:
    """Return whether a picture came out, as far as its mean tells: NaN and infinity travel into it."""
    return torch.isfinite(after) & ((after > _BLACK) | (before < _DARK))


def _pad(x: Tensor, multiple: int) -> Tensor:
    """Continue `x` to the right and below with its last column and row, up to a multiple of `multiple`."""
    right, below = -x.shape[-1] % multiple, -x.shape[-2] % multiple
    return F.pad(x, (0, right, 0, below), mode="replicate") if right or below else x
