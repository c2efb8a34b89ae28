"""A very long job: every frame comes out, in order, once, and memory does not grow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from gtasr_video.frames import Frame, VideoSpec
from gtasr_video.media import Encoding, Reader, Writer
from gtasr_video.media.planes import LAYOUTS
from gtasr_video.runtime.job.source import Cutting
from tests import fakes
from tests.runtime.job.jobs import do
from tests.soak.sizes import size

FRAMES = size(3000, 1_000_000)
SPEC = VideoSpec(16, 16, Fraction(1, 1000), LAYOUTS["gray"], frame_rate=Fraction(100))
LOSSLESS = Encoding(codec="ffv1")


def numbered(count: int) -> Iterator[Frame]:
    """Yield frames that hold their number: four by four cells, two bits in each."""
    shifts = 2 * torch.arange(16).view(4, 4)
    for first in range(0, count, 1000):
        bits = (torch.arange(first, first + 1000).view(-1, 1, 1) >> shifts) & 3
        luma = (bits * 60 + 30).to(torch.uint8).repeat_interleave(4, 1).repeat_interleave(4, 2)
        for number in range(first, min(first + 1000, count)):
            yield Frame((luma[number - first],), 10 * number, 10)


def number_of(frame: Frame) -> int:
    cells = (frame.planes[0][1::4, 1::4].int() - 10) // 60
    return sum(int(bits) << (2 * cell) for cell, bits in enumerate(cells.flatten().tolist()))


def resident() -> int:
    """Return the bytes this process holds now."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(6 * 3600)
def test_every_frame_in_order_in_flat_memory(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "in.mkv", tmp_path / "out.mkv"
    with Writer(source, SPEC, LOSSLESS) as writer:
        for frame in numbered(FRAMES):
            writer.write(frame)
    marks: list[int] = []

    def look(number: int, _: Frame) -> None:
        if number % (FRAMES // 20) == 0:
            marks.append(resident())

    report = do(source, out, Forgets(1), encoding=LOSSLESS, cutting=Cutting(), before_step=look)
    assert report.frames_in == report.frames_out == FRAMES
    assert report.audit["passed"]
    with Reader(out) as reader:
        for number, frame in enumerate(reader):
            assert (number_of(frame), frame.pts) == (number, 10 * number)
    assert number == FRAMES - 1
    # After the first tenth, which fills what is kept once.
    growth = max(marks[2:]) - marks[2]
    assert growth < 32 * 2**20, [mark >> 20 for mark in marks]
    with capfd.disabled():
        print(f"\n{FRAMES} frames in order, memory grew by {growth / 2**20:.1f} MiB after the first tenth")


class Forgets(fakes.Nearest):
    """The identity, which keeps nothing of what it sees."""

    def step(self, x, state, *, seed=0):  # type: ignore[no-untyped-def]
        self.seen.clear(), self.ages.clear(), self.seeds.clear()
        return super().step(x, state, seed=seed)
