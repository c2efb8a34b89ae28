"""Small models, clips and frames for tests: real interfaces, no weights."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gtasr_video.frames import ColorSpec, Frame, PixelLayout, VideoSpec
from gtasr_video.media.memory import MemoryReader
from gtasr_video.models.facts import ModelFacts, State

if TYPE_CHECKING:
    from gtasr_video.media import Encoding

YUV420 = PixelLayout("yuv420p")
YUV444 = PixelLayout("yuv444p", log2_chroma_w=0, log2_chroma_h=0)


class Nearest:
    """A `VideoModel` that repeats pixels; scale 1 is the identity. Keeps what it was given, in order."""

    def __init__(self, scale: int = 2, multiple_of: int = 1) -> None:
        self.scale, self.multiple_of = scale, multiple_of
        self.seen: list[Tensor] = []
        self.ages: list[int] = []
        self.seeds: list[int] = []
        self.threads: set[str] = set()

    @property
    def facts(self) -> ModelFacts:
        return ModelFacts("nearest", self.scale, self.multiple_of, 0)

    def initial(self, batch: int, height: int, width: int) -> State:
        empty = torch.empty(0)
        return State(empty, empty, empty, empty, empty, torch.zeros(batch, dtype=torch.int64))

    def step(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Tensor, State]:
        self.seen.append(x.clone())
        self.ages.append(int(state.age[0]))
        self.seeds.append(seed)
        self.threads.add(threading.current_thread().name)
        y = x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)
        return y, state._replace(age=state.age + 1)


class FailsAt(Nearest):
    """Raises `error` at the frame with this number, counted from 1."""

    def __init__(self, number: int, error: BaseException, scale: int = 1) -> None:
        super().__init__(scale)
        self.number, self.error = number, error

    def step(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Tensor, State]:
        if len(self.seen) + 1 == self.number:
            raise self.error
        return super().step(x, state, seed=seed)


class NotANumber(Nearest):
    """Gives one NaN in the frame with this number, counted from 1."""

    def __init__(self, number: int, scale: int = 1) -> None:
        super().__init__(scale)
        self.number = number

    def step(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Tensor, State]:
        y, state = super().step(x, state, seed=seed)
        if len(self.seen) == self.number:
            y[0, 1, 0, 0] = torch.nan
        return y, state


class Fragile(nn.Module):
    """Half of each frame is the frame before; in anything but float32 the frames of these ages break, state and all.

    `broken` is what comes out of them: NaN, infinity, or -1 for black.
    """

    def __init__(self, ages: Iterable[int] = (), broken: float = torch.nan, cure: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.ages, self.broken, self.cure = frozenset(ages), broken, cure

    @property
    def facts(self) -> ModelFacts:
        return ModelFacts("fragile", 1, 1, 0)

    def initial(self, batch: int, height: int, width: int) -> State:
        empty = self.weight.new_empty(0)
        zeros = torch.zeros(batch, 3, height, width, device=empty.device)
        age = torch.zeros(batch, dtype=torch.int64, device=empty.device)
        return State(empty, empty, zeros, empty, empty, age)

    def step(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Tensor, State]:
        fails = int(state.age) in self.ages and not (self.cure and self.weight.dtype is torch.float32)
        y = torch.full_like(x, self.broken) if fails else (x + state.frame) / 2
        return y, state._replace(frame=y.clone() if fails else x, age=state.age + 1)


class Remembers(Nearest):
    """Adds a hundredth for every frame since the last cut: its output tells what its state was."""

    def step(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Tensor, State]:
        y, following = super().step(x, state, seed=seed)
        return y + 0.01 * state.age.view(-1, 1, 1, 1), following


def spec(
    width: int = 16, height: int = 12, layout: PixelLayout = YUV420, rate: int = 25, color: ColorSpec | None = None
) -> VideoSpec:
    return VideoSpec(width, height, Fraction(1, 1000), layout, color or ColorSpec("bt601"), frame_rate=Fraction(rate))


def frames(of: VideoSpec, count: int, *, first_pts: int = 0) -> Iterator[Frame]:
    """Yield `count` frames whose luma tells their number: row r of frame n is (7 n + 3 r) mod 200 + 20."""
    rate = of.frame_rate or Fraction(25)
    ticks = round(1 / (rate * of.time_base))
    for number in range(count):
        yield picture(of, number, first_pts + number * ticks, ticks, cut=number == 0)


def picture(of: VideoSpec, number: int, pts: int, duration: int, *, cut: bool = False) -> Frame:
    planes = []
    for index in range(of.layout.planes):
        height, width = of.layout.plane_size(index, of.width, of.height)
        if index == 0:
            rows = (7 * number + 3 * torch.arange(height)) % 200 + 20
            planes.append(rows[:, None].expand(height, width).to(of.layout.dtype).contiguous())
        else:
            planes.append(torch.full((height, width), 128 << (of.layout.bits - 8)).to(of.layout.dtype))
    return Frame(tuple(planes), pts, duration, cut)


def reader(count: int = 5, of: VideoSpec | None = None) -> MemoryReader:
    """Return a reader of `count` frames whose length is known."""
    of = of or spec()
    return MemoryReader(list(frames(of, count)), of)


def clip(path: Path, count: int = 5, of: VideoSpec | None = None, encoding: Encoding | None = None) -> Path:
    """Write a real video file with a real codec and return its path."""
    from gtasr_video.media import Encoding, Writer

    of = of or spec(64, 48)
    with Writer(path, of, encoding or Encoding(preset="ultrafast" if path.suffix != ".webm" else None)) as writer:
        for frame in frames(of, count):
            writer.write(frame)
    return path


def noise(path: Path, count: int, of: VideoSpec | None = None) -> Path:
    """Write a file of noise, the same each time: every packet is large, so that damage hits pictures."""
    from gtasr_video.media import Encoding, Writer

    of = of or spec(64, 48)
    generator = torch.Generator().manual_seed(1)
    with Writer(path, of, Encoding(preset="ultrafast")) as writer:
        for frame in frames(of, count):
            luma = torch.randint(0, 255, frame.planes[0].shape, generator=generator, dtype=torch.uint8)
            writer.write(replace(frame, planes=(luma, *frame.planes[1:])))
    return path
