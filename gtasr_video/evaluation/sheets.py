"""Contact sheets: the same detail by every method side by side, and one row of pixels over time below it.

Scores do not show what is wrong with a picture; these do. In a time slice each line of pixels is one frame:
what stands still makes upright lines, steady motion slanted ones, and flicker breaks them up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.evaluation.streams import read_frames
from gtasr_video.ops.metrics import luma_full

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]

MARGIN = 6
LABEL = 20
PAPER, INK = (255, 255, 255), (20, 20, 20)
# A slice of few frames is drawn this high at least.
SLICE_HEIGHT = 96


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at, in pixels of the truth: a square of `size` of frame `frame`, and the row through it."""

    top: int
    left: int
    size: int
    frame: int

    @property
    def row(self) -> int:
        """The row of pixels whose change over time is shown: the square's middle one."""
        return self.top + self.size // 2


@dataclass(frozen=True, slots=True)
class Panel:
    """One column of a sheet, uint8 RGB: `crop` (size, size, 3), `slice` (frames, size, 3), `note` below the label."""

    label: str
    crop: Pixels
    slice: Pixels
    note: str = ""


def find_view(truth: Path, size: int) -> View:
    """Return the most detailed square of `size` pixels (or less, in a small picture) of the middle frame."""
    middle = sum(1 for _ in read_frames(truth)) // 2
    (frame,) = islice(read_frames(truth), middle, middle + 1)
    return replace(find_detail(frame, size), frame=middle)


def find_detail(frame: Tensor, size: int) -> View:
    """Return the square of uint8 (3, H, W) with the largest mean gradient, on a grid of 8 pixels."""
    size = min(size, *frame.shape[-2:])
    size -= size % 8
    light = luma_full(frame[None] / 255)
    gradient = F.pad(light.diff(dim=-1).abs(), (0, 1)) + F.pad(light.diff(dim=-2).abs(), (0, 0, 0, 1))
    detail = F.avg_pool2d(gradient, size, stride=8)[0, 0]
    top, left = divmod(int(detail.argmax()), detail.shape[1])
    return View(top * 8, left * 8, size, 0)


def look(label: str, video: Path, view: View, *, enlarge: int = 1, note: str = "") -> Panel:
    """Return what `view` shows of a video file; `enlarge` repeats the pixels of an LR video that often."""
    top, left, size, row = (v // enlarge for v in (view.top, view.left, view.size, view.row))
    crop, lines = None, []
    for index, frame in enumerate(read_frames(video)):
        lines.append(_repeat(frame[:, row : row + 1, left : left + size], enlarge)[:, :1])
        if index == view.frame:
            crop = _repeat(frame[:, top : top + size, left : left + size], enlarge)
    assert crop is not None, "a view lies within the clip"
    return Panel(label, _pixels(crop), _pixels(torch.cat(lines, 1)), note)


def panels(
    truth: Path,
    degraded: Path,
    results: Mapping[str, Path],
    scale: int,
    *,
    size: int = 160,
    view: View | None = None,
) -> list[Panel]:
    """Return input, results in their order, and truth, in `view` or the truth's most detailed square of `size`."""
    view = view or find_view(truth, size)
    middle = [look(label, file, view) for label, file in results.items()]
    return [look("input", degraded, view, enlarge=scale), *middle, look("truth", truth, view)]


def contact_sheet(columns: Sequence[Panel], *, title: str = "", zoom: int = 2, per_row: int = 8) -> Image:
    """Return the panels as one Pillow picture, `per_row` beside each other, pixels `zoom` times as large."""
    import PIL.Image

    rows = [columns[k : k + per_row] for k in range(0, len(columns), per_row)]
    strips = [_strip(row, zoom) for row in rows]
    head = LABEL + MARGIN if title else 0
    width = max(strip.width for strip in strips)
    sheet = PIL.Image.new("RGB", (width, head + sum(strip.height for strip in strips)), PAPER)
    if title:
        _write(sheet, title, (MARGIN, MARGIN), 15)
    top = head
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet


def save_sheet(path: Path, columns: Sequence[Panel], *, title: str = "", zoom: int = 2) -> None:
    """Write `contact_sheet` as JPEG (or what the suffix says), whole or not at all."""
    import PIL.Image

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    kind = PIL.Image.registered_extensions().get(path.suffix.lower(), "JPEG")
    options: dict[str, Any] = {"quality": 90, "subsampling": 0} if kind == "JPEG" else {}
    contact_sheet(columns, title=title, zoom=zoom).save(part, kind, **options)
    part.replace(path)


def enlarged_slice(panel: Panel) -> Pixels:
    """Return a panel's time slice with frames repeated until it is high enough to look at."""
    times = max(1, -(-SLICE_HEIGHT // panel.slice.shape[0])) if panel.slice.shape[0] > 1 else 1
    return panel.slice.repeat(times, axis=0)


def _strip(columns: Sequence[Panel], zoom: int) -> Image:
    import PIL.Image

    head = LABEL * (2 if any(panel.note for panel in columns) else 1)
    tiles = [_tile(panel, zoom, head) for panel in columns]
    width = sum(tile.width + MARGIN for tile in tiles) + MARGIN
    strip = PIL.Image.new("RGB", (width, max(tile.height for tile in tiles) + MARGIN), PAPER)
    left = MARGIN
    for tile in tiles:
        strip.paste(tile, (left, 0))
        left += tile.width + MARGIN
    return strip


def _tile(panel: Panel, zoom: int, head: int) -> Image:
    """Draw label and note in the upper `head` pixels, then the crop and, if there are more frames, the time slice."""
    import PIL.Image

    pictures = [panel.crop.repeat(zoom, 0).repeat(zoom, 1)]
    if panel.slice.shape[0] > 1:
        pictures.append(enlarged_slice(panel).repeat(zoom, 1))
    height = head + sum(p.shape[0] + MARGIN for p in pictures)
    tile = PIL.Image.new("RGB", (pictures[0].shape[1], height), PAPER)
    _write(tile, panel.label, (0, 2), 13)
    _write(tile, panel.note, (0, LABEL), 11)
    top = head
    for picture in pictures:
        tile.paste(PIL.Image.fromarray(picture), (0, top))
        top += picture.shape[0] + MARGIN
    return tile


def _write(picture: Image, text: str, at: tuple[int, int], size: int) -> None:
    from PIL import ImageDraw, ImageFont

    ImageDraw.Draw(picture).text(at, text, fill=INK, font=ImageFont.load_default(size))


def _repeat(x: Tensor, times: int) -> Tensor:
    return x.repeat_interleave(times, -1).repeat_interleave(times, -2)


def _pixels(x: Tensor) -> Pixels:
    return x.permute(1, 2, 0).contiguous().numpy()
