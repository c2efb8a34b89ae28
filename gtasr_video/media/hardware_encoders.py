"""Encoding on the GPU: `--codec h264_nvenc` is NVIDIA's encoder where it opens, and else the codec in software."""

from __future__ import annotations

import logging
from fractions import Fraction
from functools import cache
from typing import Any, Final

import av

from gtasr_video.frames import VideoSpec
from gtasr_video.media.codecs import Codec

log = logging.getLogger("gtasr_video")

_NVENC_PRESETS: Final = tuple(f"p{n}" for n in range(1, 8))
# Constant quality, as far as NVENC has it: a variable rate without a rate.
_NVENC_OPTIONS: Final = {"rc": "vbr", "b": "0"}


def _nvenc(name: str, encoder: str, crf: int) -> Codec:
    goals = {"quality": (crf - 4, "p7"), "speed": (crf, "p1"), "live": (crf + 5, "p3")}
    return Codec(
        name,
        encoder,
        (1, 51, crf),
        _NVENC_PRESETS,
        "p4",
        goals=goals,
        crf_option="cq",
        options=dict(_NVENC_OPTIONS),
        even=True,
    )


# What may be asked for; the name of each is that of the codec, which software makes too.
HARDWARE: Final = {"h264_nvenc": _nvenc("h264", "h264_nvenc", 19), "hevc_nvenc": _nvenc("h265", "hevc_nvenc", 21)}


def if_it_opens(codec: Codec, spec: VideoSpec) -> Codec | None:
    """Return `codec` if its encoder opens on this machine for frames like `spec`, else None; the log says why, once."""
    reason = "it is used for 8 bits" if spec.layout.bits > 8 else _refusal(codec.encoder, spec.width, spec.height)
    if reason is None:
        return codec
    _warn(f"{codec.encoder} is not used ({reason}); {codec.name} is encoded in software")
    return None


@cache
def _warn(line: str) -> None:
    """Log `line`, unless it was: an output is planned, checked and opened, and each asks."""
    log.warning("%s", line)


@cache
def _refusal(encoder: str, width: int, height: int) -> str | None:
    """Return why `encoder` does not open for pictures of this size, or None if it does."""
    try:
        context: Any = av.CodecContext.create(encoder, "w")
        context.width, context.height, context.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        context.time_base = Fraction(1, 25)
        context.open()
    except (av.FFmpegError, ValueError, RuntimeError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return None
