"""How a stream says what its numbers mean: matrix, range, primaries, transfer, chroma siting, rotation."""

from __future__ import annotations

import logging
import re
import struct
import threading
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, cast

import av
import av.logging
from av.sidedata.sidedata import Type as SideDataType
from av.video.stream import VideoStream

from gtasr_video.frames import ChromaSiting, ColorSpec, Matrix

# ITU-T H.273 table 4, the codes FFmpeg calls AVCOL_SPC_*. 240M differs from 709 by less than one 8-bit step.
_MATRIX_OF_CODE: Final[dict[int, Matrix]] = {
    0: "rgb",
    1: "bt709",
    4: "bt601",
    5: "bt601",
    6: "bt601",
    7: "bt709",
    9: "bt2020",
    10: "bt2020",
}
_CODE_OF_MATRIX: Final[dict[Matrix, int]] = {"rgb": 0, "bt709": 1, "bt601": 6, "bt2020": 9}
_SITINGS: Final[dict[str, ChromaSiting]] = {
    "left": "left",
    "center": "center",
    "topleft": "topleft",
    "top": "topleft",
    "bottomleft": "left",
    "bottom": "center",
}
_UNSPECIFIED: Final = 2
# Grey by FFmpeg's names: of these it takes the whole range for used where nothing is said, as their writers do.
_GREY: Final = ("gray", "ya8", "ya16", "mono")
_EXIF_CODECS: Final = {"mjpeg", "png", "apng", "webp", "tiff", "jpegxl"}
# The upper left corner of the matrix by which players turn a picture counter-clockwise.
_TURNS: Final = {0: (1, 0, 0, 1), 90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), 270: (0, 1, -1, 0)}
_log_lock = threading.Lock()
# While `describe` listens, other threads' FFmpeg messages must not reach stderr through logging's last resort.
logging.getLogger("libav").addHandler(logging.NullHandler())


def _unnamed(cls: type[SideDataType], value: object) -> SideDataType:
    """Return a stand-in for a kind of side data that PyAV has no name for."""
    member: Any = object.__new__(cls)
    member._name_, member._value_ = f"UNKNOWN_{value}", value
    return cast(SideDataType, member)


# FFmpeg has kinds of side data that PyAV does not name: it then fails, and crashes afterwards.
SideDataType._missing_ = classmethod(_unnamed)  # type: ignore[assignment, method-assign]


def guess_matrix(width: int, height: int) -> Matrix:
    """Return the matrix of an untagged YUV picture: 601 for standard definition, 709 above."""
    return "bt709" if width >= 1280 or height > 576 else "bt601"


def matrix_name(code: int) -> Matrix | None:
    """Return the matrix that an H.273 code says is used, or None where it says nothing or one unknown here."""
    return _MATRIX_OF_CODE.get(code)


class Stated(NamedTuple):
    """What a container says of the colours of a stream, as H.273 codes; 2 where it says nothing."""

    matrix: int = _UNSPECIFIED
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED


NOTHING_STATED: Final = Stated()


def stated_colors(stream: VideoStream) -> Stated:
    """Return what the container says of `stream`, of which nothing has been decoded yet."""
    context: Any = stream.codec_context
    # No container can make RGB of what a decoder gives as YUV.
    return Stated(context.colorspace or _UNSPECIFIED, context.color_primaries, context.color_trc)


def color_of(frame: av.VideoFrame, siting: ChromaSiting, stated: Stated = NOTHING_STATED) -> ColorSpec:
    """Return how to read the numbers of `frame`, deciding where neither its stream nor the container (`stated`) says.

    RGB and palette formats are "rgb" in full range, and grey is in full range unless it is said to be limited. A
    matrix code that no `Matrix` covers is treated as unsaid.
    """
    form = frame.format
    # The decoder of H.265 forgets what the container says.
    code = stated.matrix if frame.colorspace == _UNSPECIFIED else frame.colorspace
    is_rgb = form.is_rgb or form.has_palette
    matrix = "rgb" if is_rgb else _MATRIX_OF_CODE.get(code) or guess_matrix(frame.width, frame.height)
    is_grey = form.name.startswith(_GREY)
    if matrix == "rgb" and is_grey:
        matrix = guess_matrix(frame.width, frame.height)
    full = is_rgb or form.name.startswith("yuvj") or frame.color_range == 2 or (is_grey and frame.color_range == 0)
    return ColorSpec(
        matrix=matrix,
        full_range=full,
        primaries=_said(frame.color_primaries, stated.primaries),
        transfer=_said(frame.color_trc, stated.transfer),
        chroma_siting=siting,
        matrix_code=code if _MATRIX_OF_CODE.get(code) == matrix else _UNSPECIFIED,
    )


def _said(*codes: int) -> int:
    """Return the first of these H.273 codes that says something; the reserved ones do not."""
    return next((code for code in codes if code not in (0, _UNSPECIFIED, 3)), _UNSPECIFIED)


