"""Decoding on the GPU: chosen by opening it, watched for lost frames, given up for software without losing one.

FFmpeg lists hardware decoders everywhere, so a list says nothing; a decoder is there if it opens on this machine for
this file. Pictures stay on the device (NV12, P010) and are taken over there, as planes.
"""

from __future__ import annotations

import heapq
import logging
from pathlib import Path
from typing import Any, Final, Protocol

import av
import torch
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.stream import VideoStream
from torch import Tensor

from gtasr_video.errors import InputError
from gtasr_video.frames import PixelLayout
from gtasr_video.media.source import Packet, open_input

log = logging.getLogger("gtasr_video")

# Pictures that wait between this decoder and the network keep a surface each, until they are taken over.
_MORE_SURFACES: Final = "8"
_SEMI_PLANAR: Final = ("nv12", "p010le")


class Door(Protocol):
    """A way to decoders that may not be there."""

    def open(self, path: Path) -> InputContainer:
        """Open a file so that its pictures are decoded there. Raises whatever it likes where that cannot be."""

    def set_up(self, context: Any) -> None:
        """Adjust the decoder before its first packet."""

    def decode(self, stream: VideoStream, packet: Packet) -> list[av.VideoFrame]:
        """Return the frames that are ready after `packet`. Raises av.FFmpegError."""


class Nvdec:
    """NVIDIA's decoder on CUDA device `index`; its frames stay there, in the context that torch uses."""

    def __init__(self, index: int = 0) -> None:
        self._index = index

    def open(self, path: Path) -> InputContainer:
        """Open `path`; raises where there is no such device or it does not know the codec."""
        options: dict[str, object] = {"primary_ctx": "1"}
        device = str(self._index)
        return open_input(
            path, HWAccel("cuda", device, allow_software_fallback=False, options=options, is_hw_owned=True)
        )

    def set_up(self, context: Any) -> None:
        """Ask for surfaces enough; threads are of no use."""
        context.options = {**context.options, "extra_hw_frames": _MORE_SURFACES}
        context.thread_count = 1

    def decode(self, stream: VideoStream, packet: Packet) -> list[av.VideoFrame]:
        """Return the frames that are ready."""
        return list(stream.decode(packet))


def try_door(door: Door | None, path: Path) -> InputContainer | None:
    """Return `path` opened through `door`, or None if that cannot be; the log says why."""
    if door is None:
        return None
    try:
        return door.open(path)
    except (av.FFmpegError, InputError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        log.info("decoding in software: the hardware's decoder does not open (%s)", " ".join(str(error).split()))
        return None


class Watch:
    """Notices that a decoder has lost a frame: one came that is shown later than one still awaited."""

    def __init__(self) -> None:
        self._awaited: list[int] = []

    def fed(self, pts: int | None) -> None:
        """Say that a packet shown at `pts` was given to the decoder."""
        if pts is not None:
            heapq.heappush(self._awaited, pts)

    def lost(self, pts: int | None) -> bool:
        """Say that a frame shown at `pts` came out; returns whether another should have come before it."""
        if pts is None or not self._awaited:
            return False
        first = heapq.heappop(self._awaited)
        return first < pts

    @property
    def awaited(self) -> int:
        """Frames that have not come out yet."""
        return len(self._awaited)


def format_name(picture: av.VideoFrame) -> str:
    """Return FFmpeg's name of how the samples of `picture` lie, on a device too."""
    form = picture.sw_format if picture.format.name == "cuda" else picture.format
    return form.name  # type: ignore[union-attr]


def is_on_device(picture: av.VideoFrame) -> bool:
    """Return whether `picture` lies in a GPU's memory."""
    return picture.format.name == "cuda"


def on_host(picture: av.VideoFrame) -> av.VideoFrame:
    """Return `picture` in ordinary memory: itself, or a copy of what lies on a device."""
    return picture.reformat(format=format_name(picture), threads=1) if is_on_device(picture) else picture


def device_planes(picture: av.VideoFrame, layout: PixelLayout) -> tuple[Tensor, ...]:
    """Return the planes of an NV12 or P010 `picture` where it lies, in new memory; ordered on the default stream."""
    luma, pairs = (torch.utils.dlpack.from_dlpack(plane.__dlpack__()) for plane in picture.planes)
    samples = luma, *pairs.view(pairs.shape[0], -1, 2).unbind(-1)
    if layout.bits == 8:
        return tuple(plane.clone(memory_format=torch.contiguous_format) for plane in samples)
    # P010 keeps its ten bits at the top of sixteen.
    return tuple((plane.to(torch.int32) >> 6).to(torch.uint16) for plane in samples)


def fits(picture: av.VideoFrame) -> bool:
    """Return whether `picture` can be taken over: it is in ordinary memory, or of a form `device_planes` knows."""
    return not is_on_device(picture) or format_name(picture) in _SEMI_PLANAR
