"""Test clips made on the spot with real encoders: every frame carries its number, readable by a machine.

`make_clip` writes a file with the picture and sound that are asked for; `frame_number` reads a number back from any
luma plane, also after lossy coding and enlarging. `with_elements` adds what is not written here,
`truncate`, `damage_packets`, `lose`, `bring_forward` and `join` spoil files on purpose.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from gtasr_video.media.codecs import hush

_GRID = 4  # 4 x 4 cells in the upper left quarter hold 16 bits, most significant first


@dataclass(frozen=True)
class Sound:
    """A sound track: a tone of `tone` Hz, slowly rising, with a click (full scale, 1 ms) at every whole second."""

    codec: str = "aac"
    language: str = "und"
    rate: int = 48000
    layout: str = "stereo"
    tone: float = 440.0
    title: str = ""
    start: Fraction = Fraction(0)
    default: bool = True


@dataclass(frozen=True)
class Picture:
    """What the stream says of its picture; codes are FFmpeg's (H.273), None leaves them unsaid."""

    matrix: int | None = None
    full_range: bool | None = None
    primaries: int | None = None
    transfer: int | None = None
    siting: str | None = None
    sample_aspect: Fraction | None = None
    rotation: int = 0
    options: dict[str, str] = field(default_factory=dict)


def times(frames: int, fps: Fraction | int = 25, time_base: Fraction = Fraction(1, 12800)) -> list[int]:
    """Return evenly spaced pts in ticks."""
    return [round(i / Fraction(fps) / time_base) for i in range(frames)]


def phone_times(frames: int, time_base: Fraction = Fraction(1, 90000), seed: int = 0) -> list[int]:
    """Return pts as phones make them: about 30 a second, jittering, now and then one left out."""
    generator = np.random.default_rng(seed)
    steps = generator.integers(2700, 3300, frames) + 3000 * (generator.random(frames) < 0.05)
    ticks = np.concatenate([[0], np.cumsum(steps)[:-1]])
    return [round(int(t) * Fraction(1, 90000) / time_base) for t in ticks]


