"""What the ffmpeg programs at both ends are asked to do, built with ffmpeg-python."""

from __future__ import annotations

import math
from typing import Any, Final

from gtasr_video.media.streams.address import Address
from gtasr_video.media.streams.config import StreamConfig

# FFmpeg means to wait for ever, and this version mistakes its own default for an error.
_LONG_S: Final = 10**6
# Seconds that may be looked at to learn what the streams are: fewer than a program may stand still. A picture is known
# by its next but one, and sound comes between them. Looking ends once all is known, where no more PMTs are looked for.
_LEARN_S: Final = 8
# What FFmpeg takes as the longest pause between two tries.
_LONGEST_PAUSE_S: Final = 4294


def source_graph(address: Address, config: StreamConfig, *, listen: bool) -> Any:
    """Return the graph that writes what comes from `address` to ``pipe:1``.

    Where FFmpeg's protocol brings bytes of a format they are passed on untouched, times and all. RTSP and HLS have no
    such bytes; their packets are put into NUT, without being decoded.
    """
    import ffmpeg

    url, options = _listening(address) if listen else (address.text, {})
    if address.name == "udp":
        url = address.on_this_machine()
    options = {"protocol_whitelist": address.scheme.protocols, **options, **checked(address)}
    if address.is_web_file:
        options |= _going_on(config)
    if not address.is_remuxed:
        stream = ffmpeg.input(url, f="data", **options)["0"]
        return ffmpeg.output(stream, "pipe:1", c="copy", f="data", flush_packets=1)
    if address.name.startswith("rtsp"):
        options |= {"f": "rtsp", "rtsp_transport": config.rtsp_transport}
    else:
        options |= {"f": "hls", "protocol_whitelist": f"{address.scheme.protocols},crypto"}
    stream = ffmpeg.input(url, analyzeduration=1_500_000, fpsprobesize=0, **options)
    nut = {"f": "nut", "syncpoints": "none", "strict": "experimental", "max_interleave_delta": 500_000}
    return ffmpeg.output(stream["v:0"], stream["a?"], "pipe:1", c="copy", flush_packets=1, **nut)


def checked(address: Address) -> dict[str, Any]:
    """Return the options that have the other end prove who it is, where `address` is one that can.

    They do not reach segments of a playlist, nor https that http sends us on to; the program's default is the same.
    """
    return {"tls_verify": 1} if address.name in ("rtmps", "rtsps", "https") else {}


def _going_on(config: StreamConfig) -> dict[str, Any]:
    """Return the options that have a film that breaks off gone on with from the byte reached, where its server can."""
    return {
        "reconnect": 1,
        "reconnect_delay_max": min(math.ceil(config.give_up), _LONGEST_PAUSE_S),
        "timeout": round(1e6 * max(config.open_timeout, config.read_timeout)),
    }


def _listening(address: Address) -> tuple[str, dict[str, Any]]:
    """Return the address to wait at, and the options that make FFmpeg wait."""
    url = address.on_this_machine()
    if address.name == "rtmp":
        return url, {"listen": 1}
    if address.name == "rtsp":
        return url, {"rtsp_flags": "listen", "listen_timeout": _LONG_S}
    if address.listening:
        return url, {}
    parameter = "mode=listener" if address.name == "srt" else "listen=1"
    return f"{url}{'&' if '?' in url else '?'}{parameter}", {}


def sink_graph(url: str, muxer: str, options: dict[str, Any]) -> Any:
    """Return the graph that sends the MPEG-TS of ``pipe:0`` to `url`, without decoding it, and says how far it is."""
    import ffmpeg

    known = {"analyzeduration": _LEARN_S * 10**6, "scan_all_pmts": 0, "fpsprobesize": 0}
    stream = ffmpeg.input("pipe:0", f="mpegts", **known)
    out = ffmpeg.output(
        stream["v:0"], stream["a?"], url, f=muxer, c="copy", max_interleave_delta=1_000_000, flush_packets=1, **options
    )
    # A hole of ten seconds, given up for a slow receiver, is no clock that jumped: what follows keeps its time.
    return out.global_args("-progress", "pipe:1", "-stats_period", "0.5", "-dts_delta_threshold", str(_LONG_S))
