"""Pipes with real formats: what goes in comes out, with its times and its sound, and nothing waits for more."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
import torch

from gtasr_video.errors import InputError, UsageError
from gtasr_video.frames import Frame
from gtasr_video.media.encoding import Encoding
from gtasr_video.media.streams.byteflow import Inflow
from gtasr_video.media.streams.config import StreamConfig
from gtasr_video.media.streams.outlets import FileOutlet, PipeOutlet
from gtasr_video.media.streams.pipe_source import FileSource, PipeSource
from gtasr_video.media.streams.reader import StreamReader
from gtasr_video.media.streams.writer import StreamWriter
from gtasr_video.runtime.session import run
from gtasr_video.runtime.upscaler import Upscaler
from tests import clips, fakes
from tests.clips import Sound, make_clip
from tests.media.streams import peers
from tests.test_layers import ROOT

SIZE = (64, 48)
FRAME = 64 * 48 * 3 // 2
RAW = StreamConfig(input_format="rawvideo", size="64x48", rate="25")


@contextmanager
def fed(data: bytes | list[bytes]) -> Iterator[int]:
    """Return a descriptor from which `data` can be read, written into it by a thread."""
    source, sink = os.pipe()

    def write() -> None:
        # A reader that refuses what it is told may have left before the first byte.
        with suppress(BrokenPipeError), open(sink, "wb", buffering=0) as pipe:  # noqa: PTH123
            for part in [data] if isinstance(data, bytes) else data:
                pipe.write(part)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield source
    finally:
        os.close(source)
        thread.join()


class Drain:
    """Reads a pipe to its end in a thread; `got(n)` waits until so many bytes are there."""

    def __init__(self) -> None:
        self._source, self.fd = os.pipe()
        self.data = b""
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while part := os.read(self._source, 1 << 16):
            with self._more:
                self.data += part
                self._more.notify_all()

    def got(self, count: int) -> bool:
        with self._more:
            return self._more.wait_for(lambda: len(self.data) >= count, timeout=60)

    def end(self) -> bytes:
        os.close(self.fd)
        self._thread.join()
        os.close(self._source)
        return self.data


def relay(source: int, sink: int, config: StreamConfig | None = None, scale: int = 2) -> Any:
    """Enlarge what comes from one descriptor into another, and return the report."""
    config = config or StreamConfig()
    with StreamReader(PipeSource(config, source)) as reader:
        outlet = PipeOutlet(config.output_format, reader.container, sink)
        upscaler = Upscaler(fakes.Nearest(scale))
        with StreamWriter(outlet, reader.spec.scaled(scale), sound=reader.sound, on_closed=reader.stop) as writer:
            return run(reader, upscaler, writer)


def answered(before: bytes, after: bytes, answer: int, config: StreamConfig | None = None) -> bytes:
    """Send `before`, and `after` only once `answer` bytes have come back; return all that comes."""
    source, sink = os.pipe()
    drain = Drain()
    thread = threading.Thread(target=relay, args=(source, drain.fd, config))
    os.write(sink, before)
    thread.start()
    try:
        assert drain.got(answer)
    finally:
        os.write(sink, after)
        os.close(sink)
        thread.join()
        out = drain.end()
        os.close(source)
    return out


def through(data: bytes, config: StreamConfig | None = None) -> tuple[bytes, Any]:
    drain = Drain()
    with fed(data) as source:
        try:
            report = relay(source, drain.fd, config)
        finally:
            out = drain.end()
    return out, report


def made(path: Path, **options: Any) -> bytes:
    """Return a stream of 12 numbered frames."""
    chosen = {"frames": 12, "size": SIZE, "bframes": 0} | options
    return clips.make_clip(path, **chosen).read_bytes()


def numbers(data: bytes, bits: int = 8) -> list[int]:
    return [clips.frame_number(frame.planes[0], bits) for frame in frames(data)]


def frames(data: bytes) -> list[Frame]:
    with fed(data) as source, StreamReader(PipeSource(StreamConfig(), source)) as reader:
        return list(reader)


STREAMS = {
    "y4m": {"container": "yuv4mpegpipe", "codec": "rawvideo", "time_base": Fraction(1, 25)},
    "nut": {"container": "nut", "codec": "rawvideo", "sound": [clips.Sound("pcm_s16le")]},
    "mpegts": {"container": "mpegts", "sound": [clips.Sound()], "time_base": Fraction(1, 90000)},
    "matroska": {"container": "matroska", "sound": [clips.Sound(), clips.Sound("libopus", language="fra")]},
}


@pytest.mark.parametrize("form", STREAMS)
def test_every_format_comes_out_as_it_went_in(form: str, tmp_path: Path) -> None:
    data = made(tmp_path / "in", **STREAMS[form])
    out, report = through(data)
    assert report.input["container"] == report.output["container"] or form == "matroska"
    assert numbers(out) == list(range(12))
    (tmp_path / "out").write_bytes(out)
    assert times_of(tmp_path / "out") == times_of(tmp_path / "in")
    assert packets_of_sound(tmp_path / "out") == packets_of_sound(tmp_path / "in")


def times_of(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [frame.pts * frame.time_base for frame in container.decode(stream) if frame.pts is not None]


def packets_of_sound(path: Path) -> list[tuple[int, Fraction, bytes]]:
    """Return (track, pts, bytes), but of codecs without frames the samples as a whole."""
    found = clips.sound_of(path)
    return [(track, pts, data) for track, packets in found.items() for pts, _, data in packets]


def test_rawvideo_needs_to_be_told_what_it_is() -> None:
    data = b"".join(bytes([16 + number]) * FRAME for number in range(5))
    out, report = through(data, RAW)
    assert out == b"".join(bytes([16 + number]) * (4 * FRAME) for number in range(5))
    assert report.output["duration_s"] == pytest.approx(0.2)
    for lacking in (StreamConfig("rawvideo"), StreamConfig("rawvideo", "64x48")):
        with pytest.raises(UsageError, match=r"rawvideo needs --.*none was given"):
            through(data, lacking)


@pytest.mark.parametrize("form", ["y4m", "rawvideo", "rawvideo of another size"])
@pytest.mark.parametrize("place", ["pipe", "file"])
def test_bytes_that_make_no_whole_picture_are_told(form: str, place: str, tmp_path: Path) -> None:
    marks = (b"YUV4MPEG2 W64 H48 F25:1 C420mpeg2\n", b"FRAME\n") if form == "y4m" else (b"", b"")
    whole = marks[0] + b"".join(marks[1] + bytes([level]) * FRAME for level in (16, 200))
    config = {"y4m": None, "rawvideo": RAW}.get(form, StreamConfig("rawvideo", "56x48", "25"))
    told = []
    for data in (whole, whole + marks[1] + bytes(100)):
        (tmp_path / "in").write_bytes(data)
        if place == "pipe":
            _, report = through(data, config)
        else:
            drain = Drain()
            with (tmp_path / "in").open("rb") as file:
                report = relay(file.fileno(), drain.fd, config)
            drain.end()
        told.append(report.input["warnings"])
    assert len(told[0]) == ("another" in form)
    assert len(told[1]) == 1
    assert "ends within a picture of" in told[1][0]
    assert ("--size" in told[1][0]) == (form != "y4m")


@pytest.mark.parametrize("form", ["y4m", "rawvideo", "nut"])
def test_the_first_frame_leaves_before_the_third_comes(form: str) -> None:
    """No stage waits for more than it needs: the sender sends two frames, and nothing more until one came back."""
    config = RAW if form == "rawvideo" else StreamConfig()
    header, parts = _in_parts(form)
    out = answered(header + parts[0] + parts[1], b"".join(parts[2:]), 4 * FRAME, config)
    assert len(out) >= 4 * 4 * FRAME


def _in_parts(form: str) -> tuple[bytes, list[bytes]]:
    """Return the header of a raw stream and its four frames, as bytes."""
    if form == "rawvideo":
        return b"", [bytes([number]) * FRAME for number in range(4)]
    if form == "y4m":
        return b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420jpeg\n", [b"FRAME\n" + bytes([n]) * FRAME for n in range(4)]
    out = io.BytesIO()
    marks = []
    with av.open(out, "w", format="nut", options={"flush_packets": "1"}) as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(4):
            picture = clips.picture_of(number, *SIZE, "yuv420p")
            picture.pts, picture.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(picture))
            marks.append(len(out.getvalue()))
    data = out.getvalue()
    return b"", [data[a:b] for a, b in zip([0, *marks[:3]], [*marks[:3], len(data)], strict=True)]


def test_times_that_jump_are_joined_for_picture_and_sound_alike(tmp_path: Path) -> None:
    """Two MPEG-TS one after the other: the second one's clock begins again."""
    one = made(tmp_path / "one.ts", **STREAMS["mpegts"] | {"frames": 50})
    two = made(tmp_path / "two.ts", **STREAMS["mpegts"] | {"frames": 50, "first_number": 50})
    out, report = through(one + two)
    (tmp_path / "out.ts").write_bytes(out)
    found = times_of(tmp_path / "out.ts")
    assert numbers(out) == list(range(100))
    assert report.input["clock_jumps"] == 1
    assert max(b - a for a, b in itertools.pairwise(found)) < Fraction(1, 10)
    sound = [pts for pts, _, _ in clips.sound_of(tmp_path / "out.ts")[0]]
    assert abs(sound[-1] - found[-1]) < Fraction(1, 10)


