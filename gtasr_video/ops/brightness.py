"""How bright a frame is, cheaply: what shows that a picture has gone black on its way."""

from __future__ import annotations

from typing import Final

from gtasr_video.frames import Frame, VideoSpec

# Rows and columns looked at, at most, in each direction: a mean of so many is exact to a fraction of a step.
_SIDE: Final = 128
# A picture below this share of the range is black; one that was brighter than the other has lost its picture.
_BLACK: Final = 0.02
_NOT_BLACK: Final = 0.05
# A picture whose mean moves by more than this share of the range is not the same picture, only larger.
_MOVED: Final = 0.15


def brightness(frame: Frame, spec: VideoSpec) -> float:
    """Return the mean luma of `frame`, 0 black and 1 white; the mean of G, B and R where there is no luma."""
    top = (1 << spec.layout.bits) - 1
    planes = frame.planes if spec.color.matrix == "rgb" else frame.planes[:1]
    means = []
    for plane in planes:
        across, down = -(-plane.shape[1] // _SIDE), -(-plane.shape[0] // _SIDE)
        means.append(float(plane[::down, ::across].float().mean()) / top)
    mean = sum(means) / len(means)
    return mean if spec.color.full_range else (mean * 255 - 16) / 219


def has_lost_its_picture(before: float, after: float) -> bool:
    """Return whether a frame of brightness `before` cannot have become one of brightness `after` by enlarging."""
    went_black = after < _BLACK and before > _NOT_BLACK
    return went_black or abs(after - before) > _MOVED
