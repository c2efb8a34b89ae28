"""What can be asked of streams, with every default."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from gtasr_video.errors import UsageError
from gtasr_video.media.numbers import check_rate
from gtasr_video.media.planes import LAYOUTS


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """How pipes and addresses are read and written.

    input_format    y4m, nut, mpegts, matroska or rawvideo; None recognises it (all but rawvideo)
    size, rate, input_pix_fmt   of rawvideo, which says none of them itself: ``1280x720``, ``30`` or ``30000/1001``
    output_format   as input_format; None takes the input's

    listen          wait at the input's address for one who publishes, instead of connecting to it
    on_end          what to do when a stream has ended: "stop", or "wait" until there is more
    open_timeout, read_timeout   seconds without a first byte, or a further one, until a connection counts as dead
    give_up         seconds without a connection until a stream counts as lost (with ``on_end="wait"`` never)
    max_bitrate   the most bits a second from a publisher we listen for
    max_pixels    the most pixels in a picture of whatever address is read
    rtsp_transport  tcp or udp
    ca_file         certificates (PEM) to trust besides those that the system trusts: rtmps, rtsps, https

    sound           auto copies it where the receiver takes it and else encodes it as AAC; aac always encodes it; none
    loudness        LUFS to bring sound to, such as -16; it then comes 3 s later than the picture into the output
    silence         give silence to receivers that want sound, such as RTMP services, where the source has none

    also            further outputs of the same pictures: addresses, and HLS or DASH lists
    segments        how many pieces of about two seconds an HLS or DASH list holds, older ones being deleted; 0: all

    Raises UsageError for a value that none of them can have.

    Example::

        >>> StreamConfig(size="320x180").picture_size
        (320, 180)
    """

    input_format: str | None = None
    size: str | None = None
    rate: str | None = None
    input_pix_fmt: str = "yuv420p"
    output_format: str | None = None
    listen: bool = False
    on_end: Literal["stop", "wait"] = "stop"
    open_timeout: float = 10.0
    read_timeout: float = 10.0
    give_up: float = 60.0
    max_bitrate: float = 100e6
    max_pixels: int = 4096 * 2304
    rtsp_transport: Literal["tcp", "udp"] = "tcp"
    ca_file: str | None = None
    sound: Literal["auto", "aac", "none"] = "auto"
    loudness: float | None = None
    silence: bool = True
    also: tuple[str, ...] = ()
    segments: int = 0

    def __post_init__(self) -> None:
        for name in ("open_timeout", "read_timeout", "give_up", "max_bitrate", "max_pixels"):
            if not getattr(self, name) > 0:
                raise UsageError(f"stream.{name} must be more than 0, not {getattr(self, name)}")
        if self.segments < 0:
            raise UsageError(f"stream.segments must be 0 (all of them) or more, not {self.segments}")
        if self.size is not None:
            _ = self.picture_size
        if self.rate is not None:
            check_rate(self.rate)
        _ = self.pixel_format
        if self.ca_file is not None:
            _check_certificates(self.ca_file)
        if self.loudness is not None and not -70 <= self.loudness <= -5:
            raise UsageError(f"stream.loudness {self.loudness:g} is outside -70 to -5 LUFS")

    @property
    def picture_size(self) -> tuple[int, int]:
        """`size` as (width, height). Raises UsageError."""
        found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", self.size or "")
        if found is None or not all(int(side) for side in found.groups()):
            given = "and none was given" if self.size is None else f"not '{self.size}'"
            raise UsageError(f"rawvideo needs --size WIDTHxHEIGHT such as 1280x720, {given}")
        return int(found[1]), int(found[2])

    @property
    def frame_rate(self) -> Fraction:
        """`rate` as an exact number. Raises UsageError."""
        if self.rate is None:
            raise UsageError("rawvideo needs --rate FPS such as 25 or 30000/1001, and none was given")
        return check_rate(self.rate)

    @property
    def pixel_format(self) -> str:
        """`input_pix_fmt`, checked. Raises UsageError."""
        if self.input_pix_fmt not in LAYOUTS and self.input_pix_fmt not in ("nv12", "rgb24", "bgr24", "rgba", "bgra"):
            raise UsageError(f"unknown --input-pix-fmt '{self.input_pix_fmt}'; use yuv420p, nv12, rgb24 or the like")
        return self.input_pix_fmt


def _check_certificates(path: str) -> None:
    """Refuse a file that holds no certificates: FFmpeg would pass over it. Raises UsageError."""
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        reason = "it holds no certificates in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(f"stream.ca_file {path}: cannot be used ({reason})") from error
