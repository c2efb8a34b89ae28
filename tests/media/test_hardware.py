"""Choosing a decoder by opening it, and giving it up without losing a frame; a software decoder stands in for it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from av.container import InputContainer
from av.video.stream import VideoStream

from gtasr_video.frames import Frame, PixelLayout
from gtasr_video.media import Encoding, Reader
from gtasr_video.media.hardware import Nvdec, Watch, device_planes
from gtasr_video.media.source import Packet, open_input
from tests import fakes
from tests.clips import join, make_clip


class Standing:
    """Decodes through the door, but in software; frames with these numbers (from 0) go wrong in the way `how` says."""

    def __init__(self, wrong: Sequence[int] = (), how: str = "dropped") -> None:
        self.wrong, self.how, self.number, self.opened = set(wrong), how, 0, 0

    def open(self, path: Path) -> InputContainer:
        self.opened += 1
        self.number = 0
        return open_input(path)

    def set_up(self, context: Any) -> None:
        context.thread_count = 1

    def decode(self, stream: VideoStream, packet: Packet) -> list[av.VideoFrame]:
        kept = []
        for frame in stream.decode(packet):
            if self.number in self.wrong and self.how == "fails":
                raise av.error.ExternalError(0, "the device is gone")
            if self.number not in self.wrong:
                kept.append(frame)
            self.number += 1
        return kept


@pytest.fixture(scope="module")
def reordered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty frames with B-frames and three key frames."""
    encoding = Encoding(preset="medium")
    return fakes.clip(tmp_path_factory.mktemp("hardware") / "in.mkv", 40, fakes.spec(64, 48), encoding)


def frames(path: Path, door: object = None, **options: object) -> tuple[list[Frame], Reader]:
    with Reader(path, door=door, **options) as reader:  # type: ignore[arg-type]
        return [Frame(tuple(p.clone() for p in f.planes), f.pts, f.duration, f.cut) for f in reader], reader


def assert_same(found: list[Frame], wanted: list[Frame]) -> None:
    assert [(f.pts, f.duration, f.cut) for f in found] == [(f.pts, f.duration, f.cut) for f in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(one.planes, other.planes, strict=True))


def test_what_opens_is_used(reordered: Path) -> None:
    door = Standing()
    found, reader = frames(reordered, door)
    assert_same(found, frames(reordered)[0])
    assert door.opened == 1 and door.number == 40
    assert reader.facts()["hardware"] and reader.facts()["hardware_given_up"] == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines where it does not open")
def test_what_does_not_open_is_not_used_although_it_is_listed(
    reordered: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "cuda" in av.codec.hwaccel.hwdevices_available()
    with caplog.at_level(logging.INFO, logger="gtasr_video"):
        found, reader = frames(reordered, Nvdec())
    assert_same(found, frames(reordered)[0])
    assert not reader.facts()["hardware"] and reader.facts()["hardware_given_up"] == 0
    assert "the hardware's decoder does not open" in caplog.text


@pytest.mark.gpu
def test_nvidias_decoder_gives_the_same_frames_on_the_device(reordered: Path) -> None:
    found, reader = frames(reordered, Nvdec())
    assert reader.facts()["hardware"] and all(f.planes[0].is_cuda for f in found)
    assert_same([replace(f, planes=tuple(p.cpu() for p in f.planes)) for f in found], frames(reordered)[0])


@pytest.mark.parametrize("how", ["dropped", "fails"])
@pytest.mark.parametrize("wrong", [(0,), (17,), (39,), (20, 21, 22)], ids=str)
def test_a_lost_frame_is_brought_by_software(reordered: Path, how: str, wrong: tuple[int, ...]) -> None:
    found, reader = frames(reordered, Standing(wrong, how))
    assert_same(found, frames(reordered)[0])
    assert reader.facts()["hardware_given_up"] == 1 and not reader.facts()["hardware"]


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_a_frame_lost_behind_the_place_where_the_clock_starts_again(suffix: str, tmp_path: Path) -> None:
    parts = [make_clip(tmp_path / f"{n}{suffix}", frames=40, first_number=40 * n) for n in range(2)]
    source = join(parts, tmp_path / f"both{suffix}")
    found, reader = frames(source, Standing((60,)))
    assert_same(found, frames(source)[0])
    assert len(found) == 80 and [frame.cut for frame in found].count(True) == 2
    assert reader.facts()["clock_restarts"] == reader.facts()["hardware_given_up"] == 1


def test_seeking_and_starting_again_go_through_the_door_too(reordered: Path) -> None:
    start = Fraction(4, 5)
    assert_same(frames(reordered, Standing(), start=start)[0], frames(reordered, start=start)[0])
    with Reader(reordered, door=Standing()) as reader:
        first = [f.pts for f in reader]
        reader.restart()
        assert [f.pts for f in reader] == first and reader.facts()["hardware"]


def test_the_watch_knows_reordering_from_losing() -> None:
    watch = Watch()
    for pts in (0, 4, 2, 1, 3):
        watch.fed(pts)
    assert [watch.lost(pts) for pts in (0, 1, 2)] == [False, False, False]
    assert watch.lost(4)


@pytest.mark.parametrize(("packed", "layout"), [("nv12", fakes.YUV420), ("p010le", PixelLayout("yuv420p10le", 10))])
def test_planes_are_taken_over_from_what_a_device_holds(packed: str, layout: PixelLayout) -> None:
    generator = torch.Generator().manual_seed(0)
    picture = av.VideoFrame(64, 48, layout.name)
    samples = []
    for index, plane in enumerate(picture.planes):
        size = layout.plane_size(index, 64, 48)
        values = torch.randint(0, 1 << layout.bits, size, generator=generator).to(torch.int32).to(layout.dtype)
        torch.frombuffer(plane, dtype=layout.dtype).view(size[0], -1)[:, : size[1]] = values
        samples.append(values)
    found = device_planes(picture.reformat(format=packed), layout)
    assert all(torch.equal(a, b) and a.is_contiguous() for a, b in zip(found, samples, strict=True))
