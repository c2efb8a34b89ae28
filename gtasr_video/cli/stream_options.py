"""The options of ``upscale`` that concern streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from gtasr_video.api import UpscaleConfig

C = TypeVar("C", bound=Callable[..., Any])

# Named like the fields of StreamConfig, where their defaults are.
_OPTIONS = {
    "input_format": ("F", "Of an input '-': y4m, nut, mpegts, matroska, rawvideo.  [default: recognised]"),
    "size": ("WxH", "Size of the pictures of a rawvideo input."),
    "rate": ("FPS", "Frames a second of a rawvideo input, such as 25 or 30000/1001."),
    "input_pix_fmt": ("F", "Pixel format of a rawvideo input.  [default: yuv420p]"),
    "output_format": ("F", "Of an output '-'.  [default: as the input]"),
    "sound": ("auto|aac|none", "Of streams: copy it where it is taken, else AAC; always AAC; none.  [default: auto]"),
    "loudness": ("LUFS", "Bring the sound of a stream to this loudness, such as -16."),
    "on_end": ("stop|wait", "When a stream has ended, stop, or wait for more of it.  [default: stop]"),
}


def stream_options(command: C) -> C:
    """Add the options for streams to `command`."""
    for name, (metavar, text) in reversed(_OPTIONS.items()):
        command = click.option(f"--{name.replace('_', '-')}", name, metavar=metavar, help=text)(command)
    command = click.option("--also", multiple=True, metavar="URL|LIST", help="Send it there too; may be repeated.")(
        command
    )
    return click.option("--listen", is_flag=True, help="Wait at the address INPUT for one who publishes.")(command)


def with_streams(config: UpscaleConfig, options: dict[str, Any]) -> UpscaleConfig:
    """Take the options for streams out of `options` and return `config` with those that were given."""
    given = {name: options.pop(name) for name in (*_OPTIONS, "also", "listen")}
    for name, allowed in (("on_end", ("stop", "wait")), ("sound", ("auto", "aac", "none"))):
        if given[name] not in (None, *allowed):
            option = name.replace("_", "-")
            raise click.UsageError(f"--{option} is {' or '.join(allowed)}, not '{given[name]}'")
    if given["loudness"] is not None:
        given["loudness"] = _number("loudness", given["loudness"])
    known = {name: value for name, value in given.items() if value not in (None, (), False)}
    return replace(config, stream=replace(config.stream, **known))


def hide_secrets() -> None:
    """Take the secrets of addresses out of what others see of this program."""
    from gtasr_video.masking import mask
    from gtasr_video.media.streams.arguments import hide_arguments

    hide_arguments(mask)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise click.UsageError(f"--{name} is a number, not '{text}'") from error
