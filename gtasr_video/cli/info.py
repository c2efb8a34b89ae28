"""``gtasr-video info``: what a file holds; without one, what this machine can do and what would be used."""

from __future__ import annotations

import importlib.util
import os
import platform
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

_PACKAGES = ("torch", "torchaudio", "av", "numpy", "ffmpeg-python", "decord", "imageio-ffmpeg", "safetensors")
_OPTIONAL = {"evaluate": ("cv2", "scipy"), "train": ("PIL",), "peers": ("ncnn",)}

Rows = Iterator[tuple[str, str]]


@click.command("info", short_help="Say what a file holds, or what this machine can do.")
@click.argument("source", metavar="[INPUT]", required=False, type=click.Path())
def command(source: str | None) -> None:
    """Say what the video INPUT holds; without it, what this machine can do, what would be used, and why."""
    from gtasr_video.cli.messages import log_to_stderr

    log_to_stderr(verbose=False)
    rows = list(_machine() if source is None else _file(source))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {' '.join(value.split())}")


def _file(source: str) -> Rows:
    from gtasr_video.media import Reader

    with Reader(source) as reader:
        for name, value in reader.facts().items():
            yield name, str(value)


def _machine() -> Rows:
    import torch

    from gtasr_video.cli import version as own_version
    from gtasr_video.device import choose

    device = choose()
    yield "gtasr-video", own_version()
    yield "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield "packages", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    yield "extras", ", ".join(f"{name}: {_extra(modules)}" for name, modules in _OPTIONAL.items())
    yield "device", f"{device.name} in {str(device.dtype).removeprefix('torch.')}: {device.reason}"
    cores = len(os.sched_getaffinity(0))
    yield "cores", f"{cores}; the network uses {torch.get_num_threads()} threads, the decoder up to {min(4, cores)}"
    yield "encoders", _encoders()
    yield "ffmpeg", _ffmpeg()
    yield "weights", _weights()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _extra(modules: tuple[str, ...]) -> str:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return f"missing {' and '.join(missing)}" if missing else "installed"


def _encoders() -> str:
    """Return which codecs encode here: found out by encoding a frame, since being listed means nothing."""
    from gtasr_video.errors import GTASRVideoError, describe
    from gtasr_video.media.encoding import CODECS

    words = []
    with tempfile.TemporaryDirectory(prefix="gtasr-video-") as folder:
        for name, codec in CODECS.items():
            try:
                _encode_one(Path(folder) / f"{name}.mkv", name)
                words.append(f"{name} ({codec.encoder})")
            except GTASRVideoError as error:
                words.append(f"{name} NOT: {describe(error)}")
    return ", ".join(words)


def _encode_one(path: Path, codec: str) -> None:
    from fractions import Fraction

    import torch

    from gtasr_video.frames import Frame, PixelLayout, VideoSpec
    from gtasr_video.media import Encoding, Writer

    spec = VideoSpec(64, 64, Fraction(1, 25), PixelLayout("yuv420p"), frame_rate=Fraction(25))
    with Writer(path, spec, Encoding(codec=codec)) as writer:
        layout = writer.spec.layout
        sizes = [layout.plane_size(i, 64, 64) for i in range(layout.planes)]
        writer.write(Frame(tuple(torch.full(size, 128, dtype=layout.dtype) for size in sizes), pts=0, duration=1))


def _ffmpeg() -> str:
    import imageio_ffmpeg

    try:
        return f"{imageio_ffmpeg.get_ffmpeg_version()} at {imageio_ffmpeg.get_ffmpeg_exe()}"
    except RuntimeError as error:
        return f"none found ({error})"


def _weights() -> str:
    from gtasr_video.errors import ModelError
    from gtasr_video.models import TIERS, weights_path

    found = []
    for name in TIERS:
        try:
            weights_path(name)
            found.append(name)
        except ModelError:
            continue
    return f"{', '.join(found) or 'none'} (gtasr-video models says more)"
