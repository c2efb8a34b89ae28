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


# G, B and R in luma, halfway between BT.601 and BT.709: a frame is compared with itself in either.
_WEIGHTS: Final = (0.65, 0.09, 0.26)


def brightness(frame: Frame, spec: VideoSpec) -> float:
    """Return the mean luma of `frame`, 0 black and 1 white, nearly so where it consists of G, B and R."""
    top = (1 << spec.layout.bits) - 1
    weights = _WEIGHTS if spec.layout.rgb else (1.0,)
    mean = 0.0
    for weight, plane in zip(weights, frame.planes, strict=False):
        across, down = -(-plane.shape[1] // _SIDE), -(-plane.shape[0] // _SIDE)
        mean += weight * float(plane[::down, ::across].float().mean()) / top
    return mean if spec.color.full_range else (mean * 255 - 16) / 219


def has_lost_its_picture(before: float, after: float) -> bool:
    """Return whether a frame of brightness `before` cannot have become one of brightness `after` by enlarging."""
    went_black = after < _BLACK and before > _NOT_BLACK
    return went_black or abs(after - before) > _MOVED
