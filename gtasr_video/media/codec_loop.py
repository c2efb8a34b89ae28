"""A short clip through a real encoder and its decoder, in memory: what a codec does to a picture."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.errors import OutputError
from gtasr_video.frames import ColorSpec, PixelLayout
from gtasr_video.media.codecs import steady_x264
from gtasr_video.media.planes import from_planes, to_planes
from gtasr_video.ops.color import rgb_to_yuv, yuv_to_rgb

_LAYOUT = PixelLayout("yuv420p")
_COLOR = ColorSpec(matrix="bt601")
_ENCODERS = {"h264": "libx264", "hevc": "libx265", "mpeg4": "mpeg4", "vp9": "libvpx-vp9"}


def round_trip(clip: Tensor, codec: str, crf: float, preset: str = "veryfast", *, b_frames: bool = True) -> Tensor:
    """Encode and decode `clip` (T, 3, H, W) uint8 RGB; returns the same shape.

    `codec` is h264, hevc, mpeg4 or vp9; `crf` is on H.264's scale and mapped to a like quality of the others;
    `b_frames` lets pictures be predicted from both sides.
    One thread, so that equal input gives equal output. Raises OutputError if the encoder is missing or fails.
    """
    height, width = clip.shape[-2:]
    clip = _padded(clip, codec)
    try:
        packets, extradata = _encode(clip, codec, crf, preset, b_frames)
        frames = _decode(packets, extradata, codec)
    except (av.FFmpegError, ValueError) as error:
        raise OutputError(f"cannot degrade with {codec} at crf {crf:.1f}: {error}") from error
    if len(frames) != clip.shape[0]:
        raise OutputError(f"{codec} returned {len(frames)} of {clip.shape[0]} frames")
    return torch.stack([_to_tensor(frame) for frame in frames])[..., :height, :width]


def _padded(clip: Tensor, codec: str) -> Tensor:
    """Repeat the border until an encoder takes the size: even, and for x265 not below 64, where it corrupts memory."""
    least = 64 if codec == "hevc" else 16
    missing = [max(least, side + side % 2) - side for side in clip.shape[-2:]]
    return (
        F.pad(clip.float(), (0, missing[1], 0, missing[0]), mode="replicate").to(torch.uint8) if any(missing) else clip
    )


def _options(codec: str, crf: float, preset: str) -> dict[str, str]:
    if codec == "h264":
        return {"crf": f"{crf:.2f}", "preset": preset, **steady_x264()}
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
    for number, picture in enumerate(clip):
        planes = rgb_to_yuv(picture[None].float() / 255, _LAYOUT, _COLOR)
        frame = from_planes(planes, _LAYOUT, clip.shape[-1], clip.shape[-2])
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
    # Not swscale's conversion, whose default truncates and makes every picture darker by a level.
    rgb = yuv_to_rgb(to_planes(frame, _LAYOUT), _LAYOUT, _COLOR)
    return rgb[0].clamp(0, 1).mul(255).round().to(torch.uint8)


def encode_mp4(clip: Tensor, crf: float) -> bytes:
    """Return `clip` (T, 3, H, W) uint8 RGB as an MP4 file: H.264, 4:4:4, slow preset. Raises OutputError."""
    file = io.BytesIO()
    try:
        with av.open(file, "w", format="mp4") as container:
            stream = container.add_stream(
                "libx264", rate=25, options={"crf": f"{crf:.1f}", "preset": "slow", **steady_x264()}
            )
            stream.height, stream.width = clip.shape[-2:]
            stream.pix_fmt = "yuv444p"
            stream.codec_context.thread_count = 1
            for picture in clip.permute(0, 2, 3, 1).contiguous().numpy():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
    except (av.FFmpegError, ValueError) as error:
        raise OutputError(f"cannot encode a clip ({error})") from error
    return file.getvalue()
