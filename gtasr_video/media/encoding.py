"""What the output is encoded with: a request, checked before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from av.codec.codec import find_best_pix_fmt_of_list

from gtasr_video.config import check_types, nearest
from gtasr_video.errors import UsageError
from gtasr_video.frames import ColorSpec, PixelLayout, VideoSpec
from gtasr_video.media.codecs import (
    ALIASES,
    CODECS,
    CONTAINERS,
    PACKED,
    Codec,
    Container,
    Goal,
    pixel_formats,
    steady_x264,
)
from gtasr_video.media.hardware_encoders import HARDWARE, if_it_opens
from gtasr_video.media.hdr import encoder_options, is_hdr
from gtasr_video.media.planes import LAYOUTS, without_alpha

# On pictures of three blocks of 16 across libx265's CU-tree writes past the end of what it has, and mostly crashes.
_NARROW: Final = 64


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the picture is encoded; None means the default of the container or codec.

    codec     h264 (default; h265 for PQ and HLG), h265, av1, vp9 (default in WebM), prores, ffv1; h264_nvenc or
              hevc_nvenc for NVIDIA's encoder where it opens, else the same in software
    crf       constant quality, lower is better; the range depends on the codec; prores and ffv1 have none
    preset    speed against size, in the codec's own words; for prores its profile
    pix_fmt   FFmpeg's name of a format the codec takes; by default the source's depth and chroma are kept
              wherever the codec can
    goal      what crf and preset are to be good for where they are None, in each codec's own numbers: quality, speed,
              live, or balanced between them

    Raises ConfigError for a value of another type.

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
    goal: Goal = "balanced"

    def __post_init__(self) -> None:
        check_types(self)


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

    def facts(self) -> dict[str, Any]:
        """Return what the encoder is and makes, as plain JSON-able values."""
        spec = self.spec
        return {
            "container": self.container.muxer,
            "codec": self.codec.name,
            "encoder": self.codec.encoder,
            "crf": self.crf,
            "preset": self.preset,
            "pix_fmt": self.pix_fmt,
            "width": self.width,
            "height": self.height,
            "frame_rate": str(spec.frame_rate) if spec.frame_rate else None,
            "matrix": spec.color.matrix,
            "full_range": spec.color.full_range,
        }

    @property
    def options(self) -> dict[str, str]:
        """The encoder's options as FFmpeg takes them."""
        options = dict(self.codec.options)
        steady = steady_x264() if self.codec.encoder == "libx264" else {}
        if self.codec.encoder == "libx265" and min(self.width, self.height) < _NARROW:
            steady = {"x265-params": "cutree=0"}
        for name, value in (*steady.items(), *encoder_options(self.codec.encoder, self.spec.hdr).items()):
            options[name] = f"{options[name]}:{value}" if name in options else value
        if self.crf is not None:
            options[self.codec.crf_option] = str(self.crf)
        if self.preset is not None:
            options[self.codec.preset_option] = self.preset
        layout = self.spec.layout
        # The streams of the others can say it for 4:2:0 alone.
        if layout.log2_chroma_h or (layout.log2_chroma_w and self.codec.name in ("ffv1", "prores")):
            options["chroma_sample_location"] = self.spec.color.chroma_siting
        return options


def plan(path: Path, encoding: Encoding, spec: VideoSpec, *, drop_alpha: bool = False) -> Plan:
    """Check `encoding` for the file `path` and frames like `spec`. Raises UsageError naming the way out.

    drop_alpha   leave alpha out where it cannot be held, instead of refusing
    """
    return plan_in(container_for(path), encoding, spec, drop_alpha=drop_alpha)


