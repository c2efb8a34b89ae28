"""Streams from real senders and servers on loopback: every frame, in order, its sound beside it, and no one left."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from gtasr_video.errors import InputError, UsageError
from gtasr_video.media.streams.address import Address
from gtasr_video.media.streams.config import StreamConfig
from gtasr_video.media.streams.film import Film
from gtasr_video.media.streams.network_source import NetworkSource
from gtasr_video.media.streams.reader import StreamReader
from tests import clips
from tests.media.streams import peers, web_film

FRAMES = 50
QUICK = {"open_timeout": 5.0, "read_timeout": 1.0, "give_up": 20.0}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of numbered frames with a tone, fit for every way of sending."""
    path = tmp_path_factory.mktemp("sent") / "clip.mp4"
    options = {"tune": "zerolatency", "preset": "ultrafast"}
    return clips.make_clip(
        path, frames=FRAMES, bframes=0, sound=[clips.Sound()], picture=clips.Picture(options=options), gop=12
    )


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    """No thread and no child of ours outlives a test."""
    before, programs = set(threading.enumerate()), peers.children()  # multiprocessing keeps one where others used it
    yield
    assert set(threading.enumerate()) <= before
    assert set(peers.children()) <= set(programs)


class Seen:
    """What a reader gave: numbers burnt into the frames with their times, and sound packets with theirs."""

    def __init__(self, url: str, frames: int | None = None, **config: Any) -> None:
        self.source = NetworkSource(Address(url), StreamConfig(**{**QUICK, **config}))
        with StreamReader(self.source, frames=frames) as reader:
            unit = reader.spec.time_base
            self.frames = [(clips.frame_number(f.planes[0]), f.pts * unit) for f in reader]
            self.sound = [(bytes(i.packet), i.packet.pts * i.packet.time_base) for i in reader.sound.take(None)]
            self.facts = reader.facts()

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.frames]


def offset_from(clip: Path, seen: Seen) -> Fraction:
    """Return by how much, at most, a sound packet has moved against the picture beside it on the way, in seconds."""
    with av.open(str(clip)) as container:
        shown = {clips.frame_number(_luma(f)): f.pts * f.time_base for f in container.decode(video=0)}
    sent = {data: pts for pts, _, data in clips.sound_of(clip)[0]}
    sound = [(time, time - sent[key]) for data, time in seen.sound if (key := _raw_aac(data)) in sent]
    assert len(sound) > 10
    # One shift for each connection, up to the rounding of times on the way.
    picture = {round((time - shown[number]) * 50) / Fraction(50) for number, time in seen.frames}
    return max((min((shift - one for one in picture), key=abs) for _, shift in sound[3:-3]), key=abs)


def _luma(frame: av.VideoFrame) -> Any:
    import torch

    return torch.from_numpy(frame.to_ndarray(format="gray"))


def _raw_aac(data: bytes) -> bytes:
    """Return an AAC packet without the ADTS header that MPEG-TS puts before it."""
    return data[7:] if data[:2] in (b"\xff\xf1", b"\xff\xf9") else data


LISTENING = {
    "rtmp": ("rtmp://127.0.0.1:{port}/app/key", "flv", {"listen": True}),
    "srt": ("srt://127.0.0.1:{port}?mode=listener", "mpegts", {}),
    "tcp": ("tcp://127.0.0.1:{port}", "mpegts", {"listen": True}),
    "rtsp": ("rtsp://127.0.0.1:{port}/x", "rtsp", {"listen": True}),
}


@pytest.mark.parametrize("kind", LISTENING)
def test_publishers_come_to_us(kind: str, clip: Path) -> None:
    url, form, config = LISTENING[kind]
    udp = kind == "srt"
    url = url.format(port=peers.free_port(socket.SOCK_DGRAM if udp else socket.SOCK_STREAM))
    with peers.Publisher(clip, url.partition("?")[0], form, pace=4):
        seen = Seen(url, open_timeout=1.0, **config)
    # An SRT sender that closes gives up what it has not had acknowledged, at this pace a dozen frames.
    assert seen.numbers == list(range(FRAMES))[: len(seen.numbers)]
    assert len(seen.numbers) >= (FRAMES - 20 if kind == "srt" else FRAMES)
    assert abs(offset_from(clip, seen)) < Fraction(40, 1000)
    assert seen.facts["ended"] == "end"


