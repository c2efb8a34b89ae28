"""``gtasr-video info``: what a file holds; without one, what this machine can do and what would be used."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

_PACKAGES = ("torch", "torchaudio", "av", "numpy", "ffmpeg-python", "decord", "imageio-ffmpeg", "safetensors")
_OPTIONAL = {
    "cpu": ("openvino",),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "evaluate": ("cv2", "scipy"),
    "train": ("PIL",),
    "peers": ("ncnn",),
    "live": ("prometheus_client",),
}

Rows = Iterator[tuple[str, str]]


@click.command("info", short_help="Say what a file holds, or what this machine can do.")
@click.argument("source", metavar="[INPUT]", required=False, type=click.Path())
def command(source: str | None) -> None:
    """Say what the video INPUT holds; without it, what this machine can do, what would be used, and why."""
    from gtasr_video.cli.messages import log_to_stderr
    from gtasr_video.errors import UsageError

    log_to_stderr(verbose=False)
    if source == "-":
        raise UsageError("info looks into files, not into pipes; save what comes and name that (a file called -: ./-)")
    rows = list(_machine() if source is None else _file(source))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {' '.join(value.split())}")


def _file(source: str) -> Rows:
    from gtasr_video.media import probe

    facts = probe(source)
    streams = facts.pop("streams")
    tags = facts.pop("tags")
    yield from _known(facts)
    for name, value in tags.items():
        yield f"tag {name}", value
    for stream in streams:
        kind = f"{stream.pop('type')} {stream.pop('index')}"
        yield kind, ", ".join(_said(name, value) for name, value in stream.items() if _worth_saying(value))


def _known(facts: dict[str, Any]) -> Rows:
    for name, value in facts.items():
        if _worth_saying(value):
            yield name, str(value)


def _worth_saying(value: object) -> bool:
    return value not in (None, "", [], False, "und")


def _said(name: str, value: Any) -> str:
    """Return one fact of a stream; what speaks for itself goes without its name."""
    if isinstance(value, list):
        value = " ".join(value)
    return name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {value}"


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
    yield from _encoders()
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


def _encoders() -> Rows:
    """Yield, for each codec, which encoders open here; being listed by FFmpeg means nothing."""
    from gtasr_video.media import encoders

    tried = encoders()
    for codec in dict.fromkeys(encoder.codec for encoder in tried):
        mine = [encoder for encoder in tried if encoder.codec == codec]
        words = [encoder.name if encoder.works else f"not {encoder.name} ({encoder.reason})" for encoder in mine]
        yield f"encode {codec}", ", ".join(words)


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
