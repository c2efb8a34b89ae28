"""A run from or to a stream: pipes and addresses."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from gtasr_video.errors import InputError, UsageError
from gtasr_video.media.deinterlace import Deinterlace
from gtasr_video.media.encoding import Encoding
from gtasr_video.media.hdr import no_base
from gtasr_video.media.streams.address import Address
from gtasr_video.media.streams.config import StreamConfig
from gtasr_video.media.streams.fed_sound import SoundWish
from gtasr_video.media.streams.lists import is_list
from gtasr_video.media.streams.network_outlet import NetworkOutlet
from gtasr_video.media.streams.network_source import NetworkSource
from gtasr_video.media.streams.outlets import FileOutlet, Outlet, PipeOutlet
from gtasr_video.media.streams.pipe_source import FileSource, PipeSource
from gtasr_video.media.streams.reader import Source, StreamReader
from gtasr_video.media.streams.receivers import Receiver, receiver
from gtasr_video.media.streams.writer import StreamWriter, is_raw
from gtasr_video.media.window import WHOLE, Window
from gtasr_video.runtime.account import settled
from gtasr_video.runtime.announce import log_plan
from gtasr_video.runtime.live.config import LiveConfig
from gtasr_video.runtime.live.metrics import serving
from gtasr_video.runtime.live.networks import with_cheaper
from gtasr_video.runtime.live.panel import LivePanel
from gtasr_video.runtime.live.session import queue_for, run
from gtasr_video.runtime.live.status import LiveMonitor
from gtasr_video.runtime.progress import Mode, showing
from gtasr_video.runtime.report import Report
from gtasr_video.runtime.session import QUEUE
from gtasr_video.runtime.upscaler import Upscaler

log = logging.getLogger("gtasr_video")

STANDARD = "-"
AS_USUAL = LiveConfig()


def is_stream(name: str) -> bool:
    """Return whether `name` is a pipe or an address rather than a file."""
    return name == STANDARD or is_sent(name)


def is_address(name: str) -> bool:
    """Return whether `name` is an address of the network."""
    return "://" in name


def is_sent(name: str) -> bool:
    """Return whether the output `name` is an address or a list: one of several receivers that there may be."""
    return is_address(name) or is_list(name)


def check_streams(source: str, output: str, also: Sequence[str] = ()) -> None:
    """Refuse what cannot be used, before anything is opened. Raises UsageError, without repeating an address."""
    for name in filter(is_address, (source, output, *also)):
        Address(name)
    for name in filter(is_address, (output, *also)):
        if Address(name).scheme.muxer is None:
            raise UsageError(f"nothing can be sent to {Address(name).name}:// addresses")
    if also and not is_sent(output):
        raise UsageError("only an address, or an .m3u8 or .mpd list, can have others beside it; make that the output")
    if is_stream(source) and not is_stream(output) and (output.endswith("/") or Path(output).is_dir()):
        raise UsageError(f"{output} is a folder; name the file that the stream becomes: {Path(output) / 'stream.mkv'}")


def upscale_stream(
    source: str,
    output: str,
    upscaler: Upscaler,
    encoding: Encoding,
    config: StreamConfig,
    window: Window = WHOLE,
    live: LiveConfig = AS_USUAL,
    *,
    video_stream: int | None = None,
    deinterlace: Deinterlace = "auto",
    asked: Sequence[str] = (),
    drop_unsupported: bool = False,
    overwrite: bool = False,
    progress: Mode = "none",
) -> Report:
    """Upscale the stream `source` into `output`; either may be ``-``, standard input or output.

    window  how many seconds or frames are wanted; where a stream starts cannot be chosen
    live    how long a frame may take; of itself, a pipe, a file or a film behind http(s) waits for us, and a live
            stream does not
    asked   what of `encoding` is no default or configuration, and must not be passed over: crf, preset
    video_stream   index of the picture's stream in a pipe or a file; None takes the first that is no still

    A file that goes to an address, or has to keep a budget, is read at playback speed, and so is a playlist. Who reads
    the output may leave at any time: that ends the run well. Raises UsageError, InputError or OutputError.
    """
    if window.start is not None:
        raise UsageError("a stream is read from where it is; leave --start out, or give a file")
    receivers = open_receivers((output, *config.also), config, source, overwrite) if is_sent(output) else []
    monitor = LiveMonitor(window.frames, window.duration)
    with (
        serving(monitor, live.metrics),
        StreamReader(
            open_source(source, config, video_stream),
            duration=window.duration,
            frames=window.frames,
            deinterlace=deinterlace,
        ) as reader,
    ):
        if reader.needs_layer and not drop_unsupported:
            raise UsageError(no_base(reader.source.name))
        budget_s = live.budget_s(waits=reader.source.can_wait)
        outlet: Outlet
        if receivers:
            patience = config.give_up if config.on_end == "stop" else None
            can_wait = budget_s is None and reader.source.can_wait
            outlet = NetworkOutlet(receivers, patience_s=patience, can_wait=can_wait)
        else:
            outlet = open_outlet(output, config, reader.container, overwrite=overwrite)
        if asked and is_raw(outlet, encoding):
            raise UsageError(f"{outlet.name}: pictures go out raw, without --{asked[0]}; leave it out, or give --codec")
        enlarged = reader.spec.scaled(upscaler.scale)
        quick = budget_s is not None or isinstance(outlet, NetworkOutlet)
        wish = _wish(config, outlet)
        with StreamWriter(
            outlet,
            enlarged,
            encoding,
            sound=reader.sound,
            wish=wish,
            live=quick,
            stereo_mode=reader.stereo_mode,
            drop_unsupported=drop_unsupported,
            on_closed=reader.stop,
        ) as writer:
            streams = [*writer.facts()["streams"], *map(_not_carried, reader.others)]
            _say_what_is_left_out(writer, streams, wish)
            log_plan(reader, upscaler, writer, QUEUE if budget_s is None else queue_for(reader.spec, budget_s))
            with showing(monitor, progress, rich=LivePanel):
                report = run(
                    reader,
                    [upscaler] if budget_s is None else with_cheaper(upscaler),
                    writer,
                    budget_s=budget_s,
                    late=live.late,
                    paced=_comes_in_bursts(source, reader, budget_s, (output, *config.also)),
                    monitor=monitor,
                )
        return _told(reader, writer, report, streams)


def _told(reader: StreamReader, writer: StreamWriter, report: Report, streams: list[dict[str, Any]]) -> Report:
    """Warn of what was not as it should be, and return the whole report. Raises InputError if the stream was lost."""
    missed = [*writer.outlet.warnings()]
    lost = _mostly_lost(reader, report)
    for warning in (*reader.warnings(), *lost, *(() if writer.closed else writer.warnings()), *missed):
        log.warning("%s", warning)
    if report.input.get("ended") == "lost":
        log.warning("what came before is whole in %s", report.output["path"])
        raise InputError(f"{reader.source.name}: lost, and not had again ({report.input['ended_because']})")
    warnings = [*report.output["warnings"], *missed]
    whole = replace(report, output={**report.output, "streams": streams, "warnings": warnings})
    return settled(whole, Path(writer.outlet.name) if isinstance(writer.outlet, FileOutlet) else None)


def _not_carried(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "action": "left out", "reason": "streams carry picture and sound"}


def _say_what_is_left_out(writer: StreamWriter, streams: list[dict[str, Any]], wish: SoundWish) -> None:
    """Warn, in one line, of what comes in and does not go out; sound that nobody wanted is not spoken of."""
    lost = [s for s in streams if s["action"] == "left out" and not (wish.none and s["type"] == "audio")]
    if lost:
        names = ", ".join(f"{s['type']} stream {s['index']} ({s['codec']})" for s in lost)
        log.warning("%s (%s) cannot hold all; left out: %s", writer.outlet.name, writer.outlet.form.muxer, names)


def _wish(config: StreamConfig, outlet: Outlet) -> SoundWish:
    return SoundWish(
        outlet.sound_taken,
        first=isinstance(outlet, NetworkOutlet),
        anew=config.sound == "aac",
        loudness=config.loudness,
        silence=config.silence and outlet.needs_sound,
        none=config.sound == "none",
    )


def _comes_in_bursts(source: str, reader: StreamReader, budget_s: float | None, outputs: Sequence[str]) -> bool:
    """Return whether frames would come faster than they are wanted: all of a file, a segment of a playlist."""
    if source != STANDARD and reader.source.can_wait:
        return budget_s is not None or any(map(is_address, outputs))
    return is_address(source) and source.partition("?")[0].lower().endswith((".m3u8", ".mpd"))


def _mostly_lost(reader: StreamReader, report: Report) -> Iterator[str]:
    """Yield one line if more frames were left out than were shown."""
    if report.frames_dropped > report.frames_out:
        yield (
            f"{reader.source.name}: {report.frames_dropped} of {report.frames_in} frames were left out, since they came"
            " faster than they could be made; --latency none leaves out none, a cheaper --model fewer"
        )


def open_source(name: str, config: StreamConfig, video_stream: int | None = None) -> Source:
    """Return where the stream `name` comes from; nothing is opened yet. Raises UsageError."""
    if name == STANDARD:
        return PipeSource(config, video_stream=video_stream)
    if not is_address(name):
        return FileSource(Path(name), video_stream=video_stream)
    if video_stream is not None:
        # Each time it is had again it may number its streams anew.
        raise UsageError("--video-stream is for files and pipes; of an address the first picture is taken")
    return NetworkSource(Address(name), config)


def open_receivers(names: Sequence[str], config: StreamConfig, source: str, overwrite: bool) -> list[Receiver]:
    """Return the outputs `names`, addresses and lists, for what comes from `source`; nothing is touched yet.

    Raises UsageError or OutputError.
    """
    file = None if is_address(source) else Path("/dev/stdin" if source == STANDARD else source)
    receivers = [
        receiver(one, segments=config.segments, overwrite=overwrite, ca_file=config.ca_file, source=file)
        for one in names
    ]
    lists = [one.files for one in receivers if one.files is not None]
    for one, other in combinations(lists, 2):
        if one.shares_names(other):
            raise UsageError(f"{one.path} and {other.path} would write the same files; choose another name for one")
    return receivers


def open_outlet(name: str, config: StreamConfig, like: str, *, overwrite: bool) -> Outlet:
    """Return where the output `name` goes, a pipe or a file; `like`: the input's format.

    Raises UsageError or OutputError.
    """
    if name == STANDARD:
        return PipeOutlet(config.output_format, like)
    return FileOutlet(Path(name), overwrite=overwrite)
