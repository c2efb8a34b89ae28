"""What a run did, and where its time went."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from gtasr_video.errors import OutputError, one_line

_DESCRIPTORS: Final = ("/dev/std", "/dev/fd/", "/proc/self/fd/")


@dataclass(slots=True)
class Stage:
    """Seconds one stage of the pipeline was at work, and seconds it waited for its neighbours.

    Written by one thread; read by any.
    """

    busy_s: float = 0.0
    wait_s: float = 0.0

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count the block as work."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.busy_s += time.perf_counter() - begin

    def rest(self, seconds: float) -> None:
        """Count as waiting so many of the seconds that were counted as work."""
        self.busy_s -= seconds
        self.wait_s += seconds

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the block as waiting."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.wait_s += time.perf_counter() - begin


@dataclass(frozen=True, slots=True)
class Stages:
    """The five stages a frame goes through."""

    decode: Stage = field(default_factory=Stage)
    upload: Stage = field(default_factory=Stage)
    compute: Stage = field(default_factory=Stage)
    download: Stage = field(default_factory=Stage)
    encode: Stage = field(default_factory=Stage)

    def busy(self) -> dict[str, float]:
        """Return the seconds each stage was at work so far, by name."""
        return {f.name: getattr(self, f.name).busy_s for f in fields(self)}


def limiting(busy: dict[str, float]) -> str | None:
    """Return the stage that was at work longest: making it faster is what makes the whole faster."""
    name = max(busy, key=lambda stage: busy[stage])
    return name if busy[name] > 0 else None


@dataclass(frozen=True, slots=True)
class Report:
    """What `upscale` did.

    frames_in, frames_out, frames_dropped   decoded, written, and given up (live streams only)
    corrupt_packets       damaged packets that were skipped while decoding
    seconds               from the first frame decoded to the last encoded; a file is joined and audited after that
    media_seconds         playing time of what this run wrote; fps: frames that it wrote / seconds
    model, scale, seed    what enlarged; device, dtype, backend: where, in which type, by which engine
    tiles                 parts that frames were made in at the end, down x across; frames_redone: made again in float32
    input, output         facts of both files: path, size, codec, rate and what the reader and writer noticed
    stages                busy_s and wait_s of decode, upload, compute, download, encode; of several workers together
    limited_by            the stage that was at work longest; "source" where a stream was waited for even longer
    peak_rss_bytes        most memory this process ever held
    frames_resumed        of frames_out, those that an earlier run of the same command had finished
    audit                 what was counted: passed, frames, faults (empty) and notes; in the finished file, with its
                          sound_packets, or on the way where that is a picture, an animation or a stream
    live                  of streams: latency_ms (p50, p95, p99) and its budget, frames by who made them, what was left
                          out and why, reconnects, and each change of the ladder; None for files

    Example::

        >>> report = upscale("in.mp4", "out.mp4")
        >>> report.frames_in, report.frames_out, report.limited_by in report.stages
        (10, 10, True)
        >>> report.write("report.json")
    """

    frames_in: int
    frames_out: int
    frames_dropped: int
    corrupt_packets: int
    seconds: float
    media_seconds: float
    fps: float
    model: str
    scale: int
    seed: int
    device: str
    dtype: str
    backend: str
    tiles: str
    frames_redone: int
    input: dict[str, Any]
    output: dict[str, Any]
    stages: dict[str, dict[str, float]]
    limited_by: str | None
    peak_rss_bytes: int
    frames_resumed: int = 0
    audit: dict[str, Any] = field(default_factory=dict)
    live: dict[str, Any] | None = None

    @property
    def ratio(self) -> float:
        """Playing time over working time; 1 or more means that it keeps up with playback."""
        return self.media_seconds / self.seconds if self.seconds > 0 else 0.0

    def to_json(self) -> str:
        """Return all fields as indented JSON."""
        return json.dumps(asdict(self), indent=2)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write `to_json` to `path`, whole or not at all. Raises OutputError."""
        write_json(Path(path), self.to_json())

    def summary(self) -> str:
        """Return one line for people."""
        limit = f", limited by {self.limited_by}" if self.limited_by else ""
        frames = "1 frame" if self.frames_out == 1 else f"{self.frames_out} frames"
        if self.frames_resumed:
            frames += f" ({self.frames_resumed} made before)"
        size = f"{self.output.get('width')}x{self.output.get('height')}"
        speed = f" in {self.seconds:.1f} s, {self.fps:.1f} fps ({self.ratio:.2f}x real time{limit}){self._missed()}"
        if 0 < self.frames_out == self.frames_resumed:
            speed = ", joined"  # an earlier run has made them all
        return one_line(f"{self.output.get('path')}: {frames} of {size}{speed}")

    def _missed(self) -> str:
        """Return what a live run had no time for, as the end of a line; nothing if it had time for all."""
        stopgaps = self.live["stopgaps"] if self.live else 0
        said = {"by bicubic for want of time": stopgaps, "dropped": self.frames_dropped}
        return "".join(f", {count} {what}" for what, count in said.items() if count)


def combined(reports: Sequence[Report]) -> Report:
    """Return one report of what several runs did, one after the other or side by side.

    Frames and seconds, also those of the stages, are added up; else it is what the last one says.
    """
    busy = [report.stages for report in reports]
    stages = {
        stage: {key: sum(one[stage][key] for one in busy) for key in figures} for stage, figures in busy[-1].items()
    }
    return replace(
        reports[-1],
        frames_in=sum(report.frames_in for report in reports),
        frames_out=sum(report.frames_out for report in reports),
        frames_redone=sum(report.frames_redone for report in reports),
        seconds=sum(report.seconds for report in reports),
        stages=stages,
        limited_by=limiting({stage: figures["busy_s"] for stage, figures in stages.items()}),
        peak_rss_bytes=max(report.peak_rss_bytes for report in reports),
    )


def write_json(target: Path, text: str) -> None:
    """Write the JSON `text` to `target` (of a link, what it leads to), whole or not at all. Raises OutputError.

    What is no file, such as /dev/stdout or a named pipe, is written into and stays what it is.
    """
    if _is_open_elsewhere(target):
        try:
            with target.open("a", encoding="utf-8") as file:
                file.write(text + "\n")
        except OSError as error:
            raise OutputError(f"{target}: the report cannot be written ({error.strerror or error})") from error
        return
    target = Path(os.path.realpath(target))
    part = target.with_name(f"{target.name}.part")
    try:
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{target}: the report cannot be written ({error.strerror or error})") from error


def _is_open_elsewhere(target: Path) -> bool:
    """Return whether `target` is a pipe, a device, or the name of what is open already, be that a file."""
    is_descriptor = str(target.absolute()).startswith(_DESCRIPTORS)
    return target.exists() and (is_descriptor or not (target.is_file() or target.is_dir()))


def peak_rss_bytes() -> int:
    """Return the most memory this process ever held resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
