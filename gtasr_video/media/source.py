"""Opening a local file for reading, safely: only the `file` protocol, only formats that hold media themselves."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from gtasr_video.errors import InputError, OutputError, UsageError

# Formats that are files of media. Left out on purpose: playlists and scripts that make FFmpeg open other files or
# addresses (hls, dash, concat, imf, sdp, ...), devices, and text that it would render (tty, ...).
_VIDEO_FORMATS: Final = (
    "matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,avi,mpegts,mpeg,mpegvideo,m4v,flv,asf,wtv,ogg,nut,mxf,gxf,rm,nsv,dv,ivf,"
    "obu,av1,h261,h263,h264,hevc,vvc,vc1,cavsvideo,dirac,dnxhd,mjpeg,mpjpeg,yuv4mpegpipe,gif,apng,webp,jpegxl_anim,"
    "r3d,smjpeg,roq,smk,bink,film_cpk,ipmovie,4xm,vmd,wc3movie,idcin,flic,amv,swf,nuv,pva,ty,xmv,dxa,thp,rl2,lmlm4,"
    "png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,exr_pipe,dpx_pipe,ppm_pipe,pgm_pipe,pam_pipe,gif_pipe,"
    "j2k_pipe,jpegxl_pipe,qoi_pipe,hdr_pipe,sgi_pipe,sunrast_pipe,psd_pipe,dds_pipe,pcx_pipe,xwd_pipe"
)
# Known so that a song is refused as "no picture in it" rather than as unreadable.
_SOUND_FORMATS: Final = "wav,w64,mp3,aac,flac,aiff,au,ac3,eac3,dts,dtshd,truehd,ape,wv,tta,caf,amr,oma,mpc,mpc8,opus"
Packet: TypeAlias = "av.Packet[Any]"
_GENERATE_PTS: Final = 0x0001  # AVFMT_FLAG_GENPTS
_CLOCK_MAY_JUMP: Final = 0x0200  # AVFMT_TS_DISCONT
_COUNTING: Final = {"mov", "avi", "mxf"}
# Largest picture that is decoded; a header that claims more is a mistake or an attack.
MAX_PIXELS: Final = 16384 * 16384
_OPTIONS: Final = {
    "protocol_whitelist": "file",
    "format_whitelist": f"{_VIDEO_FORMATS},{_SOUND_FORMATS}",
    "max_pixels": str(MAX_PIXELS),
}
_PATTERN: Final = re.compile(r"%\d*d|[?*{]")
_MOST_BOXES: Final = 10_000  # fragmented recordings have two a second
_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")  # pathlib makes one slash of two
_STILLS: Final = {"mjpeg", "png", "bmp", "gif", "webp", "tiff"}
_PLAYLISTS: Final = {
    b"#EXTM3U": "an HLS or M3U playlist",
    b"ffconcat version": "a concat script",
    b"<MPD": "a DASH manifest",
    b"v=0": "an SDP description",
    b"[playlist]": "a PLS playlist",
}


def check_file(path: Path) -> None:
    """Raise InputError unless `path` is a regular file that is not empty, can be read, and is no playlist."""
    refuse_address(path, "read")
    try:
        mode = path.stat()
        head = b""
        if stat.S_ISREG(mode.st_mode):
            with path.open("rb") as file:
                head = file.read(1024)
    except FileNotFoundError as error:
        raise InputError(f"no such file: {path}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from error
    if stat.S_ISDIR(mode.st_mode):
        raise InputError(f"{path} is a folder; give one video file")
    if not stat.S_ISREG(mode.st_mode):
        raise InputError(f"{path} is not a regular file; a pipe is read as -: upscale - OUTPUT < FILE")
    if mode.st_size == 0:
        raise InputError(f"{path} is empty (0 bytes)")
    kind = _playlist_kind(head)
    if kind is not None:
        raise InputError(f"{path} is {kind}, which may lead to other files; give the media file itself")


def refuse_address(path: Path, verb: str) -> None:
    """Raise UsageError if `path` is an address rather than a file; its text may hold a key and is not repeated."""
    found = _ADDRESS.match(str(path))
    if found and not path.parent.exists():
        raise UsageError(f"cannot {verb} {found.group(1)}: addresses, only local files")


def path_from(name: str | os.PathLike[str]) -> Path:
    """Return the path that `name` is. Raises UsageError for what is neither text nor a path."""
    if not isinstance(name, str | os.PathLike):
        raise UsageError(f"a file is named by text or a path, not by {type(name).__name__}")
    return Path(name)


def refuse_empty(name: str | os.PathLike[str], what: str) -> None:
    """Raise UsageError if `name` is empty: as a path it would be the current folder, and nobody has named that."""
    if not os.fspath(name):
        raise UsageError(f"{what} is empty, as an unset variable of a shell is; give a name, or . for this folder")


def refuse_pipe(output: Path) -> None:
    """Raise OutputError if `output` is there and is a pipe or a device, such as /dev/stdout."""
    if os.path.exists(output) and not os.path.isfile(output) and not os.path.isdir(output):  # noqa: PTH110, PTH112, PTH113 - which never raise
        raise OutputError(f"{output} is no file but a pipe or a device; write to - and send it there: - > FILE")


def same_file(path: Path, other: Path) -> bool:
    """Return whether both names lead to one existing file."""
    try:
        return path.samefile(other)
    except OSError:
        return False


def _playlist_kind(head: bytes) -> str | None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for mark, name in _PLAYLISTS.items():
        if text.startswith(mark) or (mark == b"<MPD" and mark in text):
            return name
    return None


def open_input(path: Path, hwaccel: HWAccel | None = None) -> InputContainer:
    """Open `path` with FFmpeg. Raises InputError if it is not a media file that can be read.

    With `hwaccel` its decoders are those of a device, and what PyAV raises where there are none comes through.
    """
    check_file(path)
    try:
        container = av.open(
            file_url(path),
            mode="r",
            format=_sure_format(path),
            options=_OPTIONS,
            metadata_errors="surrogateescape",
            timeout=None,
            hwaccel=hwaccel,
        )
    except av.FFmpegError as error:
        if hwaccel is not None:
            raise
        raise InputError(f"{path} is not a media file that can be read ({_why_unreadable(path)})") from error
    # Where a file has no presentation times FFmpeg would guess, wrongly for AVI and at ends; see timeline.py.
    container.flags &= ~_GENERATE_PTS
    return container


def _sure_format(path: Path) -> str | None:
    """Return the format, by content alone, of a picture that FFmpeg could take for a pattern of files.

    It does so for what has ``%03d``, ``?``, ``*`` or ``{`` in its path, and for a JPEG where much EXIF data come first.
    """
    is_jpeg = path.suffix.lower() in (".jpg", ".jpeg", ".jpe")
    if not (is_jpeg or _PATTERN.search(str(path))):
        return None
    with path.open("rb") as file:
        if is_jpeg and file.read(3) == b"\xff\xd8\xff":
            return "jpeg_pipe"
        file.seek(0)
        nameless: Any = SimpleNamespace(read=file.read, seek=file.seek, tell=file.tell)
        try:
            with av.open(nameless, mode="r", options=_OPTIONS, metadata_errors="surrogateescape") as container:
                return str(container.format.name).split(",")[0]
        except av.FFmpegError:
            return None


def _why_unreadable(path: Path) -> str:
    """Return what is wrong with a file that FFmpeg does not open, and what to do about it."""
    boxes = _mp4_boxes(path)
    if "ftyp" in boxes and "moov" not in boxes:
        return (
            "an MP4 or MOV without its index (moov), which is written last: the recording or copy was cut short; copy "
            "it again, or rebuild the index with a tool such as untrunc and a whole file from the same camera"
        )
    return "damaged, cut off at its beginning, or not a video at all; copy it again, or see whether a player opens it"


def _mp4_boxes(path: Path) -> list[str]:
    """Return the types of the boxes at the top of an MP4 file as far as they can be followed; few for anything else."""
    found: list[str] = []
    # ValueError: a size that leads beyond what a file can be.
    with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
        while len(found) < _MOST_BOXES and len(head := file.read(16)) >= 8:
            size, header = int.from_bytes(head[:4], "big"), 8
            if size == 1:  # a 64-bit size follows
                size, header = int.from_bytes(head[8:], "big"), 16
            found.append(head[4:8].decode("latin-1"))
            if size < header:  # 0: up to the end of the file
                break
            file.seek(size - len(head), os.SEEK_CUR)
    return found


def file_url(path: Path) -> str:
    """Return `path` so that FFmpeg takes it for a file whatever it contains (colons, a leading dash)."""
    return f"file:{os.path.abspath(path)}"  # noqa: PTH100 - resolving links is not wanted


def counts_time(container: InputContainer) -> bool:
    """Return whether times follow from how long packets last, or how many there are: they cannot go back."""
    return not _COUNTING.isdisjoint(container.format.name.split(","))


def may_be_joined(container: InputContainer) -> bool:
    """Return whether such files are often joined byte for byte, as MPEG-TS is: searching them by time may mislead."""
    return bool(container.format.flags & _CLOCK_MAY_JUMP)


# What a stream hides at the left is cut off whole; FFmpeg else keeps up to 63 pixels of it, so that memory is aligned.
TO_THE_PIXEL = av.codec.context.Flags.unaligned


def choose_video(container: InputContainer, path: Path, wanted: int | None = None) -> VideoStream:
    """Return the video stream with the index `wanted`, by default the first that is no still.

    Raises InputError if there is none to decode, UsageError if `wanted` is not the index of a video stream.
    """
    if wanted is not None:
        return _asked_for(container, path, wanted)
    pictures = sorted((s for s in container.streams.video if not is_cover(s)), key=_looks_still)
    if not pictures:
        if container.streams.audio:
            raise InputError(f"{path} holds sound but no picture")
        raise InputError(f"{path} holds no video stream ({_kinds(container)})")
    for stream in pictures:
        if stream.codec_context is not None:
            return stream
    raise InputError(f"{path}: there is no decoder for its video")


def _asked_for(container: InputContainer, path: Path, wanted: int) -> VideoStream:
    videos = {s.index: s for s in container.streams.video}
    if wanted not in videos:
        there = ", ".join(f"{i} ({codec_name(s)} {s.width}x{s.height})" for i, s in videos.items()) or "none"
        raise UsageError(f"{path} has no video stream {wanted}; its video streams are {there}")
    if videos[wanted].codec_context is None:
        raise InputError(f"{path}: there is no decoder for its video stream {wanted}")
    return videos[wanted]


def _looks_still(stream: VideoStream) -> bool:
    """Return whether `stream` is a single picture by its codec, such as a cover that is not marked as one."""
    return codec_name(stream) in _STILLS and stream.frames <= 1


def packets_of(container: InputContainer, streams: Sequence[Stream]) -> Iterator[Packet]:
    """Yield packets of `streams` that hold something, in the file's order. Raises av.FFmpegError at damage.

    Streams that turn up while reading (MPEG-TS, FLV) are not among `streams`, but PyAV stumbles over them at the end.
    """
    try:
        for packet in container.demux(*streams):
            if packet.size:
                yield packet
    except IndexError:
        return


def is_cover(stream: Stream) -> bool:
    """Return whether `stream` is a still that belongs to the file, such as album art or a thumbnail."""
    still = Disposition.attached_pic | Disposition.timed_thumbnails
    return bool(stream.disposition & still)


def codec_name(stream: Stream) -> str:
    """Return FFmpeg's name of the format of `stream`, such as h264 or aac; "unknown" where it has none."""
    context: Any = stream.codec_context
    if context is not None:
        return str(context.codec.canonical_name)
    return str(getattr(stream, "name", None) or "unknown")


def _kinds(container: InputContainer) -> str:
    kinds = sorted({str(s.type) for s in container.streams})
    return f"only {' and '.join(kinds)}" if kinds else "no streams at all"


def seconds(ticks: int | None, time_base: Fraction | None) -> Fraction | None:
    """Return `ticks` of `time_base` in exact seconds, or None if either is unknown."""
    return None if ticks is None or time_base is None else ticks * time_base


def start_of(container: InputContainer, streams: Sequence[Any]) -> Fraction:
    """Return the time a player calls 0: the file's start time, exact if it is one of its streams' start."""
    coarse = Fraction(container.start_time or 0, av.time_base)
    starts = [seconds(s.start_time, s.time_base) for s in streams]
    exact = [s for s in starts if s is not None and abs(s - coarse) <= Fraction(1, av.time_base)]
    return min(exact, default=coarse)
