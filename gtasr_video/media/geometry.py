"""How a stream's picture is to be shown: which part of it, around the viewer, to two eyes.

What containers say of it PyAV shows in FFmpeg's description of a stream alone (`tags.describe`).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from gtasr_video.frames import PixelLayout

# Matroska's names of the ways in which a picture holds two eyes, by FFmpeg's AVStereo3DType: where the left one comes
# first, and where the right one does.
_STEREO_MODES: Final = {
    1: ("left_right", "right_left"),
    2: ("top_bottom", "bottom_top"),
    3: ("block_lr", "block_rl"),
    4: ("checkerboard_lr", "checkerboard_rl"),
    6: ("row_interleaved_lr", "row_interleaved_rl"),
    7: ("col_interleaved_lr", "col_interleaved_rl"),
}
_IN_WEBM: Final = {"mono", "left_right", "right_left", "top_bottom", "bottom_top"}
_UNNAMED: Final = "of another kind"
_STEREO: Final = struct.Struct("=2i")  # AVStereo3D: type, and whether the views are the other way round


@dataclass(frozen=True, slots=True)
class Crop:
    """Columns and rows of a decoded picture that a container hides, besides those that the codec leaves out itself."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) of what is shown of a picture."""
        return width - self.left - self.right, height - self.top - self.bottom

    def fits(self, width: int, height: int) -> bool:
        """Return whether something of a picture is shown."""
        return min(self.size(width, height)) > 0

    def of(self, planes: tuple[Tensor, ...], layout: PixelLayout) -> tuple[Tensor, ...]:
        """Return what is shown of the planes (h, w) of a picture, sharing their memory.

        Chroma begins with the sample that covers the first column and row, as FFmpeg has it.
        """
        if self == Crop():
            return planes
        width, height = self.size(planes[0].shape[1], planes[0].shape[0])
        shown = []
        for index, plane in enumerate(planes):
            rows, columns = layout.plane_size(index, width, height)
            is_chroma = index in (1, 2)
            top = self.top >> layout.log2_chroma_h if is_chroma else self.top
            left = self.left >> layout.log2_chroma_w if is_chroma else self.left
            shown.append(plane[top : top + rows, left : left + columns])
        return tuple(shown)


def stated_crop(description: str, width: int, height: int) -> Crop:
    """Return what a stream's description says is hidden of a decoded picture; nothing if all of it would be."""
    found = re.search(r"(?m)^ *Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)", description)
    crop = Crop(*map(int, found.groups())) if found else Crop()
    return crop if crop.fits(width, height) else Crop()


def stereo_mode(sides: dict[str, bytes]) -> str | None:
    """Return Matroska's name of how a frame with the `tags.side_data` holds two eyes, None if it holds one."""
    data = sides.get("STEREO3D")
    kind, inverted = (0, 0) if data is None else _STEREO.unpack(data[: _STEREO.size])
    return _STEREO_MODES.get(kind, (_UNNAMED, _UNNAMED))[inverted & 1] if kind else None


def carries_stereo(muxer: str, mode: str) -> bool:
    """Return whether a file of `muxer` can say `mode` by the tag ``stereo_mode``, which Matroska's muxer looks for."""
    return mode != _UNNAMED and (muxer == "matroska" or (muxer == "webm" and mode in _IN_WEBM))


def stereo_lost(muxer: str, mode: str) -> str:
    """Return the warning that a file or stream of `muxer` does not say `mode`."""
    way = "; use .mkv" if carries_stereo("matroska", mode) else ""
    return f"{muxer} cannot say here that the picture is stereo 3D ({mode}){way}"


def projections_left_out(description: str) -> Iterator[str]:
    """Yield how a stream's picture lies around the viewer, as the end of a sentence about the file."""
    found = re.search(r"(?m)^ *Spherical Mapping: ([a-z ]*[a-z])", description)
    if found is not None:
        yield (
            f"is a 360-degree picture ({found.group(1)}), which the output does not say; put that back with a tool "
            "such as Spatial Media Metadata Injector"
        )