def test_aac_of_mpegts_fits_into_a_matroska_pipe(tmp_path: Path) -> None:
    """Matroska says at its head how it is to be decoded, and nothing can be put there later."""
    out, report = through(made(tmp_path / "in.ts", **STREAMS["mpegts"]), StreamConfig(output_format="matroska"))
    (tmp_path / "out.mkv").write_bytes(out)
    assert [stream["action"] for stream in report.output["streams"]] == ["converted"]
    assert numbers(out) == list(range(12))
    assert len(clips.sound_of(tmp_path / "out.mkv")[0]) > 20


@pytest.mark.parametrize("before", [40, 3])
@pytest.mark.parametrize("form", ["matroska", "mpegts"])
def test_a_clock_that_wraps_around_loses_no_time(form: str, before: int, tmp_path: Path) -> None:
    """That of MPEG-TS has 33 bits: FFmpeg gives what comes before the wrap-around times before 0."""
    pts = [(1 << 33) + 3600 * (n - before) for n in range(50)]
    sound = [clips.Sound(start=Fraction(pts[0], 90000))]
    data = made(tmp_path / "in.ts", **STREAMS["mpegts"] | {"pts": pts, "sound": sound, "sound_seconds": 2})
    out, _ = through(data, StreamConfig(output_format=form))
    (tmp_path / "out").write_bytes(out)
    found = times_of(tmp_path / "out")
    assert numbers(out) == list(range(50))
    assert len(found) == 50
    assert all(abs(b - a - Fraction(1, 25)) < Fraction(1, 500) for a, b in itertools.pairwise(found))
    assert abs(clips.sound_of(tmp_path / "out")[0][0][0] - found[0]) < Fraction(1, 20)


