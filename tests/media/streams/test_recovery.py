"""Servers that die, senders that come and go, packets that are lost: the stream goes on, whole and in step."""

from __future__ import annotations

import itertools
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
import torch

from gtasr_video.media.encoding import Encoding
from gtasr_video.media.streams.address import Address
from gtasr_video.media.streams.config import StreamConfig
from gtasr_video.media.streams.network_outlet import NetworkOutlet
from gtasr_video.media.streams.network_source import NetworkSource
from gtasr_video.media.streams.reader import StreamReader
from gtasr_video.media.streams.receivers import receiver
from gtasr_video.media.streams.writer import StreamWriter
from gtasr_video.runtime.live.session import run
from gtasr_video.runtime.upscaler import Upscaler
from tests import clips, fakes
from tests.media.streams import peers
from tests.media.streams.test_network_source import nobody_is_left
from tests.soak.sizes import size

__all__ = ["nobody_is_left"]

KILLS = size(2, 20)
# Of a stream that loses packets.
LOSSY_S = size(4, 120)
pytestmark = pytest.mark.timeout(size(120, 1800))
LONG = KILLS * 8 + 30


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbered frames with sound, for as long as the test may take, one key picture every half second."""
    path = tmp_path_factory.mktemp("sent") / "endless.mp4"
    options = {"tune": "zerolatency", "preset": "ultrafast"}
    return clips.make_clip(
        path, frames=LONG * 25, bframes=0, sound=[clips.Sound()], picture=clips.Picture(options=options), gop=12
    )


class Relay:
    """A run from `source` to `target` in a thread, as `upscale` would make it, ended by `stop`."""

    def __init__(self, source: str, *targets: str | Path) -> None:
        config = StreamConfig(on_end="wait", open_timeout=5.0, read_timeout=5.0)
        self._source = NetworkSource(Address(source), config)
        self._targets = targets
        self.report: Any = None
        self.frames = 0
        self._reader: StreamReader | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        outlet = NetworkOutlet(
            [receiver(str(one), segments=0, overwrite=False) for one in self._targets], patience_s=None
        )
        with StreamReader(self._source) as self._reader:
            spec = self._reader.spec
            with StreamWriter(outlet, spec, Encoding(crf=10), sound=self._reader.sound, live=True) as writer:
                self.writer = writer
                self.report = run(self._reader, [Upscaler(fakes.Nearest(1))], writer)

    def came(self) -> int:
        """Return the bytes that came in so far."""
        return int(self._source.facts()["bytes"])

    def stop(self) -> None:
        self._source.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()


def wait_for(condition: Callable[[], bool], seconds: float = 40) -> None:
    tick = threading.Event()
    for _ in range(round(seconds / 0.05)):
        if condition():
            return
        tick.wait(0.05)
    raise AssertionError("it did not come to pass")


def numbers(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        frames = container.decode(container.streams.video[0])
        return [clips.frame_number(torch.from_numpy(frame.to_ndarray(format="gray"))) for frame in frames]


def times(path: Path, kind: str) -> list[Fraction]:
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [p.pts * p.time_base for p in container.demux(stream) if p.pts is not None]


def test_a_server_of_ours_that_is_killed_and_comes_again(endless: Path, tmp_path: Path) -> None:
    """The server that we read from dies; its publisher comes back to it, and we do."""
    target = tmp_path / "out" / "live.m3u8"
    with peers.nginx(tmp_path / "nginx") as server, peers.Publisher(endless, f"{server.url}/key", "flv", times=99):
        relay = Relay(f"{server.url}/key", target)
        try:
            for kill in range(KILLS):
                wait_for(lambda kill=kill: relay._source.reconnects == kill and target.exists() and relay.came() > 1000)
                before = relay.came()
                wait_for(lambda before=before: relay.came() > before + 20_000)
                server.kill()
                server.start()
            wait_for(lambda: relay._source.reconnects == KILLS)
            before = relay.came()
            wait_for(lambda: relay.came() > before + 20_000)
        finally:
            relay.stop()
    assert relay.report.input["reconnects"] == KILLS
    whole_and_in_step(target, relay.report.frames_out)


def whole_and_in_step(target: Path, frames: int) -> None:
    """Every frame that was written is there, in order but where the sender began again, and sound beside it."""
    found = numbers(target)
    assert len(found) == frames
    # The publisher begins again with each life of the server, and a reader misses the start of a group of pictures.
    assert sum(later != before + 1 for before, later in itertools.pairwise(found)) <= KILLS
    shown, sounded = times(target, "video"), times(target, "audio")
    assert all(before < later for before, later in itertools.pairwise(shown))
    assert all(before < later for before, later in itertools.pairwise(sounded))
    assert abs(shown[-1] - sounded[-1]) < Fraction(1, 2)


def test_a_receiver_that_is_killed_and_comes_again(endless: Path, tmp_path: Path) -> None:
    """The server that we send to dies; the picture, and a second output, do not notice."""
    target, url = tmp_path / "out" / "live.m3u8", f"tcp://127.0.0.1:{peers.free_port()}"
    with peers.nginx(tmp_path / "nginx") as server, peers.Publisher(endless, url, "mpegts", times=1):
        relay = Relay(f"{url}?listen=1", f"{server.url}/key", target)
        try:
            for kill in range(KILLS):
                wait_for(lambda kill=kill: connected(relay) and reconnects(relay) == kill)
                server.kill()
                wait_for(lambda: not connected(relay))
                server.start()
            wait_for(lambda: connected(relay))
        finally:
            relay.stop()
    first, second = relay.report.output["outputs"]
    assert first["reconnects"] == KILLS
    assert (second["dropped"], second["reconnects"]) == (0, 0)
    assert numbers(target) == list(range(relay.report.frames_out))


def connected(relay: Relay) -> bool:
    return hasattr(relay, "writer") and relay.writer.facts()["outputs"][0]["connected"]


def reconnects(relay: Relay) -> int:
    return int(relay.writer.facts()["outputs"][0]["reconnects"])


@dataclass
class Lossy:
    """The port to send to, and the bytes that were lost on the way on."""

    port: int
    lost: int = 0


@contextmanager
def lossy(to: int, share: float) -> Iterator[Lossy]:
    """Pass on UDP packets to the port `to`, but for a share of them that is lost."""
    chance = random.Random(5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inward:
        inward.bind(("127.0.0.1", 0))
        inward.settimeout(0.2)
        ended, way = threading.Event(), Lossy(inward.getsockname()[1])

        def forward() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward:
                while not ended.is_set():
                    try:
                        data = inward.recv(65_536)
                    except TimeoutError:
                        continue
                    if chance.random() < share:
                        way.lost += len(data)
                    else:
                        outward.sendto(data, ("127.0.0.1", to))

        thread = threading.Thread(target=forward)
        thread.start()
        try:
            yield way
        finally:
            ended.set()
            thread.join()


def test_one_packet_in_ten_is_lost(endless: Path) -> None:
    port = peers.free_port(socket.SOCK_DGRAM)
    config = StreamConfig(open_timeout=10.0, read_timeout=2.0)
    source = NetworkSource(Address(f"udp://127.0.0.1:{port}"), config)
    with (
        lossy(port, 0.1) as way,
        peers.Publisher(endless, f"udp://127.0.0.1:{way.port}?pkt_size=1316", "mpegts"),
        StreamReader(source, duration=Fraction(LOSSY_S)) as reader,
    ):
        frames = [(clips.frame_number(frame.planes[0]), frame.pts) for frame in reader]
        sound = reader.sound.take(None)
        facts, vitals = reader.facts(), reader.vitals()
    shown = [number for number, _ in frames]
    assert len(frames) > 12 * LOSSY_S
    assert all(before < later for before, later in itertools.pairwise([pts for _, pts in frames]))
    readable = [number for number in shown if number < LONG * 25]
    assert sum(before < later for before, later in itertools.pairwise(readable)) > 0.6 * len(readable)
    assert len(sound) > 12 * LOSSY_S
    assert facts["lost_packets"] == vitals["lost"]
    # What was lost before the first packet that came, or after the last, is not known to be missing.
    assert 188 * vitals["lost"] <= way.lost
    assert 0.05 < 188 * vitals["lost"] / (188 * vitals["lost"] + facts["bytes"]) < 0.2
    assert vitals["waited_s"] > 0
    assert len(set(readable)) < max(readable) - min(readable) + 1
