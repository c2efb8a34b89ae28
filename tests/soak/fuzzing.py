"""Files spoiled on purpose, by number: the same number always spoils the same file in the same way."""

from __future__ import annotations

import resource
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from gtasr_video.errors import GTASRVideoError, describe
from gtasr_video.media import Encoding, Reader, Writer, probe
from tests.clips import Sound, make_clip

EVEN: dict[str, Any] = {"time_base": Fraction(1, 25), "pts": list(range(12))}
SOURCES: dict[str, dict[str, Any]] = {
    "a.mp4": {"sound": [Sound()]},
    "b.mkv": {"sound": [Sound("mp3")], "codec": "libvpx-vp9"},
    "c.ts": {"sound": [Sound("mp3")]},
    "d.avi": {"codec": "mpeg4", **EVEN},
    "e.flv": {"sound": [Sound("mp3")]},
    "f.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le", "bframes": 0},
    "g.webm": {"codec": "libvpx-vp9", "sound": [Sound("libopus")]},
    "h.mkv": {"codec": "ffv1", "bframes": 0, "sound": [Sound("flac")]},
    "i.mpg": {"codec": "mpeg2video", **EVEN},
    "j.nut": {"codec": "mpeg4"},
    "k.wmv": {"codec": "mpeg4", "container": "asf"},
    "l.mp4": {"codec": "libx265", "bframes": 0},
    "m.mkv": {"codec": "libsvtav1", "size": (64, 64), "bframes": 0},
    "n.ivf": {"codec": "libvpx-vp9", "bframes": 0},
    "o.h264": {},
    "p.mxf": {"codec": "mpeg2video", **EVEN},
    "q.3gp": {"codec": "mpeg4"},
    "r.ogv": {"codec": "libvpx", "container": "ogg", **EVEN},
}
# Where headers say how large, how many and how long things are.
_LANDMARKS = (
    *(
        b"tkhd",
        b"mdhd",
        b"mvhd",
        b"stsd",
        b"stts",
        b"stsz",
        b"stco",
        b"stsc",
        b"ctts",
        b"elst",
        b"avc1",
        b"avcC",
        b"hvcC",
    ),
    *(b"moov", b"trak", b"strh", b"strf", b"avih", b"idx1", b"LIST", b"\x1a\x45\xdf\xa3", b"\x2a\xd7\xb1", b"\x44\x89"),
    *(b"\xe0", b"\xb0", b"\xba", b"\x47\x40", b"FLV\x01", b"onMetaData", b"width", b"duration", b"DKIF", b"OggS"),
)
_LIES = (b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\0\0", b"\x80\0\0\0", b"\xff" * 8)
MOST_BYTES = 3 * 2**30


def make_sources(folder: Path) -> dict[str, bytes]:
    """Return whole files, by name."""
    return {name: make_clip(folder / name, **{"frames": 12, **how}).read_bytes() for name, how in SOURCES.items()}


def spoiled(data: bytes, seed: int) -> bytes:
    """Flip bits, cut off, overwrite or repeat a stretch, or let a header lie."""
    generator = np.random.default_rng(seed)
    return _WAYS[int(generator.integers(0, len(_WAYS)))](bytearray(data), generator)


def _flip(data: bytearray, generator: np.random.Generator) -> bytes:
    for spot in generator.integers(0, len(data), generator.integers(1, 30)):
        data[spot] ^= 1 << int(generator.integers(0, 8))
    return bytes(data)


def _cut(data: bytearray, generator: np.random.Generator) -> bytes:
    return bytes(data[: generator.integers(1, len(data))])


def _noise(data: bytearray, generator: np.random.Generator) -> bytes:
    begin = int(generator.integers(0, max(1, len(data) - 200)))
    data[begin : begin + 150] = generator.bytes(150)
    return bytes(data)


def _repeat(data: bytearray, generator: np.random.Generator) -> bytes:
    begin, end = sorted(generator.integers(0, len(data), 2))
    return bytes(data[:end] + data[begin:])


def _lie(data: bytearray, generator: np.random.Generator) -> bytes:
    places = [at for mark in _LANDMARKS if (at := data.find(mark)) >= 0] or [0]
    for _ in range(int(generator.integers(1, 4))):
        spot = int(generator.choice(places)) + int(generator.integers(0, 100))
        lie = _LIES[int(generator.integers(0, len(_LIES)))]
        data[spot : spot + len(lie)] = lie
    return bytes(data)


_WAYS: tuple[Callable[[bytearray, np.random.Generator], bytes], ...] = (_flip, _cut, _noise, _repeat, _lie, _lie)


def try_file(path: Path, output: Path) -> str:
    """Send what can be read of `path` through the media layer; return "frames", "refused", or what is wrong."""
    try:
        try:
            probe(path)
        except GTASRVideoError as error:
            if str(path) not in describe(error):
                return f"a message that does not name the file: {describe(error)}"
        return _through(path, output)
    except GTASRVideoError as error:
        text = describe(error)
        return "refused" if text and "\n" not in text else f"a message of several lines: {text}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


def _through(path: Path, output: Path) -> str:
    with Reader(path, frames=200) as reader:
        encoding = Encoding(codec="ffv1")
        with Writer(output, reader.spec, encoding, source=reader, overwrite=True, drop_unsupported=True) as writer:
            for frame in reader:
                writer.write(frame)
    frames = reader.facts()["frames"]
    if not frames or writer.facts()["frames"] != frames:
        return f"{frames} frames read, {writer.facts()['frames']} written"
    return "frames"


def try_all(folder: Path, seeds: range, notes: Path) -> None:
    """Try each seed, in a process that may die of it: what is being tried, and how it ended, goes into `notes`."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    whole = {name: (folder / name).read_bytes() for name in SOURCES}
    work = folder / f"try-{seeds.start}"
    work.mkdir()
    with notes.open("a", encoding="utf-8") as file:
        for seed in seeds:
            name = list(SOURCES)[seed % len(SOURCES)]
            path = work / f"spoiled{Path(name).suffix}"
            path.write_bytes(spoiled(whole[name], seed))
            file.write(f"{seed} {name} ")
            file.flush()
            end = try_file(path, work / "out.mkv")
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            if peak > MOST_BYTES:
                end = f"took {peak >> 20} MiB"
            if list(work.glob("*.part*")):
                end = "left half a file"
            file.write(" ".join(end.split()) + "\n")
            file.flush()
