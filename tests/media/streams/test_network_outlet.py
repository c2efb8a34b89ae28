"""Receivers on loopback, real ones: what they get, and that none can hold up the picture or another."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

import gtasr_video
from gtasr_video.errors import OutputError, UsageError
from gtasr_video.media.encoding import Encoding
from gtasr_video.media.streams import receivers, sender
from gtasr_video.media.streams.address import Address
from gtasr_video.media.streams.child import Child
from gtasr_video.media.streams.config import StreamConfig
from gtasr_video.media.streams.network_graphs import sink_graph
from gtasr_video.media.streams.network_outlet import NetworkOutlet
from gtasr_video.media.streams.pipe_source import FileSource
from gtasr_video.media.streams.reader import StreamReader
from gtasr_video.media.streams.receivers import receiver
from gtasr_video.media.streams.writer import StreamWriter
from gtasr_video.runtime.live.session import run
from gtasr_video.runtime.upscaler import Upscaler
from tests import clips, fakes
from tests.media.streams import peers
from tests.media.streams.test_network_source import FRAMES, clip, nobody_is_left

__all__ = ["clip", "nobody_is_left"]


def send(
    source: Path, *names: str | Path, paced: bool = False, patience_s: float | None = 20, ca_file: str | None = None
) -> Any:
    """Send `source`, twice as large, to all receivers, and return the report."""
    those = [receiver(str(name), segments=0, overwrite=False, ca_file=ca_file) for name in names]
    outlet = NetworkOutlet(those, patience_s=patience_s, can_wait=not paced)
    with (
        StreamReader(FileSource(source)) as reader,
        StreamWriter(outlet, reader.spec.scaled(2), Encoding(crf=10), sound=reader.sound, live=True) as writer,
    ):
        return run(reader, [Upscaler(fakes.Nearest(2))], writer, paced=paced)


@contextmanager
def player(url: str, to: Path, *options: str, wait_s: float = 15) -> Iterator[Path]:
    """ffmpeg that records what it gets at `url` into `to`, tried until it gets something; the block ends with it."""
    command = [
        peers.program(),
        "-v",
        "error",
        "-nostdin",
        "-y",
        "-analyzeduration",
        "200000",
        *options,
        "-i",
        url,
        "-c",
        "copy",
        str(to),
    ]
    ended = threading.Event()
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        running = [process]

        def again() -> None:
            while running[0].wait() and not ended.is_set():
                running[0] = subprocess.Popen(command, stderr=subprocess.DEVNULL)

        thread = threading.Thread(target=again)
        thread.start()
        try:
            yield to
            thread.join(wait_s)
        finally:
            ended.set()
            running[0].kill()
            thread.join()


def numbers(path: Path | str) -> list[int]:
    import torch

    with av.open(str(path)) as container:
        frames = container.decode(container.streams.video[0])
        return [clips.frame_number(torch.from_numpy(frame.to_ndarray(format="gray"))) for frame in frames]


def starts(path: Path | str) -> tuple[Fraction, Fraction]:
    """Return when picture and sound begin."""
    with av.open(str(path)) as container:
        streams = (container.streams.video[0], container.streams.audio[0])
        first = [next(p for p in container.demux(s) if p.pts is not None) for s in streams]
        return first[0].pts * first[0].time_base, first[1].pts * first[1].time_base


RECEIVERS = {
    "rtmp": ("rtmp://127.0.0.1:{port}/app/secret", "flv", ["-listen", "1"]),
    "srt": ("srt://127.0.0.1:{port}", "ts", []),
    "tcp": ("tcp://127.0.0.1:{port}", "ts", []),
    "rtsp": ("rtsp://127.0.0.1:{port}/x", "ts", ["-rtsp_flags", "listen", "-listen_timeout", "1000"]),
    "udp": ("udp://127.0.0.1:{port}", "ts", ["-timeout", "1500000"]),
}


@pytest.mark.parametrize("kind", RECEIVERS)
def test_receivers_get_every_frame_and_the_sound(kind: str, clip: Path, tmp_path: Path) -> None:
    url, suffix, options = RECEIVERS[kind]
    is_datagram = kind in ("srt", "udp")
    port = peers.free_port(socket.SOCK_DGRAM if is_datagram else socket.SOCK_STREAM)
    url = url.format(port=port)
    heard = {"srt": f"{url}?mode=listener", "tcp": f"{url}?listen=1"}.get(kind, url)
    with player(heard, tmp_path / f"got.{suffix}", *options) as got:
        if not is_datagram:  # the stream is short: it would be over before one who is late
            peers.wait_for_listener(port)
        report = send(clip, url, paced=kind in ("udp", "srt", "rtsp"))
    found = numbers(got)
    assert found == list(range(found[0], found[0] + len(found)))
    # Both ends of SRT give up at once what is on its way when one of them closes.
    assert found[-1] >= (FRAMES - 10 if kind == "srt" else FRAMES - 1)
    assert found[0] == 0 if kind in ("rtmp", "tcp") else found[0] < FRAMES - 10
    (fact,) = report.output["outputs"]
    assert fact["connected"]
    assert "secret" not in report.to_json()
    if kind in ("rtmp", "tcp", "rtsp"):
        picture, sound = starts(got)
        assert abs(picture - sound - (starts(clip)[0] - starts(clip)[1])) < Fraction(40, 1000)


@pytest.mark.parametrize("name", ["live.m3u8", "live.mpd"])
def test_lists_are_whole_and_name_only_what_is_there(name: str, tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "in.mp4", frames=130, bframes=0, sound=[clips.Sound()])
    target = tmp_path / "out" / name
    send(source, target)
    # The program reads both kinds of list; PyAV is built without DASH.
    subprocess.run(
        [peers.program(), "-v", "error", "-i", str(target), "-c", "copy", str(tmp_path / "all.mkv")], check=True
    )
    assert numbers(tmp_path / "all.mkv") == list(range(130))
    names = {path.name for path in target.parent.iterdir()}
    assert not any(name.endswith(".tmp") for name in names)
    text = target.read_text()
    if name.endswith(".m3u8"):
        assert {line for line in text.splitlines() if line and not line.startswith("#")} == names - {name}
        assert text.endswith("#EXT-X-ENDLIST\n")
        assert "DISCONTINUITY" not in text
    with pytest.raises(OutputError, match="exists; use -y"):
        receiver(str(target), segments=0, overwrite=False)


@pytest.mark.parametrize(("fps", "frames"), [(1, 5), (25, 1)])
def test_pictures_that_are_rare_beside_their_sound_do_not_hide_their_form(
    fps: int, frames: int, tmp_path: Path
) -> None:
    source = clips.make_clip(tmp_path / "in.mp4", frames=frames, fps=fps, sound=[clips.Sound()], sound_seconds=5)
    report = send(source, tmp_path / "live.mpd")
    assert [fact["reason"] for fact in report.output["outputs"]] == [""]
    # The program reads both kinds of list; PyAV is built without DASH.
    command = [peers.program(), "-v", "error", "-i", str(tmp_path / "live.mpd"), "-c", "copy"]
    subprocess.run([*command, str(tmp_path / "all.mkv")], check=True)
    found = numbers(tmp_path / "all.mkv")
    assert sorted(set(found)) == list(range(frames))
    assert len(clips.sound_of(tmp_path / "all.mkv")[0]) > 200


@contextmanager
def deaf_server() -> Iterator[int]:
    """A server that accepts and never reads or answers; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in kept:
                one.close()


