"""Pictures in and out of files through the bundled ffmpeg, as RGB frames: uint8 tensors (3, H, W).

A measurement does not go through the package's own reader and colour conversion, so that it can find their
faults. Nothing here runs a shell; names are passed as ``file:`` so that none is taken for an option or URL.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import ffmpeg
import imageio_ffmpeg
import torch
from torch import Tensor

from gtasr_video.errors import EvaluationError
from gtasr_video.media.codecs import steady_x264

# All frames of a measurement are given this rate: encoders only use it to spread bits.
RATE = Fraction(25)
# Exact rounding and full chroma, in place of swscale's fast defaults.
SCALE_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"

# What ffmpeg puts before a line: which of its parts speaks, and where that lies in memory.
_SPEAKER = re.compile(r"\[[^\[\]]* @ 0x[0-9a-f]+\] ")


@dataclass(frozen=True, slots=True)
class Encoding:
    """What an encoder is told: ffmpeg's output options, and the YUV matrix or None to stay RGB."""

    options: tuple[tuple[str, Any], ...]
    matrix: str | None = None


# x264 keeps RGB exactly at quantiser 0, and players can open the file.
LOSSLESS = Encoding(
    (("format", "matroska"), ("vcodec", "libx264rgb"), ("qp", 0), ("preset", "ultrafast"), ("threads", 2))
)


def x264(crf: int) -> Encoding:
    """Return x264 as most web video has it: 4:2:0, medium preset, BT.709, constant rate factor `crf`."""
    tags = tuple((key, "bt709") for key in ("colorspace", "color_primaries", "color_trc"))
    # One thread: the bytes then do not depend on the machine's number of cores.
    codec = (("vcodec", "libx264"), ("crf", crf), ("preset", "medium"), ("pix_fmt", "yuv420p"), ("threads", 1))
    steady = tuple(steady_x264().items())
    return Encoding((("format", "mp4"), *codec, *steady, ("color_range", "tv"), *tags), "bt709")


def ffmpeg_binary() -> str:
    """Return the path of the ffmpeg program that imageio-ffmpeg brings."""
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def read_frames(path: Path, limit: int | None = None) -> Iterator[Tensor]:
    """Yield every picture of a video or picture file, at most `limit`, as uint8 (3, H, W) RGB.

    Colour follows the file's own tags. Raises EvaluationError if it is missing, damaged or holds no picture.
    """
    if not path.is_file():
        raise EvaluationError(f"{path}: no such file")
    rgb = ffmpeg.input(f"file:{path}").video.filter("scale", flags=SCALE_FLAGS, out_range="pc")
    options: dict[str, Any] = {"format": "image2pipe", "vcodec": "ppm", "pix_fmt": "rgb24"}
    if limit is not None:
        options["frames:v"] = limit
    command = _command(rgb.output("pipe:", fps_mode="passthrough", **options), "-xerror")
    count = 0
    with _running(command, f"{path}: cannot be decoded", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while (frame := _read_ppm(process.stdout)) is not None:
            count += 1
            yield frame
    if not count:
        raise EvaluationError(f"{path}: holds no picture")


def write_frames(path: Path, frames: Iterable[Tensor], encoding: Encoding = LOSSLESS) -> int:
    """Encode `frames`, uint8 (3, H, W) of one size, and return how many there were.

    The file appears under its name only when it is whole. Raises EvaluationError if there is no frame, a
    size changes, or the encoder fails.
    """
    waiting = iter(frames)
    first = next(waiting, None)
    if first is None:
        raise EvaluationError(f"{path}: no frame to write")
    part = path.with_name(f"{path.name}.part")
    count = 0
    try:
        with _running(
            _encode_command(part, first, encoding), f"{path}: cannot be encoded", stdin=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            for frame in _chain(first, waiting):
                if frame.shape != first.shape:
                    raise EvaluationError(f"{path}: frame {count} has another size than the first")
                process.stdin.write(frame.permute(1, 2, 0).contiguous().numpy().data)
                count += 1
            process.stdin.close()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def run_ffmpeg(graph: Any, failure: str) -> None:
    """Run an ffmpeg-python graph to its end; raises EvaluationError that begins with `failure`."""
    with _running(_command(graph), failure):
        pass


def _encode_command(path: Path, first: Tensor, encoding: Encoding) -> list[str]:
    _, height, width = first.shape
    source = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=str(RATE)).video
    if encoding.matrix is not None:
        source = source.filter(
            "scale", flags=SCALE_FLAGS, out_color_matrix=encoding.matrix, in_range="pc", out_range="tv"
        )
    return _command(source.output(f"file:{path}", **dict(encoding.options)).overwrite_output())


def _command(graph: Any, *options: str) -> list[str]:
    compiled: list[str] = ffmpeg.compile(graph, cmd=ffmpeg_binary())
    return [compiled[0], "-hide_banner", "-nostdin", "-loglevel", "error", *options, *compiled[1:]]


@contextlib.contextmanager
def _running(command: list[str], failure: str, **pipes: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` while the body feeds or drains it; always ends it, and tells of its failure in one line."""
    # Errors go to a file: a full pipe that nobody reads would stop the program.
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stderr=errors, **pipes)  # type: ignore[call-overload]
        try:
            with contextlib.suppress(BrokenPipeError):
                yield process
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        if code:
            errors.seek(0)
            raise EvaluationError(f"{failure} ({_last_line(errors.read())})")


def _last_line(text: bytes) -> str:
    lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    return _SPEAKER.sub("", lines[-1]) if lines else "it said nothing"


def _read_ppm(pipe: IO[bytes]) -> Tensor | None:
    """Return the next picture of a stream of binary PPM, None at its end."""
    if not pipe.readline():
        return None
    width, height = map(int, pipe.readline().split())
    pipe.readline()  # the largest value, 255
    data = bytearray(width * height * 3)
    view, filled = memoryview(data), 0
    while filled < len(data):
        got = pipe.readinto(view[filled:])  # type: ignore[attr-defined]
        if not got:
            return None
        filled += got
    return torch.frombuffer(data, dtype=torch.uint8).view(height, width, 3).permute(2, 0, 1)


def _chain(first: Tensor, rest: Iterable[Tensor]) -> Iterator[Tensor]:
    yield first
    yield from rest