def test_udp(clip: Path) -> None:
    url = f"udp://127.0.0.1:{peers.free_port(socket.SOCK_DGRAM)}"
    with peers.Publisher(clip, f"{url}?pkt_size=1316", "mpegts", times=2):
        seen = Seen(url, open_timeout=1.5)
    assert len(seen.numbers) > FRAMES // 2
    assert all(
        later in ((before + 1) % FRAMES, 0) for before, later in zip(seen.numbers, seen.numbers[1:], strict=False)
    )


def test_rtmp_from_a_server(clip: Path, tmp_path: Path) -> None:
    with peers.nginx(tmp_path / "nginx") as server, peers.Publisher(clip, f"{server.url}/key", "flv", times=2):
        seen = Seen(f"{server.url}/key", on_end="stop", open_timeout=2.0)
    assert seen.numbers[-1] == FRAMES - 1
    assert abs(offset_from(clip, seen)) < Fraction(40, 1000)


def test_hls_and_files_over_http(clip: Path, tmp_path: Path) -> None:
    command = [peers.program(), "-v", "error", "-i", str(clip), "-c", "copy", "-f", "hls", "-hls_time", "1"]
    subprocess.run([*command, "-hls_list_size", "0", str(tmp_path / "list.m3u8")], check=True)
    whole = clips.make_clip(tmp_path / "whole.ts", frames=FRAMES, bframes=0, time_base=Fraction(1, 90000))
    with peers.web(tmp_path) as root:
        listed = Seen(f"{root}/list.m3u8")
        assert listed.numbers == list(range(FRAMES))
        assert abs(offset_from(clip, listed)) < Fraction(40, 1000)
        assert Seen(f"{root}/{whole.name}").numbers == list(range(FRAMES))


@pytest.fixture
def segments(clip: Path, tmp_path: Path) -> list[str]:
    """The lines of a list of five segments, of 12 frames each but the last."""
    target = tmp_path / "whole.m3u8"
    command = [peers.program(), "-v", "error", "-i", str(clip), "-c", "copy", "-f", "hls", "-hls_time", "0.4"]
    subprocess.run([*command, "-hls_list_size", "0", str(target)], check=True)
    return target.read_text().splitlines()


