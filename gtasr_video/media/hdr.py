"""What a stream says of the display it was mastered on, read from its first frame, and told to the encoders.

Three encoders write it into their bitstreams; PyAV has no door to a container's own record of it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from gtasr_video.frames import HdrMetadata, VideoSpec

_PQ, _HLG = 16, 18
# AVMasteringDisplayMetadata: red, green, blue and white point (x, y each), lowest and highest luminance, as
# fractions, then whether the one and the other are there.
_MASTERING: Final = struct.Struct("=22i")
_LIGHT: Final = struct.Struct("=2I")


def is_hdr(spec: VideoSpec) -> bool:
    """Return whether `spec` has the transfer of PQ or HLG, which 8 bits show as steps."""
    return spec.color.transfer in (_PQ, _HLG)


def hdr_of(sides: dict[str, bytes]) -> HdrMetadata | None:
    """Return what the `tags.side_data` of a frame say of mastering display and content light level, or None."""
    mastering, light = sides.get("MASTERING_DISPLAY_METADATA"), sides.get("CONTENT_LIGHT_LEVEL")
    display = None if mastering is None else _display(mastering)
    levels = None if light is None else _LIGHT.unpack(light[: _LIGHT.size])
    if display is None and levels is None:
        return None
    return HdrMetadata(display, None if levels is None else (levels[0], levels[1]))


def _display(data: bytes) -> tuple[Fraction, ...] | None:
    """Return the ten numbers of `HdrMetadata.display`; None unless all are there, as encoders take all or nothing."""
    numbers = _MASTERING.unpack(data[: _MASTERING.size])
    if not (numbers[20] and numbers[21] and all(numbers[1:20:2])):
        return None
    return tuple(Fraction(numbers[i], numbers[i + 1]) for i in range(0, 20, 2))


def encoder_options(encoder: str, hdr: HdrMetadata | None) -> dict[str, str]:
    """Return the options that make `encoder` write `hdr`; empty where it cannot."""
    if hdr is None:
        return {}
    if encoder == "libsvtav1":
        return _joined("svtav1-params", _points(hdr, 1, 1, "mastering-display"), _levels(hdr, "content-light"))
    if encoder in ("libx264", "libx265"):
        display = "mastering-display" if encoder == "libx264" else "master-display"
        light = "cll" if encoder == "libx264" else "max-cll"
        # In steps of 0.00002 and of 0.0001 cd/m2, the order green, blue, red, white, as in SMPTE ST 2086's SEI.
        return _joined(f"{encoder[3:]}-params", _points(hdr, 50_000, 10_000, display), _levels(hdr, light))
    return {}


def _joined(name: str, *parts: str) -> dict[str, str]:
    return {name: ":".join(filter(None, parts))}


def _points(hdr: HdrMetadata, across: int, light: int, name: str) -> str:
    if hdr.display is None:
        return ""
    red, green, blue, white = (hdr.display[i : i + 2] for i in range(0, 8, 2))
    low, high = hdr.display[8:]

    def pair(values: tuple[Fraction, ...], unit: int) -> str:
        return ",".join(_number(value * unit, whole=unit > 1) for value in values)

    points = zip("GBR", (green, blue, red), strict=True)
    corners = "".join(f"{letter}({pair(xy, across)})" for letter, xy in points)
    return f"{name}={corners}WP({pair(white, across)})L({pair((high, low), light)})"


def _number(value: Fraction, *, whole: bool) -> str:
    return str(round(value)) if whole else f"{float(value):.6f}"


def _levels(hdr: HdrMetadata, name: str) -> str:
    return "" if hdr.light is None else f"{name}={hdr.light[0]},{hdr.light[1]}"


def layers_left_out(sides: dict[str, bytes], description: str) -> Iterator[str]:
    """Yield what lies over or in the picture and does not survive, as the end of a sentence about the file."""
    profile = dolby_profile(description)
    if profile is not None or "DOVI_METADATA" in sides:
        named = "" if profile is None else f" (profile {profile})"
        yield f"has a Dolby Vision layer{named}, which is left out; its base picture is kept"
    if "DYNAMIC_HDR_PLUS" in sides:
        yield "has HDR10+ metadata that change with the picture, which are left out; the static ones are kept"
    if "A53_CC" in sides:
        yield "has closed captions inside its picture, which are left out; extract them to a subtitle stream first"


def dolby_profile(description: str) -> int | None:
    """Return the profile of Dolby Vision that FFmpeg's description of a stream names, or None."""
    found = re.search(r"DOVI configuration record:.*?profile: (\d+)", description)
    return int(found.group(1)) if found else None


def has_no_base(description: str) -> bool:
    """Return whether a Dolby Vision stream's base picture is in colours that only its layer explains."""
    record = re.search(r"DOVI configuration record:.*", description)
    return record is not None and "compatibility id: 0" in record.group(0) and dolby_profile(description) == 5


def no_base(name: str) -> str:
    """Return why the stream called `name`, which `has_no_base`, is refused."""
    return (
        f"{name} is Dolby Vision without a base picture (profile 5): its colours would be wrong; convert it to profile "
        "8.1 first, or use --drop-unsupported to go on all the same"
    )