def plan_in(container: Container, encoding: Encoding, spec: VideoSpec, *, drop_alpha: bool = False) -> Plan:
    """Check `encoding` for the format `container` and frames like `spec`, as `plan` does."""
    encoding, hardware = _hardware_for(encoding, spec)
    codec = _codec_for(encoding, container, hdr=is_hdr(spec))
    codec = hardware or codec
    source = spec.layout
    if source.alpha and container.muxer not in codec.alpha_in:
        if not drop_alpha:
            raise UsageError(_no_alpha(codec, container))
        source = without_alpha(source)
    layout, pix_fmt = _pixels_for(encoding, codec, source)
    if min(spec.width, spec.height) < codec.smallest:
        size = f"{spec.width}x{spec.height}"
        raise UsageError(f"{codec.name} needs at least {codec.smallest} pixels a side, not {size}; use --codec ffv1")
    across = 1 << layout.log2_chroma_w if codec.even else 1
    down = 1 << layout.log2_chroma_h if codec.even else 1
    return Plan(
        codec,
        container,
        _frames_for(layout, spec, codec),
        -(-spec.width // across) * across,
        -(-spec.height // down) * down,
        pix_fmt,
        _crf_for(encoding, codec),
        _preset_for(encoding, codec) or _usual_preset(encoding, codec, layout),
    )


def check_encoding(encoding: Encoding, paths: Sequence[Path]) -> None:
    """Raise UsageError for what no file of `paths` (any file, if there are none) can be encoded with.

    What depends on the pictures, and what other files of `paths` can be encoded with, is left to `plan`.
    """
    suffixes = {path.suffix.lower() for path in paths} or set(CONTAINERS)
    faults = []
    for suffix in sorted(suffixes):
        if suffix not in CONTAINERS:  # numbered pictures and stills
            return
        try:
            _check_in(CONTAINERS[suffix], encoding)
        except UsageError as error:
            faults.append(error)
        else:
            return
    raise faults[0]


def _check_in(container: Container, encoding: Encoding) -> None:
    hardware = HARDWARE.get((encoding.codec or "").lower())
    named = replace(encoding, codec=hardware.name) if hardware else encoding
    codec = _codec_for(named, container)
    if not (hardware and encoding.preset in hardware.presets):
        _preset_for(encoding, codec)
    _crf_for(encoding, hardware or codec)


def container_for(path: Path) -> Container:
    """Return the format that the extension of `path` names. Raises UsageError."""
    suffix = path.suffix.lower()
    if suffix in CONTAINERS:
        return CONTAINERS[suffix]
    known = ", ".join(CONTAINERS)
    if not suffix:
        raise UsageError(f"{path} has no extension to tell its format by; use one of {known}")
    raise UsageError(f"{path}: unknown extension '{suffix}'{nearest(suffix, CONTAINERS)}; use one of {known}")


def _no_alpha(codec: Codec, container: Container) -> str:
    able = {s: [c for c in form.codecs if form.muxer in CODECS[c].alpha_in] for s, form in CONTAINERS.items()}
    places = ", ".join(f"--codec {codecs[0]} in {suffix}" for suffix, codecs in able.items() if codecs)
    return (
        f"the picture has transparency, which {codec.name} in {container.muxer} cannot hold; use {places}, or "
        "--drop-unsupported to go on without"
    )


def _hardware_for(encoding: Encoding, spec: VideoSpec) -> tuple[Encoding, Codec | None]:
    """Return the codec asked for by its own name, and the hardware's encoder for it if that was asked for and opens."""
    asked = HARDWARE.get((encoding.codec or "").lower())
    if asked is None:
        return encoding, None
    found = if_it_opens(asked, spec)
    # Software knows no preset of the hardware's.
    preset = None if found is None and encoding.preset in asked.presets else encoding.preset
    return replace(encoding, codec=asked.name, preset=preset), found


def _codec_for(encoding: Encoding, container: Container, *, hdr: bool = False) -> Codec:
    if encoding.codec is None:
        # Few players show PQ and HLG in H.264.
        usual = next((c for c in ("h265", "av1") if c in container.codecs), None) if hdr else None
        return CODECS[usual or container.codecs[0]]
    name = ALIASES.get(encoding.codec.lower(), encoding.codec.lower())
    if name not in CODECS:
        hint = nearest(name, [*CODECS, *ALIASES])
        raise UsageError(f"unknown codec '{encoding.codec}'{hint}; use one of {', '.join([*CODECS, *HARDWARE])}")
    if name not in container.codecs:
        places = ", ".join(s for s, c in CONTAINERS.items() if name in c.codecs)
        others = ", ".join(container.codecs)
        raise UsageError(f"{container.muxer} cannot hold {name}; use {places}, or --codec {others}")
    return CODECS[name]


def _crf_for(encoding: Encoding, codec: Codec) -> int | None:
    if codec.crf is None:
        if encoding.crf is not None:
            raise UsageError(f"{codec.name} has no crf; leave it out, or use --codec h264")
        return None
    lowest, highest, _ = codec.crf
    if encoding.crf is None:
        return codec.usual(encoding.goal)[0]
    if not lowest <= encoding.crf <= highest:
        raise UsageError(f"crf {encoding.crf} is outside {lowest} to {highest} of {codec.name}")
    return encoding.crf


def _usual_preset(encoding: Encoding, codec: Codec, layout: PixelLayout) -> str | None:
    if codec.name == "prores":
        return "hq" if layout.log2_chroma_w else "4444"
    return codec.usual(encoding.goal)[1]


def _preset_for(encoding: Encoding, codec: Codec) -> str | None:
    """Return the preset that was asked for, None if none was."""
    if encoding.preset is None:
        return None
    if not codec.presets:
        raise UsageError(f"{codec.name} has no presets; leave --preset out")
    if encoding.preset not in codec.presets:
        hint = nearest(encoding.preset, codec.presets)
        choices = ", ".join(codec.presets)
        raise UsageError(f"{codec.name} has no preset '{encoding.preset}'{hint}; use one of {choices}")
    return encoding.preset


def _pixels_for(encoding: Encoding, codec: Codec, source: PixelLayout) -> tuple[PixelLayout, str]:
    """Return the layout frames come in, and the name the encoder knows it by."""
    if codec.name == "gif":
        if encoding.pix_fmt not in (None, "pal8"):
            raise UsageError("gif has a palette; leave --pix-fmt out")
        return LAYOUTS["gbrap" if source.alpha else "gbrp"], "pal8"
    offered = pixel_formats(codec.encoder)
    if not offered:
        raise UsageError(f"this build of FFmpeg lacks {codec.encoder}; use another --codec")
    if encoding.pix_fmt is not None:
        return _asked_pixels(encoding.pix_fmt, codec, offered)
    packed = next((name for name in PACKED if PACKED[name] == source.name and name in offered), None)
    if codec.keeps_rgb and packed:
        return source, packed
    stays_rgb = codec.keeps_rgb and source.rgb
    layouts = [LAYOUTS[name] for name in offered if name not in PACKED]
    candidates = [x.name for x in layouts if x.rgb == stays_rgb and x.alpha == source.alpha]
    best, _ = find_best_pix_fmt_of_list(candidates, source.name)
    name = best.name if best is not None else candidates[0]
    return LAYOUTS[name], name


def _asked_pixels(name: str, codec: Codec, offered: tuple[str, ...]) -> tuple[PixelLayout, str]:
    if name in LAYOUTS and name in offered:
        return LAYOUTS[name], name
    if name in PACKED and name in offered:
        return LAYOUTS[PACKED[name]], name
    hint = nearest(name, offered)
    raise UsageError(f"{codec.name} cannot encode '{name}'{hint}; use one of {', '.join(offered)}")


def _frames_for(layout: PixelLayout, spec: VideoSpec, codec: Codec) -> VideoSpec:
    """Return `spec` in `layout`, with colours that go with it.

    RGB that becomes YUV uses 709 in limited range; YUV that becomes RGB is in full range. WebP knows 601 only, ProRes
    limited range only.
    """
    if codec.name == "webp":
        return replace(spec, layout=layout, color=ColorSpec("bt601"))
    if codec.name == "prores":  # has no word for full range, and players take it for limited
        spec = replace(spec, color=replace(spec.color, full_range=False))
    color, to_rgb = spec.color, layout.rgb
    if to_rgb and color.matrix != "rgb":
        color = replace(color, matrix="rgb", full_range=True, matrix_code=2)
    elif color.matrix == "rgb" and not to_rgb:
        color = replace(color, matrix="bt709", full_range=False, matrix_code=2)
    return replace(spec, layout=layout, color=color)