def test_a_list_that_stands_still_repeats_nothing_and_goes_on(
    segments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "live.m3u8"
    third = segments.index("whole3.ts") - 1
    target.write_text("\n".join(segments[:third]) + "\n")

    def grow(self: NetworkSource, since: float) -> Any:
        target.write_text("\n".join(segments[:-1]) + "\n")  # without its end
        monkeypatch.undo()
        return self._retry(since)

    monkeypatch.setattr(NetworkSource, "_retry", grow)
    with peers.web(tmp_path) as root:
        seen = Seen(f"{root}/live.m3u8", open_timeout=2.0)
    assert seen.numbers == sorted(set(seen.numbers))
    # The last two of a connection that is given up may not come: the end of one in MPEG-TS is known by the next.
    assert set(range(FRAMES)) - set(seen.numbers) <= {34, 35, FRAMES - 2, FRAMES - 1}
    assert seen.facts["ended"] == "end"
    assert seen.facts["reconnects"] == 1


def test_segments_that_are_missing_are_told(segments: list[str], tmp_path: Path) -> None:
    (tmp_path / "whole2.ts").unlink()
    with peers.web(tmp_path) as root:
        seen = Seen(f"{root}/whole.m3u8")
    assert not set(range(26, 35)) & set(seen.numbers)
    assert any("1 segments of its list could not be had" in line for line in seen.facts["warnings"])


def test_dash_is_refused_with_the_way_out() -> None:
    with pytest.raises(UsageError, match="DASH is not read; give the HLS list"):
        NetworkSource(Address("https://h/live/list.mpd?token=secret"), StreamConfig())


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("served") / "film.ts"
    return clips.make_clip(path, frames=FRAMES, bframes=0, time_base=Fraction(1, 90000)).read_bytes()


@pytest.mark.parametrize("on_end", ["stop", "wait"])
def test_a_film_is_gone_on_with_from_the_byte_reached_and_ends_once(
    on_end: str, film: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with web_film.served(web_film.WebFilm(film, breaks=1)) as server:
        seen = Seen(server.url, on_end=on_end)
    assert seen.numbers == list(range(FRAMES))
    reached = int(0.6 * len(film))
    assert server.asked == [0, reached]
    assert seen.source.can_wait
    assert {key: seen.facts[key] for key in ("bytes", "reconnects", "ended", "ended_because")} == {
        "bytes": len(film),
        "reconnects": 1,
        "ended": "end",
        "ended_because": "",
    }
    assert f"the connection broke off at byte {reached}; going on from there" in caplog.text


@pytest.mark.parametrize("on_end", ["stop", "wait"])
@pytest.mark.parametrize("broken", [{"parts": False}, {"later": False}], ids=["no parts", "parts only at first"])
def test_a_film_that_cannot_be_gone_on_with_is_lost_and_never_repeated(
    broken: dict[str, bool], on_end: str, film: bytes
) -> None:
    with web_film.served(web_film.WebFilm(film, breaks=1, **broken)) as server:
        seen = Seen(server.url, on_end=on_end, give_up=0.5)
    assert 10 < len(seen.numbers) < FRAMES
    assert seen.numbers[:-1] == list(range(len(seen.numbers) - 1))  # of the last, a part came
    assert seen.facts["ended"] == "lost"
    assert seen.facts["ended_because"] == f"it broke off at byte {int(0.6 * len(film))} of {len(film)}"


def test_what_has_no_length_is_live_and_is_had_again(film: bytes) -> None:
    with web_film.served(web_film.WebFilm(film, sized=False)) as server:
        seen = Seen(server.url, on_end="wait", frames=FRAMES + 5)
    assert not seen.source.can_wait
    assert server.asked == [0, 0]
    assert seen.numbers == [*range(FRAMES), *range(5)]


@pytest.mark.parametrize("chunked", [False, True])
def test_what_has_no_length_ends_once(chunked: bool, film: bytes) -> None:
    with web_film.served(web_film.WebFilm(film, sized=False, chunked=chunked)) as server:
        seen = Seen(server.url, frames=FRAMES + 5)
    assert server.asked == [0]
    assert seen.numbers == list(range(FRAMES))
    assert (seen.facts["ended"], seen.facts["ended_because"]) == ("end", "")


def test_what_breaks_off_between_chunks_is_had_again(film: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with web_film.served(web_film.WebFilm(film, sized=False, chunked=True, breaks=1)) as server:
        seen = Seen(server.url)
    assert server.asked == [0, 0]
    assert seen.numbers[-FRAMES:] == list(range(FRAMES))
    assert seen.facts["ended"] == "end"
    assert "the stream broke off (before its last chunk); trying again" in caplog.text


def test_a_film_may_be_behind_a_redirect_which_has_a_length_of_its_own() -> None:
    told: list[int] = []
    film = Film(told.append)
    for line in ("http_code=302", "header='Content-Length: 154'", "http_code=200", "header='content-length: 1000'"):
        film.feed(f"[https @ 0x1] [trace] {line}")
    assert film.length == 1000
    for _ in range(2):
        film.feed("[https @ 0x1] [warning] Will reconnect at 600 in 0 second(s), error=Input/output error.")
    for line in ("http_code=206", "header='Content-Range: bytes 600-999/1000'", "header='Content-Length: 400'"):
        film.feed(f"[https @ 0x1] [trace] {line}")
    assert (film.length, film.resumed, told) == (1000, 1, [600])


@pytest.mark.parametrize(
    "entry", ["{folder}/0.ts", "file://{folder}/0.ts", "concat:{folder}/0.ts", "gopher://127.0.0.1/"]
)
def test_a_playlist_cannot_lead_elsewhere(entry: str, tmp_path: Path) -> None:
    clips.make_clip(tmp_path / "0.ts", frames=30, time_base=Fraction(1, 90000))
    served = tmp_path / "served"
    served.mkdir()
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:1,", entry.format(folder=tmp_path), "#EXT-X-ENDLIST", ""]
    (served / "list.m3u8").write_text("\n".join(lines))
    with peers.web(served) as root, pytest.raises(InputError, match=r"list\.m3u8: "):
        Seen(f"{root}/list.m3u8", open_timeout=3.0)


def test_a_redirect_cannot_lead_to_a_file(tmp_path: Path) -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    clips.make_clip(tmp_path / "0.ts", frames=30, time_base=Fraction(1, 90000))

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"file://{tmp_path}/0.ts")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        with pytest.raises(InputError):
            Seen(f"http://127.0.0.1:{server.server_port}/live.ts", open_timeout=3.0)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_sender_that_falls_silent_is_noticed(clip: Path) -> None:
    url = f"tcp://127.0.0.1:{peers.free_port()}"
    with peers.Publisher(clip, url, "mpegts", pace=1) as publisher:
        source = NetworkSource(Address(url), StreamConfig(**{**QUICK, "listen": True, "read_timeout": 0.5}))
        with StreamReader(source) as reader:
            frames = iter(reader)
            for _ in range(10):
                next(frames)
            publisher.freeze()
            rest = list(frames)
    assert len(rest) < FRAMES - 10
    assert source.ended == "end"
    assert source.reason.startswith("nothing came")


def test_a_wrong_key_is_turned_away(clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = peers.free_port()
    right, wrong = f"rtmp://127.0.0.1:{port}/app/secret-key", f"rtmp://127.0.0.1:{port}/app/guessed-key"
    with peers.Publisher(clip, wrong, "flv", pace=0, times=1) as intruder:
        source = NetworkSource(Address(right), StreamConfig(**QUICK, listen=True))
        programs: list[str] = []

        def listen() -> None:
            connection = source.open()
            programs.extend(peers.children())
            connection.close()

        opened = threading.Thread(target=listen)
        opened.start()
        while not source.refused:
            intruder._thread.join(0.05)
    with peers.Publisher(clip, right, "flv", pace=4):
        opened.join(60)
    source.close()
    assert not opened.is_alive()
    assert "secret-key" not in caplog.text
    assert "guessed-key" not in caplog.text
    ours = next(program for program in programs if "-listen" in program)
    assert "secret-key" not in ours
    assert "/app/***" in ours


@pytest.mark.parametrize("limit", [{"max_bitrate": 1000.0}, {"max_pixels": 1000}])
def test_who_sends_too_much_or_too_large_is_turned_away(limit: dict[str, Any], clip: Path) -> None:
    url = f"tcp://127.0.0.1:{peers.free_port()}"
    source = NetworkSource(Address(url), StreamConfig(**QUICK, listen=True, **limit))
    opened = threading.Thread(target=suppressed, args=(source.open,))
    with peers.Publisher(clip, url, "mpegts", pace=0, times=100):
        opened.start()
        while not source.refused:
            opened.join(0.05)
        source.stop()
        opened.join()
    source.close()


def suppressed(call: Callable[[], object]) -> None:
    with contextlib.suppress(InputError):
        call()


def test_nobody_there_is_said_at_once_and_without_the_key() -> None:
    with pytest.raises(InputError, match=r"rtmp://127.0.0.1:\d+/app/\*\*\*: .*refused") as caught:
        Seen(f"rtmp://127.0.0.1:{peers.free_port()}/app/secret")
    assert "secret" not in str(caught.value)
    with pytest.raises(UsageError, match="nobody can be waited for at http://"):
        Seen("http://127.0.0.1/x", listen=True)


def test_stop_ends_what_waits() -> None:
    source = NetworkSource(Address(f"rtmp://127.0.0.1:{peers.free_port()}/app/key"), StreamConfig(listen=True))
    failed: list[BaseException] = []

    def wait() -> None:
        try:
            source.open()
        except InputError as error:
            failed.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while source._inflow is None:
        thread.join(0.01)
    source.stop()
    thread.join(20)
    assert "stopped" in str(failed[0])
    source.close()
