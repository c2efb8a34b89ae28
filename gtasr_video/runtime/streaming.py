"""A run from or to a stream: pipes and addresses."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from gtasr_video.errors import UsageError
from gtasr_video.media.encoding import Encoding
from gtasr_video.media.outlets import FileOutlet, Outlet, PipeOutlet
from gtasr_video.media.pipe_source import FileSource, PipeSource
from gtasr_video.media.stream_config import StreamConfig
from gtasr_video.media.stream_reader import Source, StreamReader
from gtasr_video.media.stream_writer import StreamWriter
from gtasr_video.runtime.live.config import LiveConfig
from gtasr_video.runtime.live.metrics import serving
from gtasr_video.runtime.live.networks import with_cheaper
from gtasr_video.runtime.live.panel import LivePanel
from gtasr_video.runtime.live.session import run
from gtasr_video.runtime.live.status import LiveMonitor
from gtasr_video.runtime.progress import Mode, showing
from gtasr_video.runtime.report import Report
from gtasr_video.runtime.upscaler import Upscaler

STANDARD = "-"
AS_USUAL = LiveConfig()


@dataclass(frozen=True, slots=True)
class Limits:
    """Which part of a stream is wanted: so many seconds or frames; where it starts cannot be chosen."""

    start: Fraction | None = None
    duration: Fraction | None = None
    frames: int | None = None


def is_stream(name: str) -> bool:
    """Return whether `name` is a pipe or an address rather than a file."""
    return name == STANDARD or is_address(name)


def is_address(name: str) -> bool:
    """Return whether `name` is an address of the network."""
    return "://" in name


def upscale_stream(
    source: str,
    output: str,
    upscaler: Upscaler,
    encoding: Encoding,
    config: StreamConfig,
    limits: Limits = Limits(),
    live: LiveConfig = AS_USUAL,
    *,
    overwrite: bool = False,
    progress: Mode = "none",
) -> Report:
    """Upscale the stream `source` into `output`; either may be ``-``, standard input or output.

    live  how long a frame may take; of itself, a pipe or a file waits for us, and an address does not

    A file that goes to an address is read at playback speed, and so is a playlist. Who reads the output may leave at
    any time: that ends the run well. Raises UsageError, InputError or OutputError.
    """
    if limits.start is not None:
        raise UsageError("a stream is read from where it is; leave --start out, or give a file")
    budget_s = live.budget_s(waits=not is_address(source))
    upscalers = [upscaler] if budget_s is None else with_cheaper(upscaler)
    with StreamReader(open_source(source, config), duration=limits.duration, frames=limits.frames) as reader:
        outlet = open_outlet(output, config, reader.container, overwrite=overwrite)
        enlarged = reader.spec.scaled(upscaler.scale)
        with StreamWriter(outlet, enlarged, encoding, sound=reader.sound, on_closed=reader.stop) as writer:
            monitor = LiveMonitor(limits.frames, limits.duration)
            with serving(monitor, live.metrics), showing(monitor, progress, rich=LivePanel):
                return run(
                    reader,
                    upscalers,
                    writer,
                    budget_s=budget_s,
                    late=live.late,
                    paced=_comes_in_bursts(source, output),
                    monitor=monitor,
                )


def _comes_in_bursts(source: str, output: str) -> bool:
    """Return whether frames would come faster than `output` wants them: all of a file, a segment of a playlist."""
    playlist = source.partition("?")[0].lower().endswith((".m3u8", ".mpd"))
    return playlist if is_stream(source) else is_address(output)


def open_source(name: str, config: StreamConfig) -> Source:
    """Return where the stream `name` comes from; nothing is opened yet. Raises UsageError."""
    return PipeSource(config) if name == STANDARD else FileSource(Path(name))


def open_outlet(name: str, config: StreamConfig, like: str, *, overwrite: bool) -> Outlet:
    """Return where the output `name` goes; `like` is the input's format. Raises UsageError or OutputError."""
    if name == STANDARD:
        return PipeOutlet(config.output_format, like)
    return FileOutlet(Path(name), overwrite=overwrite)
