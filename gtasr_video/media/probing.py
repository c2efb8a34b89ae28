"""What a file holds, and which encoders this machine really has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import av
from av.stream import Disposition, Stream

from gtasr_video.media import tags
from gtasr_video.media.codecs import CODECS, hush
from gtasr_video.media.geometry import stated_crop
from gtasr_video.media.source import codec_name, open_input, path_from, seconds

# FFmpeg lists these on every machine; only opening one tells whether the hardware is there.
_HARDWARE: Final = {
    "h264": ("h264_nvenc", "h264_qsv"),
    "h265": ("hevc_nvenc", "hevc_qsv"),
    "av1": ("av1_nvenc", "av1_qsv"),
}


def probe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what the file `path` holds, as plain JSON-able values.

    Keys: path, container, size_bytes, duration_s, start_s, bit_rate, tags, chapters, streams; each stream has
    index, type, codec and what is known of its kind (None where the file does not say). Nothing is decoded beyond
    what recognising the file takes. Raises InputError if it cannot be read.

    Example::

        >>> [stream["codec"] for stream in probe("in.mp4")["streams"]]
        ['h264']
    """
    file = path_from(path)
    with open_input(file) as container:
        described = tags.describe(container)
        return {
            "path": _printable(str(file)),
            "container": container.format.name,
            "size_bytes": file.stat().st_size,
            "duration_s": _float(seconds(container.duration, Fraction(1, av.time_base))),
            "start_s": _float(seconds(container.start_time, Fraction(1, av.time_base))),
            "bit_rate": container.bit_rate or None,
            "tags": {_printable(k): _printable(v) for k, v in container.metadata.items()},
            "chapters": len(container.chapters()),
            "streams": [_stream(s, described.get(s.index, "")) for s in container.streams],
        }


def _stream(stream: Stream, description: str) -> dict[str, Any]:
    title = stream.metadata.get("title")
    facts = {
        "index": stream.index,
        "type": stream.type,
        "codec": codec_name(stream),
        "language": stream.language,
        "title": None if title is None else _printable(title),
        "flags": [d.name for d in Disposition if d & stream.disposition],
        "duration_s": _float(seconds(stream.duration, stream.time_base)),
    }
    context: Any = stream.codec_context
    if context is not None and stream.type == "video":
        facts |= _picture(stream, context, description)
    elif context is not None and stream.type == "audio":
        facts |= {
            "sample_rate": context.sample_rate,
            "channels": context.channels,
            "layout": context.layout.name,
            "bit_rate": context.bit_rate,
        }
    elif stream.type == "attachment":
        facts |= {"filename": _printable(stream.metadata.get("filename", "")), "mime": getattr(stream, "mimetype", "")}
    return facts


def _picture(stream: Any, context: Any, description: str) -> dict[str, Any]:
    crop = stated_crop(description, context.width, context.height)
    width, height = crop.size(context.width, context.height)
    return {
        "profile": context.profile,
        "width": width,
        "height": height,
        "pix_fmt": context.pix_fmt,
        "frame_rate": _fraction(stream.average_rate or stream.guessed_rate),
        "time_base": _fraction(stream.time_base),
        "frames": stream.frames or None,
        "bit_rate": context.bit_rate,
        "sample_aspect": _fraction(stream.sample_aspect_ratio),
        "rotation": tags.stated_rotation(description),
        "interlaced": context.field_order > 1,
        "full_range": {1: False, 2: True}.get(context.color_range),
        "matrix": tags.matrix_name(context.colorspace),
        "primaries": context.color_primaries,
        "transfer": context.color_trc,
        "chroma_siting": tags.chroma_siting(description),
    }


def _float(value: Fraction | None) -> float | None:
    return None if value is None else float(value)


def _fraction(value: Fraction | None) -> str | None:
    return str(value) if value else None


def _printable(text: str) -> str:
    """Return `text` with bytes that are no UTF-8 replaced, so that it can be printed anywhere."""
    return text.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder, and whether it opens here; `reason` says why not."""

    codec: str
    name: str
    hardware: bool
    works: bool
    reason: str = ""


def encoders() -> list[Encoder]:
    """Return all encoders the writer knows or may come to use, each tried by opening it for a small picture."""
    return list(_tried())


def _tried() -> Iterator[Encoder]:
    for codec in CODECS.values():
        names = (codec.encoder, *_HARDWARE.get(codec.name, ()))
        for name in names:
            reason = _why_not(name, dict(codec.options) if name == codec.encoder else {})
            yield Encoder(codec.name, name, name != codec.encoder, not reason, reason)


def _why_not(name: str, options: dict[str, str]) -> str:
    """Return why encoder `name` does not open here, or "" if it does."""
    hush(name)
    try:
        context: Any = av.CodecContext.create(name, "w")
        formats = [f.name for f in av.Codec(name, "w").video_formats or ()]
        context.width, context.height = 256, 256
        usual = (name for name in ("yuv420p", "nv12", "yuv422p10le") if name in formats)
        context.pix_fmt = next(usual, formats[0] if formats else "yuv420p")
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
        context.options = options
        context.open()
    except ValueError:
        return "not in this build of FFmpeg"
    except av.FFmpegError as error:
        return str(error.strerror)
    return ""
