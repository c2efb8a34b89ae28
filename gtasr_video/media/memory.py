"""A reader and a writer that keep frames in memory: for tests, and for frames that come from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

from gtasr_video.errors import OutputError
from gtasr_video.frames import Frame, VideoSpec
from gtasr_video.media.blocks import ReaderBlock, WriterBlock


class MemoryReader(ReaderBlock):
    """Yield `frames` (any iterable, so a generator makes an endless source) that look like `spec`.

    `frame_count_estimate` is the length of a list or tuple, else None.
    """

    def __init__(self, frames: Iterable[Frame], spec: VideoSpec) -> None:
        self.spec = spec
        self.corrupt_packets = 0
        self.closed = False
        self._frames = frames

    @property
    def frame_count_estimate(self) -> int | None:
        """Number of frames if it is known without consuming them."""
        return len(self._frames) if isinstance(self._frames, list | tuple) else None

    @property
    def duration(self) -> Fraction | None:
        """Seconds from the first frame to the end of the last, if they are known without consuming them."""
        if not isinstance(self._frames, list | tuple) or not self._frames:
            return None
        first, last = self._frames[0], self._frames[-1]
        ticks = last.pts + last.duration - first.pts
        return Fraction(ticks) * self.spec.time_base

    def facts(self) -> dict[str, Any]:
        """Return ``{"path": None, "width", "height", "corrupt_packets"}``."""
        return {
            "path": None,
            "width": self.spec.width,
            "height": self.spec.height,
            "corrupt_packets": self.corrupt_packets,
        }

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    def close(self) -> None:
        """Mark the reader closed."""
        self.closed = True


class MemoryWriter(WriterBlock):
    """Keep written frames in `frames`; `finished` and `aborted` tell how it ended.

    `spec` None takes any frame. Raises OutputError for a `pts` that does not increase, as a file would.
    """

    def __init__(self, spec: VideoSpec | None = None) -> None:
        self.frames: list[Frame] = []
        self.finished = False
        self.aborted = False
        self._spec = spec

    @property
    def spec(self) -> VideoSpec:
        """The specification given at construction."""
        if self._spec is None:
            raise OutputError("this memory writer was made without a specification")
        return self._spec

    def write(self, frame: Frame) -> None:
        """Append `frame`."""
        if self.finished or self.aborted:
            raise OutputError("write after the output was closed")
        if self.frames and frame.pts <= self.frames[-1].pts:
            raise OutputError(f"frame pts {frame.pts} does not increase (last was {self.frames[-1].pts})")
        self.frames.append(frame)

    def finish(self) -> None:
        """Mark the output whole, unless it was aborted."""
        self.finished = not self.aborted

    def abort(self) -> None:
        """Mark the output thrown away, unless it was finished, and drop the frames."""
        if not self.finished:
            self.aborted = True
            self.frames.clear()

    def facts(self) -> dict[str, Any]:
        """Return ``{"path": None, "frames"}``."""
        return {"path": None, "frames": len(self.frames)}