def luma_of(number: int, width: int, height: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return luma in [0, 1] of frame `number`: its bits in the upper left quarter, a moving pattern elsewhere."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    luma = 0.5 + 0.25 * np.sin((x + 3 * number) / 7) * np.cos((y - number) / 9)
    for bit in range(_GRID * _GRID):
        row, column = divmod(bit, _GRID)
        top, bottom = (height * row // (2 * _GRID), height * (row + 1) // (2 * _GRID))
        left, right = (width * column // (2 * _GRID), width * (column + 1) // (2 * _GRID))
        luma[top:bottom, left:right] = 0.9 if number >> (_GRID * _GRID - 1 - bit) & 1 else 0.1
    return luma.astype(np.float32)


def frame_number(luma: Tensor, bits: int = 8) -> int:
    """Return the number burnt into a luma plane (h, w) of `bits` per sample."""
    plane = luma.to(torch.int32).float() / ((1 << bits) - 1)
    height, width = plane.shape
    number = 0
    for bit in range(_GRID * _GRID):
        row, column = divmod(bit, _GRID)
        y, x = (2 * row + 1) * height // (4 * _GRID), (2 * column + 1) * width // (4 * _GRID)
        number = number << 1 | int(plane[y : y + 1, x : x + 1].mean() > 0.5)
    return number


def picture_of(number: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
    """Return frame `number` in any pixel format: planar YUV and grey are drawn directly, others converted."""
    form = av.VideoFormat(pix_fmt, width, height)
    if not pix_fmt.startswith(("yuv4", "gray")) or form.is_big_endian:
        # One thread: swscale writes past the ends of lines, which several threads do over each other's lines.
        return picture_of(number, width, height, "yuv444p").reformat(format=pix_fmt, threads=1)
    bits = form.components[0].bits
    top = (1 << bits) - 1
    frame = av.VideoFrame(width, height, pix_fmt)
    kind = np.uint8 if bits <= 8 else np.uint16
    for index, plane in enumerate(frame.planes):
        step = plane.line_size // np.dtype(kind).itemsize
        values = np.frombuffer(plane, kind).reshape(plane.height, step)[:, : plane.width]
        if index == 0:
            values[:] = (16 / 255 + luma_of(number, width, height) * 219 / 255) * top
        else:
            y, x = np.mgrid[0 : plane.height, 0 : plane.width].astype(np.float32)
            wave = np.sin(x / plane.width * 4 + number / 5) if index == 1 else np.cos(y / plane.height * 3 - number / 7)
            values[:] = (0.5 + 0.3 * wave) * top
    return frame


def make_clip(
    path: str | os.PathLike[str],
    *,
    frames: int = 24,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 12800),
    fps: Fraction | int = 25,
    sound: Iterable[Sound] = (),
    sound_seconds: float | None = None,
    picture: Picture | None = None,
    gop: int = 12,
    bframes: int = 2,
    first_number: int = 0,
    container: str | None = None,
    metadata: dict[str, str] | None = None,
    chapters: list[Any] | None = None,
    sound_first: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a clip and return its path. `pts` are ticks of `time_base`; evenly spaced by `fps` unless given.

    `frames` 0 writes sound only. `options` go to the muxer.
    """
    ticks = list(pts) if pts is not None else times(frames, fps, time_base)
    tracks = list(sound)
    # An offset at the start of an MP4 is stored in ticks of the movie, by default milliseconds.
    exact = {"movie_timescale": str(time_base.denominator)} if os.fspath(path).endswith((".mp4", ".mov")) else {}
    with av.open(os.fspath(path), "w", format=container, container_options={**exact, **(options or {})}) as output:
        output.metadata.update(metadata or {})
        if chapters:
            output.set_chapters(chapters)
        made = [_add_sound(output, track) for track in tracks] if sound_first else []
        video: Any = None
        if ticks:
            video = _add_picture(
                output, codec, size, pix_fmt, len(ticks), time_base, fps, gop, bframes, picture or Picture()
            )
        made = made or [_add_sound(output, track) for track in tracks]
        last = (ticks[-1] + _usual_step(ticks)) * time_base if ticks else Fraction(1)
        seconds = sound_seconds if sound_seconds is not None else float(last)
        pending = [_sound_packets(stream, track, seconds) for stream, track in zip(made, tracks, strict=True)]
        for number, tick in enumerate(ticks, first_number):
            frame = picture_of(number, *size, pix_fmt)
            frame.pts, frame.time_base = tick, time_base
            output.mux(video.encode(frame))
        if video is not None:
            output.mux(video.encode(None))
        for packets in pending:
            output.mux(packets)
    return Path(path)


def _usual_step(ticks: Sequence[int]) -> int:
    return ticks[-1] - ticks[-2] if len(ticks) > 1 else 512


def _add_picture(
    output: Any,
    codec: str,
    size: tuple[int, int],
    pix_fmt: str,
    frames: int,
    time_base: Fraction,
    fps: Fraction | int,
    gop: int,
    bframes: int,
    picture: Picture,
) -> Any:
    # Without reordering, as libx265 invents decoding times for clips shorter than its delay.
    x265 = f"log-level=none:bframes={bframes if frames > 12 else 0}"
    options = {"libx264": {"preset": "ultrafast", "crf": "10"}, "libx265": {"x265-params": x265}}
    chosen = {**options.get(codec, {}), **picture.options}
    if picture.siting is not None:
        chosen["chroma_sample_location"] = picture.siting
    hush(codec)  # SVT-AV1 settles how much it says at its first opening in a process, for the tests after it too
    stream = output.add_stream(codec, rate=Fraction(fps), options=chosen)
    stream.time_base = time_base
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = *size, pix_fmt
    # MPEG-2 knows only its list of frame rates.
    context.time_base = 1 / Fraction(fps) if codec == "mpeg2video" else time_base
    context.gop_size, context.thread_count = gop, 1
    if codec in ("libx264", "mpeg4", "mpeg2video"):
        context.max_b_frames = bframes
    for name, value in (
        ("colorspace", picture.matrix),
        ("color_primaries", picture.primaries),
        ("color_trc", picture.transfer),
        ("color_range", None if picture.full_range is None else 1 + picture.full_range),
        ("sample_aspect_ratio", picture.sample_aspect),
    ):
        if value is not None:
            setattr(context, name, value)
    if picture.rotation:
        stream.set_display_rotation(picture.rotation)
    return stream


def _add_sound(output: Any, track: Sound) -> Any:
    stream = output.add_stream(track.codec, rate=track.rate)
    stream.codec_context.layout = track.layout
    stream.metadata["language"] = track.language
    if track.title:
        stream.metadata["title"] = track.title
    stream.disposition = int(track.default)
    return stream


def waveform(track: Sound, seconds: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the samples (n,) of `track`."""
    moments = np.arange(round(seconds * track.rate)) / track.rate
    samples = 0.2 * np.sin(2 * np.pi * track.tone * moments * (1 + moments / 20))
    samples[(moments % 1.0) < 0.001] = 0.95
    return samples.astype(np.float32)


def _sound_packets(stream: Any, track: Sound, seconds: float) -> list[Any]:
    samples = waveform(track, seconds)
    channels = stream.codec_context.layout.nb_channels
    packets: list[Any] = []
    for begin in range(0, len(samples), 1024):
        # Interleaved: PyAV fills no more than eight planes.
        part = np.repeat(samples[begin : begin + 1024], channels)[None]
        frame = av.AudioFrame.from_ndarray(part, format="flt", layout=track.layout)
        frame.rate, frame.time_base = track.rate, Fraction(1, track.rate)
        frame.pts = begin + round(track.start * track.rate)
        packets += stream.encode(frame)
    return packets + list(stream.encode(None))


def with_elements(path: Path, elements: bytes, **how: Any) -> Path:
    """Write an MKV whose video track has these elements, in the place of what it says of its colours."""
    make_clip(path, picture=Picture(1, False, 1, 1, "left"), **how)
    data = path.read_bytes()
    start = data.index(b"\x55\xb0")
    size = 3 + (data[start + 2] & 0x7F)
    void = size - len(elements) - 2
    path.write_bytes(data[:start] + elements + bytes([0xEC, 0x80 | void]) + bytes(void) + data[start + size :])
    return path


def truncate(path: Path, fraction: float, to: Path) -> Path:
    """Write the first `fraction` of `path` into `to`."""
    data = path.read_bytes()
    to.write_bytes(data[: int(len(data) * fraction)])
    return to


def damage_packets(path: Path, which: Iterable[int], to: Path, seed: int = 0) -> Path:
    """Write `path` into `to` with the payload of some video packets (by decoding order) overwritten by noise."""
    generator = np.random.default_rng(seed)
    data = bytearray(path.read_bytes())
    with av.open(os.fspath(path)) as source:
        spots = [(p.pos, p.size) for p in source.demux(source.streams.video[0]) if p.size]
    for index in which:
        position, length = spots[index]
        assert position is not None
        begin = position + min(8, length // 2)
        data[begin : position + length] = generator.bytes(position + length - begin)
    to.write_bytes(data)
    return to


def lose(path: Path, index: int, every: int, to: Path) -> Path:
    """Write the MPEG-TS `path` into `to` without every so-many-th transport packet of one stream, from the second."""
    with av.open(os.fspath(path)) as source:
        number = source.streams[index].id
    data, seen, kept = path.read_bytes(), 0, []
    for begin in range(0, len(data), 188):
        packet = data[begin : begin + 188]
        if (packet[1] & 31) << 8 | packet[2] == number:
            seen += 1
            if seen > every and seen % every == 0:
                continue
        kept.append(packet)
    to.write_bytes(b"".join(kept))
    return to


def silence(path: Path, index: int, to: Path, until: float = 1.0) -> Path:
    """Write the MPEG-TS `path` into `to` without the first part of one stream (all by default), which stays listed."""
    with av.open(os.fspath(path)) as source:
        number = source.streams[index].id
    data = path.read_bytes()
    packets = [data[begin : begin + 188] for begin in range(0, len(data), 188)]
    gone = int(until * len(packets))
    kept = (p for n, p in enumerate(packets) if n >= gone or (p[1] & 31) << 8 | p[2] != number)
    to.write_bytes(b"".join(kept))
    return to


def bring_forward(path: Path, index: int, seconds: float, to: Path) -> Path:
    """Write the MPEG-TS `path` into `to` with one stream about so many seconds before the picture of its time."""
    with av.open(os.fspath(path)) as source:
        number, length = source.streams[index].id, (source.duration or 0) / av.time_base
    data = path.read_bytes()
    packets = [data[begin : begin + 188] for begin in range(0, len(data), 188)]
    ahead = int(seconds / length * len(packets))
    head = 20  # tables come first

    def place(n: int) -> int:
        is_moved = (packets[n][1] & 31) << 8 | packets[n][2] == number
        return max(head, n - ahead) if is_moved else n

    to.write_bytes(b"".join(packets[n] for n in sorted(range(len(packets)), key=place)))
    return to


def add_words(path: Path, to: Path, cues: Iterable[tuple[float, float, str]], lead: float = 0) -> Path:
    """Write `path` into the Matroska file `to` with subtitles: (begin, length, text) in seconds, texts all different.

    lead   how many seconds they lie in the file before what else is of their time
    """
    whole = {"cluster_time_limit": "32000", "cluster_size_limit": "10000000"}
    moved: list[tuple[bytes, int]] = []
    with av.open(os.fspath(path)) as source, av.open(os.fspath(to), "w", container_options=whole) as output:
        packets = [packet for packet in source.demux() if packet.size]
        copies = {stream.index: output.add_stream_from_template(stream, opaque=True) for stream in source.streams}
        for packet in packets:
            packet.stream = copies[packet.stream_index]
        words: Any = output.add_mux_stream("subrip")
        for begin, length, text in cues:
            said: Any = av.Packet(text.encode())
            said.stream, said.time_base = words, Fraction(1, 1000)
            said.pts = said.dts = round(max(0, begin - lead) * 1000)
            said.duration = round(length * 1000)
            moved.append((text.encode(), round(begin * 1000) - said.pts))
            packets.append(said)
        for packet in sorted(packets, key=lambda p: (p.dts if p.dts is not None else p.pts or 0) * p.time_base):
            output.mux(packet)
    data = bytearray(to.read_bytes())
    for text, ticks in moved if lead else ():
        assert data.count(text) == 1
        time = slice(data.index(text) - 3, data.index(text) - 1)  # in its cluster, before one byte of flags
        data[time] = (int.from_bytes(data[time], "big", signed=True) + ticks).to_bytes(2, "big", signed=True)
    to.write_bytes(data)
    return to


def join(parts: Iterable[Path], to: Path) -> Path:
    """Write the bytes of `parts` one after the other (MPEG-TS files stay playable)."""
    to.write_bytes(b"".join(part.read_bytes() for part in parts))
    return to


def sound_of(path: str | os.PathLike[str]) -> dict[int, list[tuple[Fraction, Fraction, bytes]]]:
    """Return (pts, dts, bytes) in seconds of every packet of each sound track, by position among the tracks."""
    found: dict[int, list[tuple[Fraction, Fraction, bytes]]] = {}
    with av.open(os.fspath(path)) as source:
        tracks = list(source.streams.audio)
        for packet in source.demux(tracks) if tracks else ():
            if packet.size and packet.pts is not None and packet.dts is not None:
                entry = (packet.pts * packet.time_base, packet.dts * packet.time_base, bytes(packet))
                found.setdefault(tracks.index(packet.stream), []).append(entry)
    return found


def see_through(path: Path, codec: str, pix_fmt: str, frames: int = 3, **options: str) -> Path:
    """Write a clip whose alpha rises from left to right and from frame to frame, and is clear in the upper half."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        for number in range(frames):
            picture = np.empty((48, 64, 4), np.uint8)
            picture[..., :3] = 40 + 5 * number
            picture[..., 3] = np.minimum(np.arange(64) * 4 + number, 255)
            picture[:24, :, 3] = 0
            frame = av.VideoFrame.from_ndarray(picture, "rgba").reformat(format=pix_fmt, threads=1)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path
