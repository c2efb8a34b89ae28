"""The codecs and containers that can be written, and what each can hold."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Final, Literal, get_args

import av

from gtasr_video.media.planes import LAYOUTS

# What crf and preset are to be good for where they are not given: the best picture, many frames a second, or a line
# that carries a stream; balanced is between them.
Goal = Literal["balanced", "quality", "speed", "live"]
GOALS: Final[tuple[Goal, ...]] = get_args(Goal)


@dataclass(frozen=True, slots=True)
class Codec:
    """One way to encode: FFmpeg's encoder, what may be asked of it, and how to ask.

    crf, preset  lowest, highest and usual value; the usual one
    goals        crf and preset for goals other than balanced
    """

    name: str
    encoder: str
    crf: tuple[int, int, int] | None = None  # lowest, highest, default
    presets: tuple[str, ...] = ()
    preset: str | None = None
    goals: dict[str, tuple[int, str]] = field(default_factory=dict)
    preset_option: str = "preset"
    crf_option: str = "crf"
    options: dict[str, str] = field(default_factory=dict)
    keeps_rgb: bool = False
    even: bool = False  # takes only whole chroma samples: odd sizes are continued by one row or column
    smallest: int = 1
    alpha_in: tuple[str, ...] = ()  # the muxers in which alpha comes along

    def usual(self, goal: Goal) -> tuple[int | None, str | None]:
        """Return crf and preset for `goal`; None for what this codec does not have."""
        return self.goals.get(goal, (self.crf[2] if self.crf else None, self.preset))


@dataclass(frozen=True, slots=True)
class Container:
    """A file format: FFmpeg's muxer, the codecs players expect in it (default first), the muxer's options."""

    muxer: str
    codecs: tuple[str, ...]
    sound: str = "aac"  # what sound that it cannot hold is encoded to
    text: str = ""  # and what text subtitles are, "" if it has none
    options: dict[str, str] = field(default_factory=dict)


@cache
def steady_x264() -> dict[str, str]:
    """Return options that make x264 give equal output for equal input.

    With AVX-512 its MB-tree reads memory that nobody wrote: PyAV 18.1's libx264 gave other bytes in up to half of the
    encodes of the same pictures, of widths from 48 to 848, and in none without MB-tree or without AVX-512. So these
    instructions are left out where the processor has them.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {"x264-params": "mbtree=0"}
    return {"x264-params": "asm=AVX2"} if "avx512" in flags else {}


_X26X_PRESETS: Final = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
CODECS: Final = {
    codec.name: codec
    for codec in (
        Codec(
            "h264",
            "libx264",
            (0, 51, 18),
            _X26X_PRESETS,
            "veryfast",
            goals={"quality": (14, "slow"), "speed": (18, "ultrafast"), "live": (23, "superfast")},
            even=True,
        ),
        Codec(
            "h265",
            "libx265",
            (0, 51, 20),
            _X26X_PRESETS,
            "veryfast",
            goals={"quality": (16, "slow"), "speed": (20, "ultrafast"), "live": (25, "superfast")},
            options={"x265-params": "log-level=none"},
            even=True,
            smallest=32,  # smaller ones crash inside libx265
        ),
        Codec(
            "av1",
            "libsvtav1",
            (1, 63, 26),
            tuple(map(str, range(14))),
            "8",
            goals={"quality": (18, "4"), "speed": (26, "12"), "live": (33, "11")},
            smallest=16,
        ),
        Codec(
            "vp9",
            "libvpx-vp9",
            (0, 63, 24),
            tuple(map(str, range(9))),
            "5",
            goals={"quality": (16, "2"), "speed": (24, "8"), "live": (31, "8")},
            preset_option="cpu-used",
            options={"b": "0", "deadline": "good", "row-mt": "1"},
            alpha_in=("webm", "matroska"),
        ),
        Codec(
            "prores",
            "prores_ks",
            presets=("proxy", "lt", "standard", "hq", "4444", "4444xq"),
            preset_option="profile",
            alpha_in=("mov", "matroska"),
        ),
        Codec("ffv1", "ffv1", options={"level": "3", "slicecrc": "1"}, keeps_rgb=True, alpha_in=("matroska",)),
        Codec("gif", "gif", keeps_rgb=True, alpha_in=("gif",)),
        Codec("webp", "libwebp_anim", options={"quality": "90"}, alpha_in=("webp",)),
        Codec("rawvideo", "rawvideo", keeps_rgb=True, alpha_in=("nut",)),
    )
}
ALIASES: Final = {
    "hevc": "h265",
    "x265": "h265",
    "libx265": "h265",
    "avc": "h264",
    "x264": "h264",
    "libx264": "h264",
    "libsvtav1": "av1",
    "libvpx-vp9": "vp9",
}
_MP4: Final = Container("mp4", ("h264", "h265", "av1", "vp9"), text="mov_text", options={"movflags": "+faststart"})
_TS: Final = Container("mpegts", ("h264", "h265"))
CONTAINERS: Final = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Container("mov", ("h264", "h265", "prores"), text="mov_text", options={"movflags": "+faststart"}),
    ".mkv": Container("matroska", ("h264", "h265", "av1", "vp9", "prores", "ffv1"), text="subrip"),
    ".webm": Container("webm", ("vp9", "av1"), sound="libopus", text="webvtt"),
    ".gif": Container("gif", ("gif",), sound=""),
    ".webp": Container("webp", ("webp",), sound="", options={"loop": "0"}),
    ".ts": _TS,
    ".m2ts": replace(_TS, options={"mpegts_m2ts_mode": "1"}),
}

ANIMATIONS: Final = ("gif", "webp")  # which hold pictures and nothing else


# What encoders name but do not open: libvpx unless told that it is an experiment, libx265 in no build with PyAV.
_NOT_OPENED: Final = {
    "libvpx-vp9": ("yuva422p", "yuva444p", "gbrap"),
    "libx265": ("yuva420p", "yuva420p10le"),
}
PACKED: Final = {"bgr0": "gbrp", "bgra": "gbrap"}  # how some encoders take the 8 bits of these layouts


def hush(encoder: str) -> None:
    """Keep `encoder` from writing anything but errors to stderr by itself (SVT-AV1 heeds only the environment)."""
    if encoder == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")


@cache
def pixel_formats(encoder: str) -> tuple[str, ...]:
    """Return the pixel formats `encoder` takes that frames here can have. Empty if this build lacks it."""
    if encoder == "rawvideo":
        return tuple(LAYOUTS)
    try:
        formats = av.Codec(encoder, "w").video_formats or ()
    except (ValueError, av.FFmpegError):
        return ()
    left_out = _NOT_OPENED.get(encoder, ())
    return tuple(f.name for f in formats if (f.name in LAYOUTS or f.name in PACKED) and f.name not in left_out)
