"""Readers and writers in memory keep the promises that files keep."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from gtasr_video.errors import OutputError
from gtasr_video.frames import Frame, FrameReader, FrameWriter, PixelLayout, VideoSpec
from gtasr_video.media import MemoryReader, MemoryWriter, Reader, Writer

SPEC = VideoSpec(4, 2, Fraction(1, 25), PixelLayout("gray", planes=1, log2_chroma_w=0, log2_chroma_h=0))


def frames(count: int) -> list[Frame]:
    return [Frame((torch.full((2, 4), i, dtype=torch.uint8),), i, 1) for i in range(count)]


def test_they_are_what_the_runtime_asks_for() -> None:
    """Checked by the type checker as well; here that all four have every member."""
    for protocol, kinds in ((FrameReader, (MemoryReader, Reader)), (FrameWriter, (MemoryWriter, Writer))):
        members = [name for name in vars(protocol) if not name.startswith("_")]
        assert members
        for kind in kinds:
            made = MemoryReader([], SPEC) if kind is MemoryReader else None
            for name in members:
                known = hasattr(kind, name) or hasattr(made, name) or name in ("spec",)
                assert known, f"{kind.__name__} lacks {name}"


def test_frames_go_through() -> None:
    with MemoryReader(frames(3), SPEC) as reader, MemoryWriter(reader.spec) as writer:
        assert reader.frame_count_estimate == 3
        assert reader.duration == Fraction(3, 25)
        for frame in reader:
            writer.write(frame)
    assert [f.pts for f in writer.frames] == [0, 1, 2]
    assert writer.finished
    assert reader.closed


def test_an_endless_source_has_no_length() -> None:
    reader = MemoryReader(iter(frames(2)), SPEC)
    assert reader.frame_count_estimate is None
    assert reader.duration is None


def test_an_exception_aborts() -> None:
    with pytest.raises(KeyboardInterrupt), MemoryWriter(SPEC) as writer:
        writer.write(frames(1)[0])
        raise KeyboardInterrupt
    assert writer.aborted
    assert not writer.finished
    assert writer.frames == []
    writer.finish()
    assert not writer.finished


def test_times_must_rise() -> None:
    writer = MemoryWriter(SPEC)
    writer.write(frames(1)[0])
    with pytest.raises(OutputError, match="does not increase"):
        writer.write(frames(1)[0])
    writer.finish()
    with pytest.raises(OutputError, match="closed"):
        writer.write(frames(2)[1])
