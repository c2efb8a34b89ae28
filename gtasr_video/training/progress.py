"""How a run goes, in the terminal while it goes: loss and its terms, clips a second, time left, a sparkline."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, TextIO

from gtasr_video.training.schedule import schedule
from gtasr_video.training.settings import TrainSettings

# Rates are means over this many seconds.
_WINDOW_S = 30.0
# Where there is no terminal, a line this often and at each validation.
_LINE_EVERY_S = 60.0
_SPARKS = "▁▂▃▄▅▆▇█"
_VALIDATION = {"psnr_gain": "{:+.2f} dB", "vgg_ratio": "VGG16 x {:.3f}", "jitter_ratio": "jitter x {:.3f}"}


class Pace:
    """Counts steps and answers how fast they come and how long the rest will take.

    Steps of different phases cost differently: a phase's frames and batch are taken for its cost. Stage II and the
    perceptual distance cost more than that says, so the time left is an estimate that mends itself as phases end.
    """

    def __init__(self, settings: TrainSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phases = settings.phases
        self._steps = schedule(settings)
        self.total = sum(self._steps)
        self.done = 0
        self._samples: deque[tuple[float, int, float]] = deque([(clock(), 0, 0.0)])
        self._clips, self._work = 0, 0.0

    def step(self, line: dict[str, Any]) -> None:
        """Count the step of a line of metrics."""
        phase = self._phases[line["phase"]]
        self.done = line["step"]
        self._clips += phase.batch
        self._work += phase.batch * phase.frames
        now = self._clock()
        self._samples.append((now, self._clips, self._work))
        while len(self._samples) > 2 and self._samples[1][0] < now - _WINDOW_S:
            self._samples.popleft()

    @property
    def clips_per_second(self) -> float:
        """Clips a second over the last seconds."""
        (then, clips, _), (now, clips_now, _) = self._samples[0], self._samples[-1]
        return (clips_now - clips) / (now - then) if now > then else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds left at the present speed; None before there is one."""
        (then, _, work), (now, _, work_now) = self._samples[0], self._samples[-1]
        if now <= then or work_now <= work:
            return None
        return self._left() * (now - then) / (work_now - work)

    def _left(self) -> float:
        left, done = 0.0, self.done
        for phase, count in zip(self._phases, self._steps, strict=True):
            left += max(0, count - done) * phase.batch * phase.frames
            done = max(0, done - count)
        return left


def sparkline(values: Sequence[float], width: int = 32) -> str:
    """Return `values` as blocks of eight heights, each the mean of its share of them."""
    if not values:
        return ""
    width = min(width, len(values))
    ends = [len(values) * k // width for k in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(ends)]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(_SPARKS[min(7, int((mean - low) / span * 8))] for mean in means)


class Display:
    """Turns lines of metrics into the lines that are shown."""

    def __init__(self, settings: TrainSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.pace = Pace(settings, clock)
        self._losses: list[float] = []
        self._phase = -1
        self._validation = ""

    def step(self, line: dict[str, Any]) -> None:
        """Take in one line of metrics."""
        self.pace.step(line)
        if line["phase"] != self._phase:  # losses of different phases are sums of different terms
            self._phase, self._losses = line["phase"], []
        self._losses.append(line["loss"])
        self._line = line
        shown = [text.format(line[f"validation/{k}"]) for k, text in _VALIDATION.items() if f"validation/{k}" in line]
        if shown:
            self._validation = f"validation at step {line['step']}: {', '.join(shown)} against bicubic"

    def lines(self) -> list[str]:
        """Return progress, losses and the last validation, a line each."""
        line, eta = self._line, self.pace.eta_s
        left = "" if eta is None else f"  {_clock_time(eta)} left"
        head = f"step {line['step']}/{self.pace.total}  stage {line['stage']}  {self.pace.clips_per_second:.1f} clips/s"
        terms = [f"{k.removeprefix('loss/')} {v:.4f}" for k, v in line.items() if k.startswith("loss/")]
        losses = f"loss {line['loss']:.4f} {sparkline(self._losses)}  {'  '.join(terms)}"
        return [head + left, losses, *([self._validation] if self._validation else [])]


def _clock_time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@contextmanager
def showing(
    settings: TrainSettings, stream: TextIO | None = None, *, quiet: bool = False
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Show on `stream` (stderr) what is given to the function that this yields, a line of metrics a step.

    On a terminal three lines are drawn anew; elsewhere a line is printed once a minute and at each validation.
    """
    stream = stream or sys.stderr
    if quiet:
        yield lambda line: None
    elif stream.isatty():
        with _live(Display(settings), stream) as on_step:
            yield on_step
    else:
        yield _printing(Display(settings), stream)


def _printing(display: Display, stream: TextIO) -> Callable[[dict[str, Any]], None]:
    said = time.monotonic()

    def on_step(line: dict[str, Any]) -> None:
        nonlocal said
        display.step(line)
        if "validation/score" in line or time.monotonic() - said > _LINE_EVERY_S:
            said = time.monotonic()
            print("gtasr-video:", "  ".join(display.lines()), file=stream, flush=True)

    return on_step


@contextmanager
def _live(display: Display, stream: TextIO) -> Iterator[Callable[[dict[str, Any]], None]]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.text import Text

    bar = Progress(BarColumn(), TaskProgressColumn(), TextColumn("{task.description}", markup=False))
    task = bar.add_task("starting", total=display.pace.total)
    with Live(Group(bar), console=Console(file=stream), refresh_per_second=4) as live:

        def on_step(line: dict[str, Any]) -> None:
            display.step(line)
            head, *rest = display.lines()
            bar.update(task, completed=line["step"], description=head)
            live.update(Group(bar, *(Text(text, no_wrap=True, overflow="ellipsis") for text in rest)))

        yield on_step
