"""Someone who reads our output and has paused: that may hold up a run, but not its end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from gtasr_video.errors import OutputError
from gtasr_video.frames import Frame
from gtasr_video.media import MemoryReader
from gtasr_video.media.streams import byteflow
from gtasr_video.media.streams.outlets import PipeOutlet
from gtasr_video.media.streams.writer import StreamWriter
from gtasr_video.runtime.live.session import run
from gtasr_video.runtime.report import Report
from gtasr_video.runtime.upscaler import Upscaler
from tests import fakes

# Three frames are more than a pipe of ours holds.
SPEC = fakes.spec(640, 480)


@pytest.fixture
def unread() -> Iterator[tuple[int, int]]:
    """A pipe that nobody reads, both ends."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


class Endless(MemoryReader):
    """Frames without end; `at` is called at the fifth."""

    def __init__(self, at: Callable[[], None]) -> None:
        super().__init__((), SPEC)
        self.at = at
        self.stopped = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        for number, frame in enumerate(fakes.frames(SPEC, 10**9), 1):
            if number == 5:
                self.at()
            if self.stopped.is_set():
                return
            yield frame

    def stop(self) -> None:
        self.stopped.set()


def relay(into: int, at: Callable[[], None]) -> Report:
    reader = Endless(at)
    with StreamWriter(PipeOutlet("nut", "nut", into), SPEC) as writer:
        return run(reader, [Upscaler(fakes.Nearest(1), device="cpu", backend="torch")], writer)


def test_one_signal_gives_the_reader_a_little_time(unread: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byteflow, "HURRY_S", 0.3)
    with pytest.raises(OutputError, match=r"standard output: writing failed at frame \d .nobody took it for 0.3 s"):
        relay(unread[1], lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert not [t for t in threading.enumerate() if t.name == "encode"]


def test_who_goes_on_reading_gets_all_that_came(unread: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byteflow, "HURRY_S", 0.3)
    os.set_blocking(unread[0], False)
    ended = threading.Event()
    came = 0

    def read_on() -> None:
        nonlocal came
        while True:
            over = ended.wait(0.1)
            try:
                came += len(os.read(unread[0], 1 << 18))
            except BlockingIOError:
                if over:
                    return

    thread = threading.Thread(target=read_on)

    def ask() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        thread.start()

    report = relay(unread[1], ask)
    ended.set()
    thread.join(10)
    assert report.frames_in == report.frames_out + report.frames_dropped
    assert report.frames_out >= 3
    assert came == report.output["bytes"]


def test_a_second_signal_ends_at_once(unread: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byteflow, "HURRY_S", 60)
    insisted = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))

    def ask() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        insisted.start()

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt) as caught:
        relay(unread[1], ask)
    assert time.monotonic() - began < 5
    assert not hasattr(caught.value, "__notes__")  # that a thread is still busy
    assert not [t for t in threading.enumerate() if t.name == "encode"]


def test_nothing_is_closed_under_the_hands_of_who_writes(unread: tuple[int, int]) -> None:
    class Deaf(PipeOutlet):
        """As a disk that hangs: a write that waits cannot be ended."""

        def discard(self) -> None:
            pass

    outlet = Deaf("nut", "nut", unread[1])
    writer = StreamWriter(outlet, SPEC)
    failed: list[BaseException] = []

    def write() -> None:
        try:
            for frame in fakes.frames(SPEC, 10):
                writer.write(frame)
        except OutputError as error:
            failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    while writer.facts()["frames"] < 2:
        time.sleep(0.01)
    time.sleep(0.2)
    writer.abort()
    assert thread.is_alive()
    outlet.stop()
    thread.join(10)
    assert "writing failed at frame 2" in str(failed[0])