def test_a_size_that_changes_keeps_the_first(tmp_path: Path) -> None:
    one = made(tmp_path / "one.ts", **STREAMS["mpegts"] | {"frames": 30})
    two = made(tmp_path / "two.ts", **STREAMS["mpegts"] | {"frames": 30, "first_number": 30, "size": (96, 64)})
    out, report = through(one + two)
    assert report.input["size_changes"] == 30
    assert report.output["width"] == 128
    assert numbers(out) == list(range(60))


def test_odd_rates_and_uneven_times_stay(tmp_path: Path) -> None:
    pts = clips.phone_times(12, Fraction(1, 1000))
    data = made(tmp_path / "in.mkv", container="matroska", pts=pts, time_base=Fraction(1, 1000))
    out, _ = through(data)
    assert [frame.pts for frame in frames(out)] == pts


def test_y4m_says_that_it_knows_no_times(tmp_path: Path) -> None:
    data = made(
        tmp_path / "in.mkv", container="matroska", pts=[0, 40, 2000, 2040], frames=4, time_base=Fraction(1, 1000)
    )
    out, report = through(data, StreamConfig(output_format="y4m"))
    assert out.startswith(b"YUV4MPEG2 W128 H96 F25:1 ")
    assert "y4m" in report.output["warnings"][0] or "knows no times" in report.output["warnings"][0]


def test_ten_bits_stay(tmp_path: Path) -> None:
    data = made(tmp_path / "in.nut", container="nut", codec="rawvideo", pix_fmt="yuv420p10le")
    for config in (StreamConfig(), StreamConfig(output_format="y4m")):
        out, report = through(data, config)
        assert report.output["pix_fmt"] == "yuv420p10le"
        assert numbers(out, 10) == list(range(12))


