"""A short clip through a real encoder and its decoder, in memory: what a codec does to a picture."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from gtasr_video.errors import OutputError

_ENCODERS = {"h264": "libx264", "hevc": "libx265", "mpeg4": "mpeg4", "vp9": "libvpx-vp9"}


def round_trip(clip: Tensor, codec: str, crf: float, preset: str = "veryfast", *, b_frames: bool = True) -> Tensor:
    """Encode and decode `clip` (T, 3, H, W) uint8 RGB with even H and W; returns the same shape.

    `codec` is h264, hevc, mpeg4 or vp9; `crf` is on H.264's scale and mapped to a like quality of the others;
    `b_frames` lets pictures be predicted from both sides.
    One thread, so that equal input gives equal output. Raises OutputError if the encoder is missing or fails.
    """
    try:
        packets, extradata = _encode(clip, codec, crf, preset, b_frames)
        frames = _decode(packets, extradata, codec)
    except (av.FFmpegError, ValueError) as error:
        raise OutputError(f"cannot degrade with {codec} at crf {crf:.1f}: {error}") from error
    if len(frames) != clip.shape[0]:
        raise OutputError(f"{codec} returned {len(frames)} of {clip.shape[0]} frames")
    return torch.stack([_to_tensor(frame) for frame in frames])


def _options(codec: str, crf: float, preset: str) -> dict[str, str]:
    if codec == "h264":
        return {"crf": f"{crf:.2f}", "preset": preset}
    if codec == "hevc":
        quiet = "log-level=none:pools=none:frame-threads=1"
        return {"crf": f"{crf + 2:.2f}", "preset": "ultrafast", "x265-params": quiet}
    if codec == "vp9":
        return {"crf": str(min(63, round(crf * 1.7))), "b": "0", "deadline": "realtime", "cpu-used": "7"}
    return {}


def _encode(clip: Tensor, codec: str, crf: float, preset: str, b_frames: bool) -> tuple[list[Any], bytes | None]:
    context = av.CodecContext.create(_ENCODERS[codec], "w")
    assert isinstance(context, av.VideoCodecContext)
    context.height, context.width = clip.shape[-2:]
    context.pix_fmt = "yuv420p"
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.thread_count = 1
    context.options = _options(codec, crf, preset)
    if codec != "vp9":
        context.max_b_frames = (2 if codec == "mpeg4" else 3) if b_frames else 0
    if codec == "mpeg4":
        # MPEG-4 has no rate factor: a fixed quantiser that doubles where the factor grows by 6.
        context.qmin = context.qmax = int(np.clip(round(2 ** ((crf - 11) / 6)), 1, 31))
    packets: list[Any] = []
    for number, picture in enumerate(clip.permute(0, 2, 3, 1).contiguous().numpy()):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts = number
        packets += context.encode(frame)
    packets += context.encode(None)
    return packets, context.extradata


def _decode(packets: list[Any], extradata: bytes | None, codec: str) -> list[av.VideoFrame]:
    context = av.CodecContext.create(codec, "r")
    assert isinstance(context, av.VideoCodecContext)
    context.thread_count = 1
    if extradata:
        context.extradata = extradata
    frames: list[av.VideoFrame] = []
    for packet in packets:
        frames += context.decode(packet)
    frames += context.decode(None)
    return frames


def _to_tensor(frame: av.VideoFrame) -> Tensor:
    return torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
