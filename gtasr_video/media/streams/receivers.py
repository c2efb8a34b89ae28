"""Who is sent what: the kinds of outputs that go through an ffmpeg program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gtasr_video.errors import OutputError, UsageError
from gtasr_video.media.streams.address import Address
from gtasr_video.media.streams.child import Child
from gtasr_video.media.streams.network_graphs import checked, sink_graph

LISTS: Final = (".m3u8", ".mpd")
_SEGMENT_S: Final = 2
# What receivers of each kind take as it is; all else becomes AAC.
_FLV_SOUND: Final = frozenset({"aac", "mp3"})
_TS_SOUND: Final = frozenset({"aac", "mp3", "mp2", "ac3", "eac3"})
_CODECS: Final = ("h264", "h265")
_TS_OPTIONS: Final = {"muxdelay": 0, "muxpreload": 0}


@dataclass(frozen=True, slots=True)
class Receiver:
    """One output: its name without secrets, what it takes, and the program that sends to it.

    sound        codecs of sound that it takes as they are; needs_sound: whether it wants some in any case
    codecs       those of the picture, the default first
    local        whether it is on this machine, and takes what comes as fast as it comes
    """

    name: str
    sound: frozenset[str]
    needs_sound: bool
    codecs: tuple[str, ...]
    start: Callable[[], Child]
    local: bool = False


def is_list(name: str) -> bool:
    """Return whether `name` is an HLS or DASH list on this machine."""
    return "://" not in name and Path(name).suffix.lower() in LISTS


def receiver(name: str, *, segments: int, overwrite: bool, ca_file: str | None = None) -> Receiver:
    """Return the output `name`: an address, or the path of an HLS or DASH list.

    Raises UsageError for what cannot be sent to, OutputError for a list that exists or has no place to be.
    """
    if is_list(name):
        return _list(Path(name), segments, overwrite)
    if "://" not in name:
        raise UsageError(
            f"{name} is neither an address nor an .m3u8 or .mpd list; only those can be written beside others"
        )
    address = Address(name)
    muxer = address.scheme.muxer
    if muxer is None:
        raise UsageError(f"nothing can be sent to {address.name}:// addresses")
    url, options = _sending(address)
    options = {**options, **checked(address)}
    sound = _FLV_SOUND if muxer == "flv" else _TS_SOUND
    return Receiver(
        str(address),
        sound,
        muxer == "flv",
        _CODECS,
        lambda: Child(sink_graph(url, muxer, options), address, reads=True, ca_file=ca_file),
    )


def _sending(address: Address) -> tuple[str, dict[str, Any]]:
    if address.name == "udp" and "pkt_size" not in address.text:
        # Seven packets of MPEG-TS: the most that fits a usual network.
        return f"{address.text}{'&' if '?' in address.text else '?'}pkt_size=1316", _TS_OPTIONS
    options: dict[str, dict[str, Any]] = {
        "flv": {"flvflags": "no_duration_filesize"},
        # RTSP describes sound before the first packet; AAC in MPEG-TS has no description but in its packets.
        "rtsp": {"rtsp_transport": "tcp", "c:a": "aac"},
        "mpegts": _TS_OPTIONS,
    }
    return address.text, options[address.scheme.muxer or ""]


def _list(path: Path, segments: int, overwrite: bool) -> Receiver:
    """Return an HLS or DASH list, whose folder is made. Segments are whole before the list names them."""
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; use -y to replace it")
    try:
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    muxer, options = _hls(path, segments) if path.suffix.lower() == ".m3u8" else _dash(path, segments)
    url = f"file:{path.absolute()}"

    def start() -> Child:
        # A program that takes over from one that failed goes on with its list.
        more = {"hls_flags": f"{options['hls_flags']}+append_list"} if muxer == "hls" and path.exists() else {}
        return Child(sink_graph(url, muxer, {**options, **more}), None, reads=True)

    if muxer == "hls":
        return Receiver(str(path), _TS_SOUND, False, _CODECS, start, local=True)
    return Receiver(str(path), frozenset({"aac"}), False, _CODECS[:1], start, local=True)


def _hls(path: Path, segments: int) -> tuple[str, dict[str, Any]]:
    stem = str(path.absolute().with_suffix("")).replace("%", "%%")
    flags = "independent_segments+program_date_time+temp_file" + "+delete_segments" * (segments > 0)
    return "hls", {
        "hls_time": _SEGMENT_S,
        "hls_list_size": segments,
        "hls_flags": flags,
        "hls_segment_filename": f"{stem}-%05d.ts",
    }


def _dash(path: Path, segments: int) -> tuple[str, dict[str, Any]]:
    stem = path.stem.replace("$", "$$")
    return "dash", {
        "seg_duration": _SEGMENT_S,
        "window_size": segments,
        "init_seg_name": f"{stem}-init-$RepresentationID$.m4s",
        "media_seg_name": f"{stem}-$RepresentationID$-$Number%05d$.m4s",
        # The names and forms that MPEG-TS has for these would be taken over.
        "tag:v": "avc1",
        "tag:a": "mp4a",
        "bsf:a": "aac_adtstoasc",
    }