@pytest.mark.parametrize("form", ["nut", "y4m", "matroska", "mpegts"])
@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_picture_leaves_upright(form: str, rotation: int, tmp_path: Path) -> None:
    """A phone's video: few formats can tell a player to turn it, so its pixels are turned for all of them."""
    data = made(tmp_path / "in.mkv", container="matroska", picture=clips.Picture(rotation=rotation))
    out, report = through(data, StreamConfig(output_format=form))
    assert report.input["rotation"] == rotation
    with fed(out) as source, StreamReader(PipeSource(StreamConfig(), source)) as reader:
        turned = (96, 128) if rotation % 180 else (128, 96)
        assert (reader.spec.width, reader.spec.height, reader.spec.rotation) == (*turned, 0)
        shown = [torch.rot90(frame.planes[0], -rotation // 90, (0, 1)) for frame in reader]
    assert [clips.frame_number(luma) for luma in shown] == list(range(12))


def test_sound_before_the_picture_goes_into_nut_too(tmp_path: Path) -> None:
    data = made(tmp_path / "in.mkv", container="matroska", sound=[clips.Sound()])
    assert packets_of_sound(tmp_path / "in.mkv")[0][1] < 0
    out, _ = through(data, StreamConfig(output_format="nut"))
    (tmp_path / "out.nut").write_bytes(out)
    before, after = ([pts for _, pts, _ in packets_of_sound(tmp_path / name)] for name in ("in.mkv", "out.nut"))
    pictures = zip(times_of(tmp_path / "in.mkv"), times_of(tmp_path / "out.nut"), strict=True)
    moved = [b - a for a, b in (*pictures, *zip(before, after, strict=True))]
    assert min(moved) > 0
    assert max(moved) - min(moved) <= Fraction(1, 1000)


def test_a_file_into_a_pipe_and_a_pipe_into_a_file(tmp_path: Path) -> None:
    clips.make_clip(tmp_path / "in.mp4", frames=12, size=SIZE, sound=[clips.Sound()])
    drain = Drain()
    with StreamReader(FileSource(tmp_path / "in.mp4"), frames=5) as reader:
        outlet = PipeOutlet("matroska", reader.container, drain.fd)
        with StreamWriter(outlet, reader.spec.scaled(2), sound=reader.sound) as writer:
            run(reader, Upscaler(fakes.Nearest(2)), writer)
    out = drain.end()
    assert numbers(out) == list(range(5))
    with fed(out) as source, StreamReader(PipeSource(StreamConfig(), source)) as reader:
        outlet = FileOutlet(tmp_path / "out.mp4", overwrite=False)
        with StreamWriter(outlet, reader.spec, sound=reader.sound) as writer:
            run(reader, Upscaler(fakes.Nearest(1)), writer)
    assert len(times_of(tmp_path / "out.mp4")) == 5
    assert clips.sound_of(tmp_path / "out.mp4")[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


@pytest.mark.parametrize("extension", ["mkv", "ts"])
def test_what_was_made_of_a_stream_before_an_error_is_kept_but_not_under_its_name(
    tmp_path: Path, extension: str, caplog: pytest.LogCaptureFixture
) -> None:
    out, part = (tmp_path / f"out{name}.{extension}" for name in ("", ".part"))
    of = fakes.spec()
    outlet = FileOutlet(out, overwrite=False)
    with pytest.raises(RuntimeError, match="enough"), StreamWriter(outlet, of, Encoding(preset="ultrafast")) as writer:
        for frame in fakes.frames(of, 20):
            writer.write(frame)
        raise RuntimeError("enough")
    assert [path.name for path in tmp_path.iterdir()] == [part.name]
    assert f"what was made until then is kept: {part}; it plays" in caplog.text
    assert len(times_of(part)) >= 15


def test_a_file_behind_standard_input_is_read_as_a_file(tmp_path: Path) -> None:
    """Of an MP4 as cameras write it, with its index at the end, nothing can be shown before that has come."""
    source = clips.make_clip(tmp_path / "in.mp4", frames=12)
    with source.open("rb") as file, StreamReader(PipeSource(StreamConfig(), file.fileno())) as reader:
        assert [clips.frame_number(frame.planes[0]) for frame in reader] == list(range(12))
        assert reader.facts()["ended"] == "end"
    # More than the demuxer holds, so that it cannot go back.
    words = ["-f", "lavfi", "-i", "testsrc=size=320x240:duration=1,noise=alls=50:allf=t", str(tmp_path / "long.mp4")]
    subprocess.run([peers.program(), "-v", "error", "-nostdin", *words], check=True)
    data = (tmp_path / "long.mp4").read_bytes()
    assert len(data) > 1 << 18 and data.index(b"mdat") < data.rindex(b"moov")
    with fed(data) as pipe, pytest.raises(InputError, match="give the file itself, or its copy"):
        StreamReader(PipeSource(StreamConfig(), pipe))


def test_a_file_that_was_begun_is_read_from_there(tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "in.ts", frames=12, bframes=0)
    (tmp_path / "both").write_bytes(b"x" * 1000 + source.read_bytes())
    with (tmp_path / "both").open("rb", buffering=0) as file:
        file.read(1000)
        with StreamReader(PipeSource(StreamConfig(), file.fileno())) as reader:
            assert [clips.frame_number(frame.planes[0]) for frame in reader] == list(range(12))


def test_of_a_stream_without_a_picture_nothing_is_left(tmp_path: Path) -> None:
    outlet = FileOutlet(tmp_path / "out.mkv", overwrite=False)
    with pytest.raises(RuntimeError, match="early"), StreamWriter(outlet, fakes.spec()):
        raise RuntimeError("early")
    assert not list(tmp_path.iterdir())


def test_what_is_no_video_is_refused() -> None:
    with pytest.raises(InputError, match="standard input: nothing came"):
        through(b"")
    with pytest.raises(InputError, match="cannot be read as a format that is known here"):
        through(bytes(range(256)) * 40)
    with pytest.raises(InputError, match="cannot be read"):
        through(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")
    with pytest.raises(InputError, match="cannot be read"):
        through(b"ffconcat version 1.0\nfile /etc/passwd\n")


def test_who_stops_reading_ends_the_run_well(tmp_path: Path) -> None:
    data = made(tmp_path / "in.nut", frames=200, **STREAMS["nut"])
    source, sink = os.pipe()
    threading.Thread(target=lambda: os.close(source) if os.read(source, 100) else None).start()
    with fed([data]) as feed:
        report = relay(feed, sink)
    os.close(sink)
    assert report.output["closed_early"]
    assert report.frames_out < 200


def test_the_command_line_between_two_pipes(tmp_path: Path) -> None:
    """As in a shell: standard output holds the video alone, and a reader that leaves is no error."""
    data = made(tmp_path / "in.nut", frames=100, **STREAMS["nut"])
    command = [sys.executable, "-m", "gtasr_video", "upscale", "-", "-", "--model", "bicubic", "--scale", "2"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        threading.Thread(target=_send, args=(process.stdin, data)).start()
        assert process.stdout.read(25) == b"nut/multimedia container\0"
        process.stdout.close()
        message = process.stderr.read().decode()
        assert process.wait(60) == 0
    assert "error" not in message
    assert "Traceback" not in message


def _send(pipe: Any, data: bytes) -> None:
    try:
        with pipe:
            pipe.write(data)
    except BrokenPipeError:
        pass


@pytest.mark.parametrize("seconds", [float("inf"), 1e9])
def test_a_pipe_may_be_waited_for_for_ever(seconds: float) -> None:
    with fed(b"data") as fd:
        inflow = Inflow(fd, first_s=seconds, idle_s=seconds)
        try:
            assert inflow.read(4) == b"data"
        finally:
            inflow.close()


def test_a_file_that_is_not_read_to_its_end_is_not_called_damaged(tmp_path: Path) -> None:
    """As when who reads the output leaves: the packet in which reading ends is cut short by us."""
    source = make_clip(tmp_path / "in.mp4", frames=200, size=(160, 128), sound=[Sound()])
    with StreamReader(FileSource(source)) as reader:
        for number, _ in enumerate(reader):
            if number == 4:
                reader.stop()
        assert number < 199
        assert reader.corrupt_packets == 0
        assert not list(reader.warnings())
