"""Who is sent what: the kinds of outputs that go through an ffmpeg program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gtasr_video.errors import UsageError
from gtasr_video.media.streams.address import Address
from gtasr_video.media.streams.child import Child
from gtasr_video.media.streams.lists import ListFiles, is_list
from gtasr_video.media.streams.network_graphs import checked, sink_graph

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
    files        of a list on this machine, which takes what comes as fast as it comes
    """

    name: str
    sound: frozenset[str]
    needs_sound: bool
    codecs: tuple[str, ...]
    start: Callable[[], Child]
    files: ListFiles | None = None


def receiver(
    name: str, *, segments: int, overwrite: bool, ca_file: str | None = None, source: Path | None = None
) -> Receiver:
    """Return the output `name`: an address, or the path of an HLS or DASH list, which `ListFiles` is about.

    Raises UsageError for what cannot be sent to, and UsageError or OutputError for a list that cannot be written.
    """
    if is_list(name):
        return _list(ListFiles(Path(name), segments, overwrite=overwrite, source=source))
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
    """Return the address to send to, or to wait at, and the muxer's options."""
    if address.name == "udp" and "pkt_size" not in address.text:
        # Seven packets of MPEG-TS: the most that fits a usual network.
        return f"{address.text}{'&' if '?' in address.text else '?'}pkt_size=1316", _TS_OPTIONS
    options: dict[str, dict[str, Any]] = {
        "flv": {"flvflags": "no_duration_filesize"},
        # RTSP describes sound before the first packet; AAC in MPEG-TS has no description but in its packets.
        "rtsp": {"rtsp_transport": "tcp", "c:a": "aac"},
        "mpegts": _TS_OPTIONS,
    }
    url = address.on_this_machine() if address.listening else address.text
    return url, options[address.scheme.muxer or ""]


def _list(files: ListFiles) -> Receiver:
    is_hls = files.muxer == "hls"
    return Receiver(
        str(files.path),
        _TS_SOUND if is_hls else frozenset({"aac"}),
        False,
        _CODECS if is_hls else _CODECS[:1],
        lambda: Child(sink_graph(files.url, files.muxer, files.options()), None, reads=True),
        files,
    )
