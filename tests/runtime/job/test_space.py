"""A full disk ends a job so that it can go on, or is waited for."""

from __future__ import annotations

import errno
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from gtasr_video.errors import OutputError, describe
from gtasr_video.frames import Frame
from gtasr_video.media import durable
from gtasr_video.runtime import job as jobs
from tests.runtime.job.jobs import do, film, folder_of

# The kernel answers every write to it as a full disk does.
FULL = Path("/dev/full")


def test_a_disk_that_fills_up_keeps_what_is_done(tmp_path: Path) -> None:
    source, out, whole = film(tmp_path / "in.mp4"), tmp_path / "out.mp4", tmp_path / "whole.mp4"
    do(source, whole)

    def fills_up(number: int, _: Frame) -> None:
        if number == 1:
            (folder_of(out) / "part-0" / "000002.packets").symlink_to(FULL)

    with pytest.raises(OutputError, match="the disk is full; make room") as caught:
        do(source, out, before_step=fills_up)
    assert "frames are kept in" in describe(caught.value)
    assert not out.exists()
    assert do(source, out).frames_resumed > 0
    assert out.read_bytes() == whole.read_bytes()


def full_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let joining fail the first time as it does where the disk is full."""
    join, times = jobs.join, iter(range(10))

    def joined(segments: Any, writer: Any) -> None:
        if next(times) == 0:
            raise OutputError(f"{writer.path}: writing failed (the disk is full)") from OSError(errno.ENOSPC, "full")
        join(segments, writer)

    monkeypatch.setattr(jobs, "join", joined)


def test_a_disk_that_is_full_when_the_segments_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out, whole = film(tmp_path / "in.mp4"), tmp_path / "out.mp4", tmp_path / "whole.mp4"
    do(source, whole)
    full_once(monkeypatch)
    with pytest.raises(OutputError, match="the disk is full") as caught:
        do(source, out)
    assert "90 frames are kept in" in describe(caught.value)
    assert not list(tmp_path.rglob("out.part.mp4"))
    assert do(source, out).frames_resumed == 90
    assert out.read_bytes() == whole.read_bytes()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "LOOK_AGAIN_S", 0.001)


@pytest.mark.usefixtures("impatient")
def test_room_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    source, out, whole = film(tmp_path / "in.mp4"), tmp_path / "out.mp4", tmp_path / "whole.mp4"
    do(source, whole)
    write, numbers = os.write, iter(range(10**6))

    def full_for_a_while(file: int, data: Any) -> int:
        number = next(numbers)
        if 40 <= number < 45:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[: 1 + len(data) // 2])  # the system may always write less than it is given

    monkeypatch.setattr(durable.os, "write", full_for_a_while)
    assert do(source, out, wait_for_space=True).frames_resumed == 0
    assert caplog.text.count("the disk is full; waiting for room") == 1
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.usefixtures("impatient")
def test_room_is_waited_for_when_the_segments_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out, whole = film(tmp_path / "in.mp4"), tmp_path / "out.mp4", tmp_path / "whole.mp4"
    do(source, whole)
    full_once(monkeypatch)
    do(source, out, wait_for_space=True)
    assert out.read_bytes() == whole.read_bytes()


class InterruptsWhoWaits(logging.Handler):
    """Presses Ctrl-C when the log says that room is waited for."""

    def emit(self, record: logging.LogRecord) -> None:
        if "waiting for room" in record.getMessage():
            os.kill(os.getpid(), signal.SIGINT)


def test_who_waits_for_room_can_be_stopped(tmp_path: Path) -> None:
    source, out = film(tmp_path / "in.mp4"), tmp_path / "out.mp4"

    def fills_up(number: int, _: Frame) -> None:
        if number == 1:
            (folder_of(out) / "part-0" / "000001.packets").symlink_to(FULL)

    log, handler = logging.getLogger("gtasr_video"), InterruptsWhoWaits()
    log.addHandler(handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            do(source, out, wait_for_space=True, before_step=fills_up)
    finally:
        log.removeHandler(handler)
    assert do(source, out).frames_resumed > 0
