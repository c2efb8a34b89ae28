"""The data that travels: one `Frame`, the `VideoSpec` that all frames share, and who gives and takes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, Protocol, TypedDict, runtime_checkable

import torch

from gtasr_video.errors import UsageError

Matrix = Literal["bt601", "bt709", "bt2020", "rgb"]
ChromaSiting = Literal["left", "center", "topleft"]


@dataclass(frozen=True, slots=True)
class ColorSpec:
    """How numbers become light. `primaries` and `transfer` are the ITU-T H.273 codes (2 = unspecified).

    `matrix` and `full_range` are what is USED, also when the source did not say: the reader decides
    (601 up to 576 lines and below 1280 columns, 709 above; limited range for YUV) and the writer always writes it.
    `matrix_code` is the source's own H.273 code where one matrix has several (5 and 6 are both bt601), else 2.

    Example::

        >>> ColorSpec("bt601").full_range
        False
    """

    matrix: Matrix = "bt709"
    full_range: bool = False
    primaries: int = 2
    transfer: int = 2
    chroma_siting: ChromaSiting = "left"
    matrix_code: int = 2


@dataclass(frozen=True, slots=True)
class HdrMetadata:
    """What a stream says of its mastering, the same for all frames (SMPTE ST 2086, CTA-861.3).

    display   chromaticities x, y of red, green, blue and white of the mastering display, then its lowest and highest
              luminance in cd/m2: ten numbers; None where not all are known
    light     the largest light level of a pixel and of a frame's mean, in cd/m2

    Example::

        >>> HdrMetadata(None, (1000, 400)).light
        (1000, 400)
    """

    display: tuple[Fraction, ...] | None = None
    light: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """Planar layout: `bits` per sample (8 to 16), chroma subsampling as log2 factors, and FFmpeg's name.

    4:2:0 is ``log2_chroma_w = log2_chroma_h = 1``, 4:2:2 is (1, 0), 4:4:4 is (0, 0).
    `planes` is 3, or 1 for grey, or 4 with alpha (how opaque a pixel is, always in full range and at full size).
    Names that start with ``gbr`` hold RGB, in the order G, B, R.

    Example::

        >>> PixelLayout("yuv420p").plane_size(1, 17, 11)
        (6, 9)
    """

    name: str
    bits: int = 8
    log2_chroma_w: int = 1
    log2_chroma_h: int = 1
    planes: int = 3

    def plane_size(self, plane: int, width: int, height: int) -> tuple[int, int]:
        """Return (height, width) of `plane` for a picture of `width` x `height`; odd sizes round up."""
        if plane in (0, 3):
            return height, width
        return -(-height >> self.log2_chroma_h), -(-width >> self.log2_chroma_w)

    @property
    def alpha(self) -> bool:
        """Whether the last plane says how opaque each pixel is."""
        return self.planes == 4

    @property
    def rgb(self) -> bool:
        """Whether the planes are G, B and R."""
        return self.name.startswith("gbr")

    @property
    def dtype(self) -> torch.dtype:
        """`torch.uint8` up to 8 bits, else `torch.uint16` (value in the low bits)."""
        return torch.uint8 if self.bits <= 8 else torch.uint16


@dataclass(frozen=True, slots=True)
class VideoSpec:
    """What all frames of a stream share.

    width, height     coded picture size in pixels, before rotation
    time_base         seconds per tick of every `pts` (exact)
    frame_rate        average rate, or None where the container does not say; a hint, never a clock
    sample_aspect     width / height of one pixel
    rotation          degrees counter-clockwise a player turns the picture (0, 90, 180, 270)
    mirrored          whether it mirrors the picture, left to right, before it turns it
    interlaced        True where the stream says its frames are fields
    hdr               what the stream says of its mastering, if anything

    Example::

        >>> from fractions import Fraction
        >>> spec = VideoSpec(64, 48, Fraction(1, 25), PixelLayout("yuv420p"))
        >>> spec.scaled(4).width, spec.scaled(4).height
        (256, 192)
    """

    width: int
    height: int
    time_base: Fraction
    layout: PixelLayout
    color: ColorSpec = ColorSpec()
    frame_rate: Fraction | None = None
    sample_aspect: Fraction = Fraction(1)
    rotation: int = 0
    mirrored: bool = False
    interlaced: bool = False
    hdr: HdrMetadata | None = None

    @property
    def is_turned(self) -> bool:
        """Whether a player shows the picture otherwise than it is coded: turned, or mirrored."""
        return self.mirrored or self.rotation != 0

    def upright(self) -> VideoSpec:
        """Return the specification of the same stream with the picture coded as players show it."""
        width, height, aspect = self.width, self.height, self.sample_aspect
        if self.rotation in (90, 270):
            width, height, aspect = height, width, 1 / aspect
        return replace(self, width=width, height=height, sample_aspect=aspect, rotation=0, mirrored=False)

    def scaled(self, scale: int) -> VideoSpec:
        """Return the specification of the same stream after enlarging by `scale`."""
        return replace(self, width=self.width * scale, height=self.height * scale)


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded picture.

    planes     one tensor a plane, (h, w) each, `layout.dtype`, on any device
    pts        presentation time in ticks of `VideoSpec.time_base`; exact, never seconds
    duration   ticks until the next frame, 0 where unknown
    cut        True if this frame does not continue the one before (first frame, discontinuity)
    key        True if it is a key picture of its source: decoding can begin there

    Example::

        >>> import torch
        >>> luma = torch.full((4, 6), 128, dtype=torch.uint8)
        >>> Frame((luma, luma[:2, :3], luma[:2, :3]), pts=3003, duration=1001)
        Frame(pts=3003, duration=1001, uint8 6x4, 3x2, 3x2)
    """

    planes: tuple[torch.Tensor, ...]
    pts: int
    duration: int = 0
    cut: bool = False
    key: bool = False

    def __post_init__(self) -> None:
        """Raise UsageError for planes or times that are something else, such as arrays of numpy."""
        for plane in self.planes:
            if not isinstance(plane, torch.Tensor):
                raise UsageError(
                    f"planes of a Frame are tensors, not {type(plane).__name__}; torch.from_numpy makes one"
                )
        if not (isinstance(self.pts, int) and isinstance(self.duration, int)):
            raise UsageError(f"pts and duration of a Frame are whole ticks, not {self.pts!r} and {self.duration!r}")

    def __repr__(self) -> str:
        shapes = ", ".join("x".join(map(str, p.shape[::-1])) for p in self.planes)
        kind = str(self.planes[0].dtype).removeprefix("torch.") if self.planes else "empty"
        return f"Frame(pts={self.pts}, duration={self.duration}, {kind} {shapes}{', cut' if self.cut else ''})"