def test_a_receiver_that_never_answers_holds_up_nobody(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "STALL_S", 1.5)
    monkeypatch.setattr(sender, "FINISH_S", 5.0)
    target = tmp_path / "out" / "live.m3u8"
    with deaf_server() as port:
        report = send(
            clip, f"rtmp://127.0.0.1:{port}/app/secret", target, f"tcp://127.0.0.1:{peers.free_port()}", paced=True
        )
    assert numbers(target) == list(range(FRAMES))
    deaf, listed, nobody = report.output["outputs"]
    assert deaf["stalls"] >= 1 or deaf["reason"] == "did not finish in time"
    assert not deaf["connected"]
    assert listed["dropped"] == 0
    assert "refused" in nobody["reason"]


def test_key_pictures_of_more_than_a_megabyte(tmp_path: Path) -> None:
    source = fakes.noise(tmp_path / "in.mkv", 3, fakes.spec(1280, 720))
    url = f"rtmp://127.0.0.1:{peers.free_port()}/app/key"
    with player(url, tmp_path / "got.flv", "-listen", "1") as got:
        outlet = NetworkOutlet([receiver(url, segments=0, overwrite=False)], patience_s=20)
        with (
            StreamReader(FileSource(source)) as reader,
            StreamWriter(outlet, reader.spec, Encoding(crf=0), sound=reader.sound, live=True) as writer,
        ):
            run(reader, [Upscaler(fakes.Nearest(1))], writer)
    with av.open(str(got)) as container:
        sizes = [packet.size for packet in container.demux(container.streams.video[0])]
    assert max(sizes) > 1 << 20
    # A receiver that is sent the end at once loses what it has not read yet.
    assert len([size for size in sizes if size]) >= 1


def test_nobody_there_fails_in_time_and_hides_the_key(clip: Path) -> None:
    with pytest.raises(OutputError, match=r"nobody could be reached .*/app/\*\*\*: .*refused") as caught:
        send(clip, f"rtmp://127.0.0.1:{peers.free_port()}/app/secret", paced=True, patience_s=1.0)
    assert "secret" not in str(caught.value)
    with pytest.raises(OutputError, match=r"nobody could be reached before the stream ended .*refused"):
        send(clip, f"rtmp://127.0.0.1:{peers.free_port()}/app/secret")
    with pytest.raises(UsageError, match="nothing can be sent to http://"):
        receiver("http://127.0.0.1/x", segments=0, overwrite=False)
    with pytest.raises(UsageError, match="neither an address nor"):
        receiver("archive.mkv", segments=0, overwrite=False)


