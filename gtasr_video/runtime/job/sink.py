"""The writing side of a job: segments, encoded one after the other, each made durable while the next goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gtasr_video.errors import OutputError
from gtasr_video.frames import Frame, VideoSpec
from gtasr_video.media.damage import Damage
from gtasr_video.media.durable import Space
from gtasr_video.media.encoding import Plan
from gtasr_video.media.resume import Place
from gtasr_video.media.segments import SegmentWriter
from gtasr_video.models.facts import State
from gtasr_video.ops.brightness import brightness, has_lost_its_picture
from gtasr_video.runtime.job.memory import copied
from gtasr_video.runtime.job.records import Done, PartJournal
from gtasr_video.runtime.job.source import PartReader
from gtasr_video.runtime.upscaler import Upscaled, Upscaler


class PartWriter:
    """A `FrameWriter` that encodes the frames of one part into segments and adds them to `journal`.

    Also the `Work` of their session: it sees the memory of `upscaler` pass by, which it keeps with each segment.

    A segment begins where `source` says. When it ends, its encoder is drained and its file made durable by a thread of
    its own, so that neither holds up the frames of the next; at most one segment is behind.

    output, plan, origin   as `SegmentWriter` takes them
    check                  called before the last segment counts, to raise if the source is not to be believed
    """

    def __init__(
        self,
        source: PartReader,
        upscaler: Upscaler,
        journal: PartJournal,
        output: Path,
        plan: Plan,
        origin: int,
        space: Space,
        check: Callable[[], None],
    ) -> None:
        self._upscaler = upscaler
        self._source, self._journal, self._output, self._plan = source, journal, output, plan
        self._space, self._check = space, check
        self._states: dict[int, State] = {}
        self._segment: SegmentWriter | None = None
        self._spoiled: list[int] = []
        self._last_pts: int | None = None
        self._end = 0
        self._origin, self._damage = origin, Damage()
        self._before = journal.frames
        self._number = len(journal.records)
        self._closer = ThreadPoolExecutor(1, thread_name_prefix="segment")
        self._closing: Future[None] | None = None

    @property
    def spec(self) -> VideoSpec:
        """What frames must look like."""
        return self._plan.spec

    def step(self, frame: Frame) -> Upscaled:
        """Enlarge the next frame, and keep the network's memory before it where a segment begins.

        Keeping it waits for the device, once in some seconds.
        """
        result = self._upscaler.step(frame)
        if frame.pts in self._source.boundaries and not frame.cut:
            self._states[frame.pts] = copied(result.before, "cpu")
        return result

    def redo(self, frame: Frame, before: State) -> Upscaled:
        """Enlarge a frame again, as the upscaler does."""
        return self._upscaler.redo(frame, before)

    def write(self, frame: Frame) -> None:
        """Encode the next frame, in a new segment if it begins one."""
        first = self._source.first_pts
        if first is not None and frame.pts < first:
            return
        if self._last_pts is not None and frame.pts <= self._last_pts:
            raise OutputError(f"{self._output}: a frame has pts {frame.pts}, not after {self._last_pts}")
        place = self._source.boundaries.pop(frame.pts, None)
        if place is not None:
            self._begin(place)
        assert self._segment is not None
        before = self._source.brightness.pop(frame.pts, None)
        if before is not None and has_lost_its_picture(before, brightness(frame, self.spec)):
            self._spoiled.append(frame.pts)
        self._segment.write(frame)
        self._last_pts, self._end = frame.pts, frame.pts + frame.duration - self._origin

    def _begin(self, place: Place) -> None:
        state, damage = self._states.pop(place.pts, None), self._source.damage.pop(place.pts)
        if self._segment is not None:
            self._end_segment(place, state, damage)
        path = self._journal.folder / f"{self._number:06}.packets"
        self._segment = SegmentWriter(path, self._output, self._plan, self._origin, self._space)
        self._number += 1

    def _end_segment(self, following: Place | None, state: State | None, damage: Damage) -> None:
        """Hand the segment to the thread that finishes it, once that is through with the one before."""
        segment, self._segment = self._segment, None
        spoiled, self._spoiled = tuple(self._spoiled), []
        before, end, met = self._before, self._end, damage.since(self._damage)
        self._damage = damage
        assert segment is not None

        def finish() -> None:
            try:
                done = Done(segment.finish(), before, end, following, spoiled, met)
                self._journal.add(done, state)
            except BaseException:
                segment.abort()
                raise

        if following is not None:
            self._before = following.frames
        self._settle()
        self._closing = self._closer.submit(finish)

    def _settle(self) -> None:
        """Wait for the segment that is being finished; raises what went wrong with it."""
        closing, self._closing = self._closing, None
        if closing is not None:
            closing.result()

    def finish(self) -> None:
        """Finish the last segment, after which the part is complete."""
        self._check()
        if self._segment is not None:
            self._end_segment(None, None, self._source.damage_so_far)
        self._settle()
        self._closer.shutdown()

    def abort(self) -> None:
        """Throw away what is unfinished; a segment whose frames are all there is still finished. Never raises."""
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.abort()
        self._closer.shutdown()

    def facts(self) -> dict[str, Any]:
        """Return nothing: the output's facts come from the writer that joins the segments."""
        return {}