class Vitals(TypedDict, total=False):
    """How a live source or sink is doing, as plain numbers; what means nothing to it is left out.

    reconnects    times it had to connect anew
    lost          packets that the network lost on their way to it
    dropped       frames it gave up itself, because its peer did not take them
    bitrate_bps   bits a second, over the last seconds
    av_offset_s   seconds by which sound is ahead of the picture; negative: behind
    queues        items that wait in it, by queue
    waited_s      seconds, since its first frame, in which a source had nothing
    """

    reconnects: int
    lost: int
    dropped: int
    bitrate_bps: float
    av_offset_s: float
    queues: dict[str, int]
    waited_s: float


class FrameReader(Protocol):
    """Where frames come from: a file, a pipe, memory. Opened by one thread, iterated once by one thread.

    Iterating yields every frame in presentation order with strictly increasing `pts`; errors are InputError.
    """

    @property
    def spec(self) -> VideoSpec:
        """What all frames share; known before the first one is yielded."""

    @property
    def frame_count_estimate(self) -> int | None:
        """Frames this reader will yield as far as the container knows; None if unknown."""

    @property
    def duration(self) -> Fraction | None:
        """Seconds this reader will yield as far as the container knows; None if unknown."""

    @property
    def corrupt_packets(self) -> int:
        """Damaged packets met so far; decoding goes on after each."""

    def facts(self) -> dict[str, Any]:
        """Return plain JSON-able facts about the source and what was met in it so far."""

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Release the source; calling it again does nothing."""


class FrameWriter(Protocol):
    """Where frames go. Written, finished or aborted by one thread."""

    @property
    def spec(self) -> VideoSpec:
        """What frames given to `write` must look like; its layout may differ from the source's."""

    def write(self, frame: Frame) -> None:
        """Take the next frame; `pts` must increase. Raises OutputError."""

    def finish(self) -> None:
        """Make the output whole under its final name; calling it again does nothing. Raises OutputError."""

    def abort(self) -> None:
        """Throw the output away; does nothing after `finish` or another `abort`, and never raises."""

    def facts(self) -> dict[str, Any]:
        """Return plain JSON-able facts about the output: codec, format, what was copied or left out."""


@runtime_checkable
class Live(Protocol):
    """What a source or sink of a live stream has besides, if it has something to tell."""

    def vitals(self) -> Vitals:
        """Return how it is doing right now; any thread may ask, at any time, and is answered at once."""


@runtime_checkable
class Stoppable(Protocol):
    """What a source has besides whose next frame may be long in coming."""

    def stop(self) -> None:
        """Let the iteration end soon as if the source had ended; any thread may call it, again too."""


@runtime_checkable
class Interruptible(Protocol):
    """What a sink has besides whose `write` or `finish` may wait for someone who takes what is written."""

    def hurry(self) -> None:
        """Let it fail from now on where nothing is taken for a few seconds; any thread may call it, again too."""

    def stop(self) -> None:
        """Let it fail at once where it waits, and from now on; any thread may call it, again too."""
