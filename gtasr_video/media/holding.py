"""Which container can hold which stream of a source, and how: copied, converted, rewritten, or not at all."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import av
from av.audio.stream import AudioStream
from av.stream import Stream

from gtasr_video.errors import UsageError
from gtasr_video.media.audio import can_be_mixed, copied_track
from gtasr_video.media.codecs import CONTAINERS, Container
from gtasr_video.media.source import codec_name, is_cover

Kind = Literal["copy", "sound", "text", "attachment", "rewritten", "none"]

# What MPEG-TS players know; FFmpeg would mux the rest as private data that nothing can play.
_TS_CODECS: Final = {
    *("aac", "mp2", "mp3", "ac3", "eac3", "dts", "opus", "truehd", "dvb_subtitle"),
    *("h264", "hevc", "mpeg2video", "mpeg4", "klv", "scte_35", "timed_id3"),
}
_BITMAP_SUBTITLES: Final = {"hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle", "xsub"}
_COVERS: Final = {"mjpeg": "image/jpeg", "png": "image/png", "bmp": "image/bmp", "gif": "image/gif"}
_MP4_LIKE: Final = ("mp4", "mov")


@dataclass(frozen=True, slots=True)
class Way:
    """How a stream gets into a container; `reason` says why not, or why not as it is."""

    kind: Kind
    reason: str | None = None


def way_into(form: Container, stream: Stream, description: str, *, chapters: bool) -> Way:
    """Return how `stream` gets into a file of `form`.

    description   FFmpeg's line about the stream (`tags.describe`); chapters: whether the source has any
    """
    if stream.type == "data":
        return _data(form, stream, description, chapters)
    if stream.type == "attachment":
        return Way("copy") if form.muxer == "matroska" else Way("none", f"{form.muxer} cannot hold attachments")
    context: Any = stream.codec_context
    if context is None:
        return Way("none", "FFmpeg knows no decoder for it, without which it cannot be described to the output")
    if stream.type == "video" and is_cover(stream):
        return _cover(form, codec_name(stream))
    if isinstance(stream, AudioStream) and form.sound and not context.sample_rate:
        return Way("sound", f"{codec_name(stream)} of which nothing comes at first, so that its form is not known")
    if _fits(form, stream):
        return Way("copy")
    reason = f"{form.muxer} cannot hold {codec_name(stream)}"
    if isinstance(stream, AudioStream) and form.sound:
        if can_be_mixed(stream):
            return Way("sound", reason)
        reason += f", and its {context.channels} channels have no layout by which they could be mixed"
    if stream.type == "subtitle" and form.text and codec_name(stream) not in _BITMAP_SUBTITLES:
        return Way("text", reason)
    return Way("none", reason)


def _data(form: Container, stream: Stream, description: str, chapters: bool) -> Way:
    name = codec_name(stream)
    if chapters and name == "bin_data" and "text" in _four_letters(description):
        return Way("rewritten", "it lists the chapters, which are copied")
    if "timecode" in stream.metadata and form.muxer in (*_MP4_LIKE, "matroska"):
        return Way("rewritten", "the timecode is written anew from its tag")
    gopro = form.muxer in _MP4_LIKE and "gpmd" in _four_letters(description)
    if gopro or (form.muxer == "mpegts" and name in _TS_CODECS):
        return Way("copy")
    what = f"{_four_letters(description) or name} data"
    return Way("none", f"{form.muxer} cannot hold {what.replace('unknown data', 'data')}")


def _four_letters(description: str) -> str:
    """Return the four letters by which an MP4 calls the format of a stream, "" where it has none."""
    found = re.search(r"\((\w{4}) / 0x", description.partition("\n")[0])
    return found.group(1) if found else ""


def _cover(form: Container, codec: str) -> Way:
    if form.muxer == "mp4" and codec in ("mjpeg", "png", "bmp"):
        return Way("copy")
    if form.muxer == "matroska" and codec in _COVERS:
        return Way("attachment")
    return Way("none", f"{form.muxer} cannot hold a {codec} cover")


def _fits(form: Container, stream: Stream) -> bool:
    """Return whether FFmpeg writes a header of `form` with `stream` in it, and players then know what it is."""
    name = codec_name(stream)
    if form.muxer == "mpegts" and name not in _TS_CODECS:
        return False
    if form.muxer in _MP4_LIKE and name in _BITMAP_SUBTITLES:
        return False  # FFmpeg writes them in a way that next to no player reads
    try:
        with av.open(io.BytesIO(), "w", format=form.muxer) as scratch:
            if isinstance(stream, AudioStream):
                copied_track(stream, scratch)
            else:
                scratch.add_stream_from_template(stream, opaque=True)
            scratch.start_encoding()
    except (ValueError, av.FFmpegError):
        return False
    return True


def homes(streams: Iterable[tuple[Stream, str]], codec: str | None, *, chapters: bool) -> list[str]:
    """Return the extensions of the containers that can hold `codec` and each of `streams` (with its description).

    codec   None: whichever
    """
    wanted = list(streams)
    return [
        suffix
        for suffix, form in CONTAINERS.items()
        if (codec is None or codec in form.codecs)
        and all(way_into(form, stream, text, chapters=chapters).kind != "none" for stream, text in wanted)
    ]


def refuse(path: Path, name: str, streams: Iterable[tuple[Stream, str]], codec: str | None, *, chapters: bool) -> None:
    """Raise UsageError if one of `streams` of the file `path`, which `name` cannot hold, would fit another container.

    The message names them and where all of them fit beside `codec` (None: whichever).
    """
    lost = [one for one in streams if homes([one], codec, chapters=chapters)]
    if not lost:
        return
    places = ", ".join(homes(lost, codec, chapters=chapters))
    names = ", ".join(described(stream) for stream, _ in lost)
    way_out = f"write {places}, or use" if places else "use"
    raise UsageError(f"{path}: {name} cannot hold {names}; {way_out} --drop-unsupported to go on without")


def entry_of(stream: Stream) -> dict[str, Any]:
    """Return what a report says of a stream besides what became of it."""
    return {
        "index": stream.index,
        "type": stream.type,
        "codec": codec_name(stream),
        "language": stream.language,
    }


def cover_file(stream: Stream, data: bytes) -> tuple[str, str, bytes]:
    """Return (file name, MIME type, `data`) under which a cover is attached."""
    mime = _COVERS[codec_name(stream)]
    ending = mime.rpartition("/")[2].replace("jpeg", "jpg")
    name = stream.metadata.get("filename") or f"cover.{ending}"
    return name, stream.metadata.get("mimetype") or mime, data


def described(stream: Stream) -> str:
    """Return ``subtitle stream 2 (subrip, eng)``, for messages."""
    name: Any = stream.metadata.get("filename") if stream.type == "attachment" else codec_name(stream)
    kind = "cover" if stream.type == "video" and is_cover(stream) else stream.type
    words = [str(name), stream.language if stream.language not in (None, "und") else ""]
    return f"{kind} stream {stream.index} ({', '.join(filter(None, words))})"
