"""What the output is encoded with: codecs, their options, and which container can hold which."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Final

import av
from av.codec.codec import find_best_pix_fmt_of_list

from gtasr_video.config import nearest
from gtasr_video.errors import UsageError
from gtasr_video.frames import PixelLayout, VideoSpec
from gtasr_video.media.planes import LAYOUTS


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the picture is encoded; None means the default of the container or codec.

    codec     h264 (default), h265, av1, vp9 (default in WebM), prores, ffv1
    crf       constant quality, lower is better; the range depends on the codec; prores and ffv1 have none
    preset    speed against size, in the codec's own words; for prores its profile
    pix_fmt   FFmpeg's name of a format the codec takes; by default the source's depth and chroma are kept
              wherever the codec can

    Example::

        >>> with Reader("in.mp4") as reader:
        ...     with Writer("out.mkv", reader.spec, Encoding(codec="h265", crf=20), source=reader) as writer:
        ...         for frame in reader:
        ...             writer.write(frame)
        >>> probe("out.mkv")["streams"][0]["codec"]
        'hevc'
    """

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    pix_fmt: str | None = None


@dataclass(frozen=True, slots=True)
class Codec:
    """One way to encode: FFmpeg's encoder, what may be asked of it, and how to ask."""

    name: str
    encoder: str
    crf: tuple[int, int, int] | None = None  # lowest, highest, default
    presets: tuple[str, ...] = ()
    preset: str | None = None
    preset_option: str = "preset"
    options: dict[str, str] = field(default_factory=dict)
    keeps_rgb: bool = False
    even: bool = False  # takes only whole chroma samples: odd sizes are continued by one row or column
    smallest: int = 1


@dataclass(frozen=True, slots=True)
class Container:
    """A file format: FFmpeg's muxer, the codecs players expect in it (default first), the muxer's options."""

    muxer: str
    codecs: tuple[str, ...]
    sound: str = "aac"  # what sound that it cannot hold is encoded to
    options: dict[str, str] = field(default_factory=dict)


_X26X_PRESETS: Final = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
# x264's macroblock tree reads beyond narrower pictures, and the same frames then give other bytes now and then.
_WHOLE_TREE: Final = 128
CODECS: Final = {
    codec.name: codec
    for codec in (
        Codec("h264", "libx264", (0, 51, 18), _X26X_PRESETS, "veryfast", even=True),
        Codec(
            "h265",
            "libx265",
            (0, 51, 20),
            _X26X_PRESETS,
            "veryfast",
            options={"x265-params": "log-level=none"},
            even=True,
            smallest=32,  # smaller ones crash inside libx265
        ),
        Codec("av1", "libsvtav1", (1, 63, 26), tuple(map(str, range(14))), "8", smallest=16),
        Codec(
            "vp9",
            "libvpx-vp9",
            (0, 63, 24),
            tuple(map(str, range(9))),
            "5",
            preset_option="cpu-used",
            options={"b": "0", "deadline": "good", "row-mt": "1"},
        ),
        Codec(
            "prores",
            "prores_ks",
            presets=("proxy", "lt", "standard", "hq", "4444", "4444xq"),
            preset_option="profile",
        ),
        Codec("ffv1", "ffv1", options={"level": "3", "slicecrc": "1"}, keeps_rgb=True),
    )
}
_ALIASES: Final = {
    "hevc": "h265",
    "x265": "h265",
    "libx265": "h265",
    "avc": "h264",
    "x264": "h264",
    "libx264": "h264",
    "libsvtav1": "av1",
    "libvpx-vp9": "vp9",
}
_MP4: Final = Container("mp4", ("h264", "h265", "av1", "vp9"), options={"movflags": "+faststart"})
_TS: Final = Container("mpegts", ("h264", "h265"))
CONTAINERS: Final = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Container("mov", ("h264", "h265", "prores"), options={"movflags": "+faststart"}),
    ".mkv": Container("matroska", ("h264", "h265", "av1", "vp9", "prores", "ffv1")),
    ".webm": Container("webm", ("vp9", "av1"), sound="libopus"),
    ".ts": _TS,
    ".m2ts": replace(_TS, options={"mpegts_m2ts_mode": "1"}),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked request: everything needed to open the output.

    spec      what frames must look like when they arrive
    width, height   what the encoder is opened with: `spec`'s, or made even where it must be
    pix_fmt   the encoder's name for `spec.layout`
    """

    codec: Codec
    container: Container
    spec: VideoSpec
    width: int
    height: int
    pix_fmt: str
    crf: int | None
    preset: str | None

    @property
    def options(self) -> dict[str, str]:
        """The encoder's options as FFmpeg takes them."""
        options = dict(self.codec.options)
        if self.crf is not None:
            options["crf"] = str(self.crf)
        if self.preset is not None:
            options[self.codec.preset_option] = self.preset
        if self.codec.name == "h264" and self.width < _WHOLE_TREE:
            options["mbtree"] = "0"
        if self.spec.layout.log2_chroma_h:
            options["chroma_sample_location"] = self.spec.color.chroma_siting
        return options