def oddities(frame: av.VideoFrame, interlaced: bool) -> Iterator[str]:
    """Yield what is said of `frame`'s stream that is not carried on, as the end of a sentence about the file."""
    form, code = frame.format, frame.colorspace
    if code not in _MATRIX_OF_CODE and code != _UNSPECIFIED and not form.is_rgb:
        used = guess_matrix(frame.width, frame.height)
        yield f"uses colour matrix {code} of H.273, which is not known here; {used} is used instead"
    if interlaced:
        yield "is interlaced; its frames are enlarged as they are, without making whole pictures of its fields"


def matrix_code(color: ColorSpec) -> int:
    """Return the H.273 code to write for `color`: the source's own where it agrees with the matrix used."""
    if _MATRIX_OF_CODE.get(color.matrix_code) == color.matrix:
        return color.matrix_code
    return _CODE_OF_MATRIX[color.matrix]


def describe(container: av.container.InputContainer) -> dict[int, str]:
    """Return FFmpeg's description of each stream, by stream index: one line, then one for each piece of side data.

    The only door PyAV leaves to the chroma siting. FFmpeg prints it into its log, so the log is listened to for
    the moment of one call, which never releases the interpreter lock.
    """
    with _log_lock:
        level = av.logging.get_level()
        av.logging.set_libav_level(av.logging.VERBOSE)
        av.logging.set_level(av.logging.VERBOSE)
        try:
            text: str = container.dumps_format()  # type: ignore[attr-defined]  # PyAV's stubs lack it
        finally:
            av.logging.set_level(level)
            av.logging.set_libav_level(av.logging.INFO)
    parts = re.split(r"^ *Stream #\d+:(\d+)", text, flags=re.MULTILINE)
    return {int(index): part for index, part in zip(parts[1::2], parts[2::2], strict=True)}


def chroma_siting(description: str) -> ChromaSiting:
    """Return where chroma samples lie according to a stream's description; "left" where it does not say.

    Codecs define "left" for streams that are silent; MPEG-1 and JPEG decoders say "center" themselves.
    """
    for group in re.findall(r"\(([^()]*)\)", description.partition("\n")[0]):
        for word in re.split(r"[,/ ]+", group):
            if word in _SITINGS:
                return _SITINGS[word]
    return "left"


def codec_in(description: str) -> str:
    """Return the codec that a stream's description names, "" where it names none.

    That of an MPEG-TS can change on the way, of which PyAV takes no notice.
    """
    found = re.match(r".*?: (?:Video|Audio): (\w+)", description)
    return found.group(1) if found else ""


def stated_rotation(description: str) -> int:
    """Return the degrees counter-clockwise that a stream's description says players turn the picture by."""
    found = re.search(r"(?i)display ?matrix: rotation of (-?[\d.]+) degrees", description)
    return round(float(found.group(1))) % 360 if found else 0


def side_data(frame: av.VideoFrame, codec: str) -> dict[str, bytes]:
    """Return what a frame decoded from `codec` carries beside its picture, by FFmpeg's names of the kinds.

    Nothing for codecs that may carry EXIF data, which PyAV frees twice: there only the rotation is told, as if by a
    display matrix.
    """
    if codec in _EXIF_CODECS:
        turned = frame.rotation % 360
        matrix = matrix_of(turned, mirrored=False) if turned % 90 == 0 else ()
        return {"DISPLAYMATRIX": struct.pack("=9i", *matrix)} if turned and matrix else {}
    found: Any = frame.side_data  # yields the data, whatever its type says
    return {data.type.name: bytes(data) for data in found}


def display_matrix(sides: dict[str, bytes]) -> tuple[int, ...] | None:
    """Return the nine numbers (16.16 and 2.30 fixed point) by which players turn or mirror the picture, if any.

    `sides` is the `side_data` of a frame.
    """
    data = sides.get("DISPLAYMATRIX")
    if data is None:
        return None
    numbers = struct.unpack("=9i", data[:36])
    return (*numbers[:6], 0, 0, numbers[8])


def orientation(matrix: tuple[int, ...] | None) -> tuple[int, bool]:
    """Return (degrees counter-clockwise, mirrored left to right before that) of a display matrix.

    One that turns by no quarter, or stretches, counts as none here; it is carried along all the same.
    """
    corner = () if matrix is None else tuple(_sign(matrix[i]) for i in (0, 1, 3, 4))
    for mirrored in (False, True):
        for rotation, (a, b, c, d) in _TURNS.items():
            if corner == ((-a, -b, c, d) if mirrored else (a, b, c, d)):
                return rotation, mirrored
    return 0, False


def matrix_of(rotation: int, *, mirrored: bool) -> tuple[int, ...]:
    """Return the display matrix that `orientation` reads as these."""
    a, b, c, d = (65536 * number for number in _TURNS[rotation])
    return (-a, -b, 0, c, d, 0, 0, 0, 1 << 30) if mirrored else (a, b, 0, c, d, 0, 0, 0, 1 << 30)


def turns(matrix: tuple[int, ...] | None) -> bool:
    """Return whether players show the picture otherwise than it is coded: turned by any angle, or mirrored."""
    return matrix is not None and (matrix[1], matrix[3], matrix[0] > 0, matrix[4] > 0) != (0, 0, True, True)


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
