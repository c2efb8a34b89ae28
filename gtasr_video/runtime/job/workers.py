"""Several processes on one file: it is split at key pictures, and each takes the next part that nobody has.

A part begins with frames that only warm the network up, so its first frames are nearly, not exactly, what one process
would have made. Where it is split is kept in the journal: going on makes the same bytes, with any number of processes.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any, Final

import torch

from gtasr_video.errors import DeviceError, GTASRVideoError, describe
from gtasr_video.media import Reader
from gtasr_video.media.decoder import Decoder
from gtasr_video.runtime.job.source import Part

log = logging.getLogger("gtasr_video")

# Frames that a network sees before those that count. What it remembers fades: confidence is below 1 everywhere.
WARM_UP: Final = 12
# More parts than workers, so that none is idle for long at the end; but none shorter than this.
_PARTS_EACH: Final = 2
SHORTEST_S = Fraction(10)
# MPEG-PS gives a time to each pack rather than to each frame.
_LOOKED_AT: Final = 24
_LOOK_S: Final = 0.5


def split(reader: Reader, workers: int, shortest: Fraction | None = None) -> list[Part]:
    """Return the parts of what `reader` will read, cut at key pictures, about equally long; one where it cannot be cut.

    It can be cut where the file says how long it is and its frames have times of their own.
    """
    if workers < 2:
        return [Part()]
    cuts, reason = _cuts(reader, _PARTS_EACH * workers, shortest or SHORTEST_S)
    if not cuts:
        log.warning("%s: one process does it instead of %d: %s", reader.path, workers, reason)
    firsts: list[int | None] = [None, *sorted(cuts)]
    return [
        Part(first, end, WARM_UP if first is not None else 0)
        for first, end in zip(firsts, [*firsts[1:], None], strict=True)
    ]


def _cuts(reader: Reader, most: int, shortest: Fraction) -> tuple[list[int], str]:
    """Return the pts at which parts begin, of which there are `most` at most; where there are none, also why."""
    if reader.window.frames is not None:
        return [], "frames that are counted (--frames) are counted from the beginning"
    if reader.duration is None:
        return [], "the file does not say how long it is"
    count = min(most, int(reader.duration / shortest))
    if count < 2:
        return [], f"parts are no shorter than {float(shortest):g} s"
    length = reader.duration / count
    cuts: list[int] = []
    for number in range(1, count):
        pts = _key_before(reader, reader.first_time + number * length)
        if pts is None:
            return [], "its frames have no times of their own"
        if pts * reader.spec.time_base > reader.first_time and pts not in cuts:
            cuts.append(pts)
    return cuts, "it has no key picture to be split at"


def _key_before(reader: Reader, time: Fraction) -> int | None:
    """Return the pts of the last key picture before a file time, None where frames from there on have none."""
    decoder = Decoder(reader.path, reader.stream_index, threads=1)
    try:
        decoder.seek(time)
        found = [None if decoder.guesses_pts else frame.pts for frame in islice(decoder.frames(), _LOOKED_AT)]
        return None if None in found else next(iter(found), None)
    finally:
        decoder.close()


@dataclass(frozen=True, slots=True)
class Helper:
    """A process that works on parts, and the line on which it says what it did or what went wrong."""

    process: Any
    line: Connection


def hire(work: Callable[..., Any], *arguments: Any, threads: int) -> Helper:
    """Start a process that calls ``work(*arguments)``, which must be importable; `threads` is what torch may use.

    What that returns or raises can be had of `wait_for`.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(there, threads, work, arguments), daemon=True)
    process.start()
    there.close()
    return Helper(process, here)


def _run(line: Connection, threads: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        answer = work(*arguments)
    except (KeyboardInterrupt, GTASRVideoError) as error:
        answer = error  # with its notes, without its cause
    except Exception as error:
        answer = GTASRVideoError(f"a worker failed ({type(error).__name__}: {describe(error)})")
    with contextlib.suppress(OSError):  # who leads may be gone
        line.send(answer)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, whatever became of it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def wait_for(helpers: Sequence[Helper], look: Callable[[], None]) -> list[Any]:
    """Wait until all have ended, calling `look` now and then, and return what they did.

    The first that fails ends all, and that is raised.
    """
    answers: list[Any] = []
    try:
        running = list(helpers)
        while running:
            # A line has something to read when its helper has answered, and when it is gone.
            ready = wait([helper.line for helper in running], timeout=_LOOK_S)
            look()
            for helper in [h for h in running if h.line in ready]:
                running.remove(helper)
                answers.append(_answer(helper))
    finally:
        dismiss(helpers)
    return answers


def _answer(helper: Helper) -> Any:
    answer: Any = None
    with contextlib.suppress(EOFError):
        answer = helper.line.recv()
    helper.process.join()
    if isinstance(answer, BaseException):
        raise answer
    if helper.process.exitcode:
        raise DeviceError(f"a worker process died (exit code {helper.process.exitcode}); run the same command again")
    return answer


def dismiss(helpers: Sequence[Helper]) -> None:
    """End what still runs, and wait for it."""
    for helper in helpers:
        if helper.process.is_alive():
            helper.process.terminate()
    for helper in helpers:
        helper.process.join(20)
        if helper.process.is_alive():
            helper.process.kill()
            helper.process.join()
        helper.line.close()