def plan(path: Path, encoding: Encoding, spec: VideoSpec) -> Plan:
    """Check `encoding` for the file `path` and frames like `spec`. Raises UsageError naming the way out."""
    container = _container_for(path)
    codec = _codec_for(encoding, container, path)
    layout, pix_fmt = _pixels_for(encoding, codec, spec.layout)
    if min(spec.width, spec.height) < codec.smallest:
        size = f"{spec.width}x{spec.height}"
        raise UsageError(f"{codec.name} needs at least {codec.smallest} pixels a side, not {size}; use --codec ffv1")
    across = 1 << layout.log2_chroma_w if codec.even else 1
    down = 1 << layout.log2_chroma_h if codec.even else 1
    return Plan(
        codec,
        container,
        _frames_for(layout, spec),
        -(-spec.width // across) * across,
        -(-spec.height // down) * down,
        pix_fmt,
        _crf_for(encoding, codec),
        _preset_for(encoding, codec, layout),
    )


def _container_for(path: Path) -> Container:
    suffix = path.suffix.lower()
    if suffix in CONTAINERS:
        return CONTAINERS[suffix]
    known = ", ".join(CONTAINERS)
    if not suffix:
        raise UsageError(f"{path} has no extension to tell its format by; use one of {known}")
    raise UsageError(f"{path}: unknown extension '{suffix}'{nearest(suffix, CONTAINERS)}; use one of {known}")


def _codec_for(encoding: Encoding, container: Container, path: Path) -> Codec:
    if encoding.codec is None:
        return CODECS[container.codecs[0]]
    name = _ALIASES.get(encoding.codec.lower(), encoding.codec.lower())
    if name not in CODECS:
        hint = nearest(name, [*CODECS, *_ALIASES])
        raise UsageError(f"unknown codec '{encoding.codec}'{hint}; use one of {', '.join(CODECS)}")
    if name not in container.codecs:
        suffix = path.suffix.lower()
        places = ", ".join(s for s, c in CONTAINERS.items() if name in c.codecs)
        others = ", ".join(container.codecs)
        raise UsageError(f"{suffix} files cannot hold {name}; use {places}, or --codec {others}")
    return CODECS[name]


def _crf_for(encoding: Encoding, codec: Codec) -> int | None:
    if codec.crf is None:
        if encoding.crf is not None:
            raise UsageError(f"{codec.name} has no crf; leave it out, or use --codec h264")
        return None
    lowest, highest, default = codec.crf
    if encoding.crf is None:
        return default
    if not lowest <= encoding.crf <= highest:
        raise UsageError(f"crf {encoding.crf} is outside {lowest} to {highest} of {codec.name}")
    return encoding.crf


def _preset_for(encoding: Encoding, codec: Codec, layout: PixelLayout) -> str | None:
    if codec.name == "prores":
        default: str | None = "hq" if layout.log2_chroma_w else "4444"
    else:
        default = codec.preset
    if encoding.preset is None:
        return default
    if not codec.presets:
        raise UsageError(f"{codec.name} has no presets; leave --preset out")
    if encoding.preset not in codec.presets:
        hint = nearest(encoding.preset, codec.presets)
        choices = ", ".join(codec.presets)
        raise UsageError(f"{codec.name} has no preset '{encoding.preset}'{hint}; use one of {choices}")
    return encoding.preset


def hush(encoder: str) -> None:
    """Keep `encoder` from writing anything but errors to stderr by itself (SVT-AV1 heeds only the environment)."""
    if encoder == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")


@cache
def pixel_formats(encoder: str) -> tuple[str, ...]:
    """Return the pixel formats `encoder` takes that frames here can have. Empty if this build lacks it."""
    try:
        formats = av.Codec(encoder, "w").video_formats or ()
    except (ValueError, av.FFmpegError):
        return ()
    return tuple(f.name for f in formats if f.name in LAYOUTS or f.name == "bgr0")


def _pixels_for(encoding: Encoding, codec: Codec, source: PixelLayout) -> tuple[PixelLayout, str]:
    """Return the layout frames come in, and the name the encoder knows it by."""
    offered = pixel_formats(codec.encoder)
    if not offered:
        raise UsageError(f"this build of FFmpeg lacks {codec.encoder}; use another --codec")
    if encoding.pix_fmt is not None:
        return _asked_pixels(encoding.pix_fmt, codec, offered)
    if codec.keeps_rgb and source.name == "gbrp" and "bgr0" in offered:
        return source, "bgr0"
    stays_rgb = codec.keeps_rgb and source.name.startswith("gbrp")
    candidates = [f for f in offered if f != "bgr0" and f.startswith("gbrp") == stays_rgb]
    best, _ = find_best_pix_fmt_of_list(candidates, source.name)
    name = best.name if best is not None else candidates[0]
    return LAYOUTS[name], name


def _asked_pixels(name: str, codec: Codec, offered: tuple[str, ...]) -> tuple[PixelLayout, str]:
    if name in LAYOUTS and name in offered:
        return LAYOUTS[name], name
    if name == "bgr0" and name in offered:
        return LAYOUTS["gbrp"], name
    hint = nearest(name, offered)
    raise UsageError(f"{codec.name} cannot encode '{name}'{hint}; use one of {', '.join(offered)}")


def _frames_for(layout: PixelLayout, spec: VideoSpec) -> VideoSpec:
    """Return `spec` in `layout`, with colours that go with it.

    RGB that becomes YUV uses 709 in limited range; YUV that becomes RGB is in full range.
    """
    color, to_rgb = spec.color, layout.name.startswith("gbrp")
    if to_rgb and color.matrix != "rgb":
        color = replace(color, matrix="rgb", full_range=True, matrix_code=2)
    elif color.matrix == "rgb" and not to_rgb:
        color = replace(color, matrix="bt709", full_range=False, matrix_code=2)
    return replace(spec, layout=layout, color=color)
