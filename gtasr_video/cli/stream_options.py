"""The options of ``upscale`` that concern streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from gtasr_video.errors import UsageError

if TYPE_CHECKING:
    from gtasr_video.api import UpscaleConfig
    from gtasr_video.media.streams.config import StreamConfig

C = TypeVar("C", bound=Callable[..., Any])

# Named like the fields of StreamConfig, where their defaults are.
_OPTIONS = {
    "input_format": ("F", "Of an input '-': y4m, nut, mpegts, matroska, rawvideo.  [default: recognised]"),
    "size": ("WxH", "Size of the pictures of a rawvideo input."),
    "rate": ("FPS", "Frames a second of a rawvideo input or numbered pictures, such as 30000/1001."),
    "input_pix_fmt": ("F", "Pixel format of a rawvideo input.  [default: yuv420p]"),
    "output_format": ("F", "Of an output '-'.  [default: as the input]"),
    "sound": ("auto|aac|none", "Of streams: copy it where it is taken, else AAC; always AAC; none.  [default: auto]"),
    "loudness": ("LUFS", "Bring the sound of a stream to this loudness, such as -16."),
    "on_end": ("stop|wait", "When a stream has ended, stop, or wait for more of it.  [default: stop]"),
}


class _Run(NamedTuple):
    """What is to be done, and what kinds of run that is."""

    source: str
    output: str
    stream: StreamConfig

    def pipe_in(self) -> bool:
        return self.source == "-"

    def raw_in(self) -> bool:
        return self.pipe_in() and self.stream.input_format == "rawvideo"

    def rated(self) -> bool:
        from gtasr_video.media.sequence import is_pattern

        return self.raw_in() or is_pattern(Path(self.source))

    def pipe_out(self) -> bool:
        return self.output == "-"

    def streaming(self) -> bool:
        from gtasr_video.runtime.streaming import is_stream

        return is_stream(self.source) or is_stream(self.output)

    def sounding(self) -> bool:
        return self.streaming() and self.stream.sound != "none"

    def connecting(self) -> bool:
        from gtasr_video.runtime.streaming import is_address

        return any(map(is_address, (self.source, self.output, *self.stream.also)))

    def address_in(self) -> bool:
        from gtasr_video.runtime.streaming import is_address

        return is_address(self.source)

    def sending(self) -> bool:
        from gtasr_video.runtime.streaming import is_sent

        return is_sent(self.output)


# What each option is for, in words, and whether a run is that.
_MEANT_FOR: Final[dict[str, tuple[str, Callable[[_Run], bool]]]] = {
    "input_format": ("an INPUT '-'", _Run.pipe_in),
    "size": ("an INPUT '-' that is rawvideo", _Run.raw_in),
    "rate": ("an INPUT '-' that is rawvideo, or numbered pictures", _Run.rated),
    "input_pix_fmt": ("an INPUT '-' that is rawvideo", _Run.raw_in),
    "output_format": ("an OUTPUT '-'", _Run.pipe_out),
    "sound": ("pipes, addresses and lists", _Run.streaming),
    "loudness": ("pipes, addresses and lists with sound", _Run.sounding),
    "on_end": ("addresses", _Run.connecting),
    "also": ("an OUTPUT that is an address, or an .m3u8 or .mpd list", _Run.sending),
    "listen": ("an INPUT that is an address", _Run.address_in),
}


def stream_options(command: C) -> C:
    """Add the options for streams to `command`."""
    for name, (metavar, text) in reversed(_OPTIONS.items()):
        command = click.option(f"--{name.replace('_', '-')}", name, metavar=metavar, help=text)(command)
    command = click.option("--also", multiple=True, metavar="URL|LIST", help="Send it there too; may be repeated.")(
        command
    )
    return click.option("--listen", is_flag=True, help="Wait at the address INPUT for one who publishes.")(command)


def with_streams(config: UpscaleConfig, options: dict[str, Any], names: tuple[str, str]) -> UpscaleConfig:
    """Take the options for streams out of `options` and return `config` with those that were given.

    Raises UsageError for one that would do nothing where input and output are `names`.
    """
    given = {name: options.pop(name) for name in (*_OPTIONS, "also", "listen")}
    for name, allowed in (("on_end", ("stop", "wait")), ("sound", ("auto", "aac", "none"))):
        if given[name] not in (None, *allowed):
            option = name.replace("_", "-")
            raise click.UsageError(f"--{option} is {' or '.join(allowed)}, not '{given[name]}'")
    if given["loudness"] is not None:
        given["loudness"] = _number("loudness", given["loudness"])
    known = {name: value for name, value in given.items() if value is not None and value is not False and value != ()}
    stream = replace(config.stream, **known)
    for name in known:
        what, is_meant = _MEANT_FOR[name]
        if not is_meant(_Run(*names, stream)):
            raise UsageError(f"--{name.replace('_', '-')} is for {what}; leave it out here")
    return replace(config, stream=stream)


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
