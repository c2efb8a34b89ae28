"""Servers that we connect to: RTSP by GStreamer, SRT by ffmpeg, and nginx behind TLS."""

from __future__ import annotations

import functools
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

from gtasr_video.errors import InputError, OutputError, UsageError
from gtasr_video.media.streams.config import StreamConfig
from tests.media.streams import peers
from tests.media.streams.test_network_outlet import send
from tests.media.streams.test_network_source import FRAMES, Seen, clip, nobody_is_left, offset_from

__all__ = ["clip", "nobody_is_left"]

IN_STEP = Fraction(40, 1000)
# GStreamer's bindings are there for the system's Python alone.
_PYTHON = "/usr/bin/python3"
_BINDINGS = 'import gi; gi.require_version("GstRtspServer", "1.0")'
_TLS = """
stream {{ server {{
    listen 127.0.0.1:{rtmps} ssl; ssl_certificate cert.pem; ssl_certificate_key key.pem; proxy_pass 127.0.0.1:{rtmp};
}} }}
http {{ access_log off; server {{
    listen 127.0.0.1:{https} ssl; ssl_certificate cert.pem; ssl_certificate_key key.pem; root www;
}} }}
"""


@contextmanager
def rtsp_server(clip: Path, share: float = 0) -> Iterator[str]:
    """An RTSP server that plays `clip` to each who asks, and loses a share of the picture's packets."""
    found = Path(_PYTHON).exists() and not subprocess.run([_PYTHON, "-c", _BINDINGS], capture_output=True).returncode
    peers.needed(found, "gir1.2-gst-rtsp-server-1.0, python3-gi, gstreamer1.0-plugins-good, -bad")
    command = [_PYTHON, str(Path(__file__).with_name("rtsp_server.py")), str(clip), str(share)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"rtsp://127.0.0.1:{server.stdout.readline().strip()}/clip"
        finally:
            server.kill()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp(transport: str, clip: Path) -> None:
    with rtsp_server(clip) as url:
        seen = Seen(url, rtsp_transport=transport)
    assert seen.numbers == list(range(FRAMES))
    assert abs(offset_from(clip, seen)) < IN_STEP
    assert (seen.facts["ended"], seen.facts["lost_packets"]) == ("end", 0)


def test_packets_lost_on_the_way_from_rtsp_are_counted(clip: Path) -> None:
    with rtsp_server(clip, share=0.2) as url:
        seen = Seen(url, rtsp_transport="udp")
    assert seen.facts["lost_packets"] > 0
    assert seen.facts["ended"] == "end"


def test_srt_from_one_who_listens(clip: Path) -> None:
    url = f"srt://127.0.0.1:{peers.free_port(socket.SOCK_DGRAM)}"
    with peers.Publisher(clip, f"{url}?mode=listener", "mpegts", times=1):
        # The program may begin to listen only after we have asked for the first time.
        seen = Seen(url, on_end="wait", frames=FRAMES - 10)
    assert seen.numbers == list(range(FRAMES - 10))
    assert abs(offset_from(clip, seen)) < IN_STEP


@dataclass(frozen=True)
class Secure:
    """nginx with TLS and without: its addresses, and its certificate, which signs itself."""

    rtmp: str
    rtmps: str
    https: str
    certificate: str


@pytest.fixture
def secure(clip: Path, tmp_path: Path) -> Iterator[Secure]:
    peers.needed(peers.STREAM_MODULE.exists(), "libnginx-mod-stream")
    folder = tmp_path / "nginx"
    (folder / "www").mkdir(parents=True)
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"]
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*made, *name], cwd=folder, check=True, capture_output=True)
    listed = [peers.program(), "-v", "error", "-i", str(clip), "-c", "copy", "-f", "hls", "-hls_list_size", "0"]
    subprocess.run([*listed, "-hls_time", "1", "list.m3u8"], cwd=folder / "www", check=True)
    rtmps, https = peers.free_port(), peers.free_port()
    more = functools.partial(_TLS.format, rtmps=rtmps, https=https)
    with peers.nginx(folder, lambda port: more(rtmp=port)) as server:
        yield Secure(
            server.url, f"rtmps://127.0.0.1:{rtmps}/live", f"https://127.0.0.1:{https}", str(folder / "cert.pem")
        )


def test_https(clip: Path, secure: Secure) -> None:
    """Both the list and its segments are had from who can be trusted."""
    seen = Seen(f"{secure.https}/list.m3u8", ca_file=secure.certificate)
    assert seen.numbers == list(range(FRAMES))
    assert abs(offset_from(clip, seen)) < IN_STEP
    assert Seen(f"{secure.https}/list0.ts", ca_file=secure.certificate).numbers[0] == 0


def test_rtmps_both_ways(clip: Path, secure: Secure) -> None:
    with peers.Publisher(clip, f"{secure.rtmp}/in", "flv", times=99):
        seen = Seen(f"{secure.rtmps}/in", frames=FRAMES // 2, ca_file=secure.certificate)
    assert len(seen.numbers) == FRAMES // 2
    report = send(clip, f"{secure.rtmps}/out", paced=True, ca_file=secure.certificate)
    (output,) = report.output["outputs"]
    assert (output["connected"], output["reconnects"], output["reason"]) == (True, 0, "")


def test_who_cannot_prove_who_it_is_gets_and_gives_nothing(clip: Path, secure: Secure) -> None:
    told = r"its certificate is not trusted; name who signed it with --set stream\.ca_file=FILE"
    for url in (f"{secure.https}/list.m3u8", f"{secure.https}/list0.ts", f"{secure.rtmps}/secret"):
        with pytest.raises(InputError, match=told):
            Seen(url)
    with pytest.raises(OutputError, match=rf"nobody could be reached before the stream ended .*{told}"):
        send(clip, f"{secure.rtmps}/secret")


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    with pytest.raises(UsageError, match=r"empty\.pem: cannot be used \(it holds no certificates in PEM\)"):
        StreamConfig(ca_file=str(tmp_path / "empty.pem"))
    with pytest.raises(UsageError, match=r"none\.pem: cannot be used \(No such file"):
        StreamConfig(ca_file=str(tmp_path / "none.pem"))