def test_a_server_that_refuses_is_what_is_told(clip: Path) -> None:
    address = Address(f"rtsp://127.0.0.1:{peers.free_port()}/live/secret")
    child = Child(sink_graph(address.text, "rtsp", {}), address, reads=True)
    words = ["-v", "error", "-nostdin", "-i", str(clip), "-c", "copy", "-f", "mpegts", "pipe:1"]
    data = subprocess.run([peers.program(), *words], check=True, capture_output=True).stdout
    with contextlib.suppress(BrokenPipeError), os.fdopen(os.dup(child.fd), "wb") as pipe:
        pipe.write(data)
    child.end(grace_s=20)
    assert child.reason() == "Connection refused"


def test_what_follows_a_hole_keeps_its_time(tmp_path: Path) -> None:
    """A receiver that lost half a minute gets what follows at its own time, not right after what it had."""
    parts = []
    for begin in (0, 30):
        part = tmp_path / f"{begin}.ts"
        picture, tone = "testsrc2=size=64x48:rate=10:duration=1", "sine=duration=1"
        words = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", tone, "-c:v", "libx264", "-c:a", "aac"]
        words += ["-output_ts_offset", str(begin), "-muxdelay", "0", str(part)]
        subprocess.run([peers.program(), "-v", "error", "-nostdin", *words], check=True)
        parts.append(part.read_bytes())
    child = Child(sink_graph(f"file:{tmp_path}/got.ts", "mpegts", {}), None, reads=True)
    with os.fdopen(os.dup(child.fd), "wb") as pipe:
        pipe.write(b"".join(parts))
    child.end(grace_s=20)
    for kind in ("video", "audio"):
        with av.open(str(tmp_path / "got.ts")) as container:
            stream = next(one for one in container.streams if one.type == kind)
            times = [float(p.pts * p.time_base) for p in container.demux(stream) if p.pts is not None]
        assert 28.5 < max(later - before for before, later in itertools.pairwise(times)) < 30.5
        assert 30.5 < times[-1] - times[0] < 31.5


@contextmanager
def server_for(seconds: float) -> Iterator[str]:
    """A receiver that reads for so many seconds, and then leaves for good; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def receive() -> None:
            taken = server.accept()[0]
            server.close()
            with taken:
                end = time.monotonic() + seconds
                while time.monotonic() < end and taken.recv(1 << 16):
                    pass

        thread = threading.Thread(target=receive)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_an_only_receiver_that_is_lost_for_good_is_a_failure(clip: Path) -> None:
    with (
        server_for(1.0) as url,
        pytest.raises(
            OutputError,
            match=r"nobody was there any more when the stream ended \(tcp://.+\); the last of it is missing",
        ),
    ):
        send(clip, url, paced=True)


def test_a_receiver_that_is_lost_beside_another_is_named(clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "live.m3u8"
    config = gtasr_video.UpscaleConfig(stream=StreamConfig(also=(str(target),)))
    with server_for(1.0) as url:
        report = gtasr_video.upscale(clip, url, config=config, model=fakes.Nearest(2), device="cpu")
    assert numbers(target) == list(range(FRAMES))
    (warning,) = report.output["warnings"]
    assert re.fullmatch(rf"{url}: lost before the stream ended \(.+\)", warning)


def test_a_receiver_may_leave_once_it_has_been_sent_all(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Cut(Child):
        """Its receiver is gone when it is to finish."""

        def close_input(self) -> None:
            self._process.kill()
            super().close_input()

    monkeypatch.setattr(receivers, "Child", Cut)
    with server_for(20.0) as url:
        report = send(clip, url, paced=True)
    (fact,) = report.output["outputs"]
    assert fact["connected"]


@pytest.mark.parametrize(
    ("url", "bound"),
    [
        ("srt://:9000?mode=listener", "srt://127.0.0.1:9000?mode=listener"),
        ("tcp://:9000?listen=1", "tcp://127.0.0.1:9000?listen=1"),
        ("tcp://:9000?listen", "tcp://127.0.0.1:9000?listen"),
        ("TCP://0.0.0.0:9000?listen", "tcp://0.0.0.0:9000?listen"),
        ("tcp://host:9000", "tcp://host:9000"),
    ],
)
def test_receivers_are_waited_for_on_loopback_unless_told_otherwise(
    url: str, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ffmpeg

    asked: list[str] = []
    monkeypatch.setattr(receivers, "Child", lambda graph, *_, **__: asked.extend(ffmpeg.get_args(graph)))
    receiver(url, segments=0, overwrite=False).start()
    assert bound in asked
