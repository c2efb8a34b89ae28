"""How far a run is, how fast it goes and what holds it back: measured over the last seconds, shown while it runs."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Literal, Protocol, TextIO

from gtasr_video.runtime.report import Stages, limiting

Mode = Literal["auto", "rich", "json", "none"]
# Rates are means over this many seconds: long enough to be steady, short enough to be about now.
WINDOW_S = 5.0


@dataclass(frozen=True, slots=True)
class Status:
    """One look at a run.

    frame, frames   frames written, and how many there will be (None: unknown)
    fps, ratio      frames a second, and playing time over working time, over the last seconds
    done            share of the whole in 0..1, None if its length is unknown
    eta_s           seconds until the end at the present speed, None if that cannot be told yet
    limiting        the stage at work longest in the last seconds; "source" where a stream was waited for longer
    queues          items in each queue: a full queue's reader, an empty queue's writer is the slow one
    """

    frame: int
    frames: int | None
    fps: float
    ratio: float
    done: float | None
    eta_s: float | None
    elapsed_s: float
    limiting: str | None
    queues: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    frames: int
    media: float
    busy: dict[str, float]


class Monitor:
    """Counts what passes, and answers how it is going.

    frames    how many frames there will be, duration: how many seconds; None where unknown
    clock     seconds, for tests
    """

    def __init__(
        self,
        frames: int | None = None,
        duration: Fraction | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.frames_in = self.frames_out = 0
        self.media_seconds = 0.0
        self._frames, self._duration = frames, duration
        self._clock = clock
        self._stages = Stages()
        self._queues: Mapping[str, Sized] = {}
        self._samples: deque[_Sample] = deque()
        self._began = 0.0

    def watch(self, stages: Stages, queues: Mapping[str, Sized]) -> None:
        """Look at these stages and queues from now on."""
        self._stages, self._queues = stages, queues

    def decoded(self) -> None:
        """Count a frame in; the clock starts at the first."""
        if self.frames_in == 0:
            self._began = self._clock()
            self._samples.append(_Sample(self._began, 0, 0.0, self.busy()))
        self.frames_in += 1

    def written(self, media_seconds: float) -> None:
        """Count a frame out, up to which the output plays `media_seconds`."""
        self.media_seconds = max(self.media_seconds, media_seconds)
        self.frames_out += 1

    def busy(self) -> dict[str, float]:
        """Return the seconds that each stage, by name, was at work so far."""
        return self._stages.busy()

    def status(self) -> Status | None:
        """Return how it is going, or None before the first frame. For one thread."""
        if not self._samples:
            return None
        now = _Sample(self._clock(), self.frames_out, self.media_seconds, self.busy())
        while len(self._samples) > 1 and self._samples[1].at <= now.at - WINDOW_S:
            self._samples.popleft()
        then = self._samples[0]
        self._samples.append(now)
        seconds = now.at - then.at
        fps = (now.frames - then.frames) / seconds if seconds > 0 else 0.0
        ratio = (now.media - then.media) / seconds if seconds > 0 else 0.0
        return Status(
            frame=now.frames,
            frames=self._frames,
            fps=fps,
            ratio=ratio,
            done=self._done(),
            eta_s=self._eta(fps, ratio),
            elapsed_s=now.at - self._began,
            limiting=limiting({name: busy - then.busy[name] for name, busy in now.busy.items()}),
            queues=self.queues(),
        )

    def queues(self) -> dict[str, int]:
        """Return how many items wait in each queue."""
        return {name: len(queue) for name, queue in self._queues.items()}

    def _done(self) -> float | None:
        """Share that is written: by time where the length is known, since containers seldom know the frame count."""
        if self._duration:
            return min(1.0, self.media_seconds / float(self._duration))
        return min(1.0, self.frames_out / self._frames) if self._frames else None

    def _eta(self, fps: float, ratio: float) -> float | None:
        if self._duration and ratio > 0:
            return max(0.0, (float(self._duration) - self.media_seconds) / ratio)
        if self._frames and fps > 0:
            return max(0.0, (self._frames - self.frames_out) / fps)
        return None


class Display(Protocol):
    """Shows a status; both methods are called from one thread at a time."""

    interval_s: float

    def show(self, status: Status) -> None:
        """Show `status`."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class JsonDisplay:
    """One line of JSON a second."""

    interval_s = 1.0

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, status: Status) -> None:
        """Print `status` as one line."""
        rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(status).items()}
        print(json.dumps(rounded), file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing to leave."""


class RichDisplay:
    """A bar with frames, rate, ratio to real time, time left and the stage that limits."""

    interval_s = 0.2

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[text]}", markup=False))
        self._progress = Progress(*columns, console=Console(file=stream), auto_refresh=False, transient=True)
        self._task = self._progress.add_task("", total=None, text="starting")
        self._progress.start()

    def show(self, status: Status) -> None:
        """Draw `status`."""
        total = None if status.done is None else 1.0
        self._progress.update(self._task, total=total, completed=status.done or 0.0, text=describe(status))
        self._progress.refresh()

    def close(self) -> None:
        """Remove the bar."""
        self._progress.stop()


def describe(status: Status) -> str:
    """Return `status` as the line beside the bar."""
    of = f"/{status.frames}" if status.frames else ""
    parts = [f"frame {status.frame}{of}", f"{status.fps:.1f} fps", f"{status.ratio:.2f}x real time"]
    if status.eta_s is not None:
        minutes, seconds = divmod(round(status.eta_s), 60)
        hours, minutes = divmod(minutes, 60)
        parts.append(f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left")
    if status.limiting:
        parts.append(f"limited by {status.limiting}")
    return "  ".join(parts)


@contextmanager
def showing(
    monitor: Monitor,
    mode: Mode = "auto",
    stream: TextIO | None = None,
    *,
    rich: Callable[[TextIO], Display] = RichDisplay,
) -> Iterator[None]:
    """Show the progress of `monitor` on `stream` (stderr) while the block runs.

    auto is `rich` on a terminal and nothing elsewhere.
    """
    display = _display(mode, stream or sys.stderr, rich)
    if display is None:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_tick, args=(monitor, display, ended), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _display(mode: Mode, stream: TextIO, rich: Callable[[TextIO], Display]) -> Display | None:
    if mode == "rich" or (mode == "auto" and stream.isatty()):
        return rich(stream)
    return JsonDisplay(stream) if mode == "json" else None


def _tick(monitor: Monitor, display: Display, ended: threading.Event) -> None:
    """Show the status every interval and once at the end; a closed stream ends the display, not the run."""
    try:
        while not ended.wait(display.interval_s):
            _show(monitor, display)
        _show(monitor, display)
        display.close()
    except (OSError, ValueError):
        return


def _show(monitor: Monitor, display: Display) -> None:
    status = monitor.status()
    if status is not None:
        display.show(status)
