"""A run that does not wait: a session with a latency budget, that ends when asked to and keeps what it has."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from gtasr_video.ending import ending_well
from gtasr_video.frames import Frame, FrameReader, FrameWriter, Interruptible, Stoppable, VideoSpec
from gtasr_video.runtime.account import Account
from gtasr_video.runtime.channels import Channel
from gtasr_video.runtime.lanes import Lane, open_lane
from gtasr_video.runtime.live.config import Late
from gtasr_video.runtime.live.ladder import USUAL_RATE, Ladder
from gtasr_video.runtime.live.pace import Pace
from gtasr_video.runtime.live.status import LiveMonitor
from gtasr_video.runtime.live.traffic import Traffic
from gtasr_video.runtime.report import Report
from gtasr_video.runtime.session import QUEUE, Session
from gtasr_video.runtime.upscaler import Upscaler

# With a budget, frames that wait for the network: what comes in within it, since older ones are of no use.
LONGEST_QUEUE = 64
# With a budget, frames that wait for the encoder; each is one more frame of delay.
PENDING = 2


def run(
    reader: FrameReader,
    upscalers: Sequence[Upscaler],
    writer: FrameWriter,
    *,
    budget_s: float | None = None,
    late: Late = "bicubic",
    paced: bool = False,
    monitor: LiveMonitor | None = None,
) -> Report:
    """Upscale the stream `reader` into `writer` until it ends or is asked to, finish the writer and report.

    upscalers  the best first, the cheapest (bicubic) last; without a budget only the first is used
    budget_s   seconds a frame may take from its arrival to its end. To keep it, frames are made by cheaper upscalers,
               and left out where not even the last can keep up. None leaves nothing out and makes the source wait
    late       what becomes of a frame for whose network there is no time; see `Ladder`
    paced      take frames at playback speed from a source that would give them faster
    monitor    shows how it goes while it runs

    In the main thread, the first SIGTERM, SIGHUP or Ctrl-C ends the stream as its own end would: all that came is
    written and the report returned. Where the source fails after its first frame, the output is finished all the same,
    then the error is raised. Raises as `runtime.session.run` does, and KeyboardInterrupt if there was no frame yet.
    """
    return LiveSession(reader, upscalers, writer, budget_s, late, monitor or LiveMonitor(), paced=paced).run()


class LiveSession(Session):
    """The threads and queues of `Session`; frames are timed on their way, and the oldest make room for the newest."""

    def __init__(
        self,
        reader: FrameReader,
        upscalers: Sequence[Upscaler],
        writer: FrameWriter,
        budget_s: float | None,
        late: Late,
        monitor: LiveMonitor,
        *,
        paced: bool = False,
    ) -> None:
        if budget_s is None:
            staged, pending = Channel[Any](QUEUE, name="staged"), Channel[Any](QUEUE, name="pending")
        else:
            depth = queue_for(reader.spec, budget_s)
            staged = Channel[Any](depth, name="staged", when_full="drop_oldest", on_drop=self._lose)
            pending = Channel[Any](PENDING, name="pending")
        account = Account(reader.spec, writer.spec)
        super().__init__(reader, upscalers[0], writer, monitor, staged, pending, account)
        self.traffic = Traffic(time.monotonic, budget_s or math.inf)
        self.ladder: Ladder | None = None
        if budget_s is not None:
            self.work = self.ladder = Ladder(upscalers, self.traffic, self.stages, budget_s, late)
        self.pace = Pace() if paced else None
        self.live = monitor
        self.live.follow(self.traffic, self.ladder, upscalers, (reader, writer))
        if isinstance(writer, Interruptible):
            # Before its threads are waited for: the encoder's may wait for someone who reads no more.
            self.scope.own(writer)
        self.failure: Exception | None = None
        self.ending = False
        # Held while a frame is handed over, so that none is after the queue was closed from another thread.
        self.gate = threading.Lock()

    def run(self) -> Report:
        """Run to the end and report."""
        with ending_well(self.end):
            report = super().run()
        if self.failure is not None:
            self.failure.add_note("what came before is in the output")
            raise self.failure
        return report

    def end(self) -> None:
        """End the stream here, from any thread; what came is still written."""
        self.ending = True
        if isinstance(self.reader, Stoppable):
            self.reader.stop()
        if isinstance(self.writer, Interruptible):
            self.writer.hurry()
        with self.gate:
            self.staged.close()
        if self.monitor.frames_in == 0:
            self.scope.stop(KeyboardInterrupt("no frame has come yet"))

    def _start(self) -> None:
        if self.ladder is None:
            super()._start()
        else:
            self.ladder.start(self.reader.spec, self.writer.spec)

    def _open_lane(self) -> Lane:
        self.lane = open_lane(
            self.upscaler.device.torch_device,
            self.scope,
            self.stages,
            self.reader.spec,
            self.writer.spec,
            # One more than the queue holds: a frame is staged before it pushes the oldest out.
            self.staged.capacity + 1,
            self.pending.capacity,
        )
        return self.lane

    def _decoded(self) -> Iterator[Frame]:
        """Yield frames until the end, be it asked for, and take a failure after the first frame for an end too."""
        try:
            for frame in super()._decoded():
                if self.pace is not None:
                    with self.live.paced.running():
                        self.pace.wait(float(self._seconds(frame)), lambda: self.ending or self.scope.stopped)
                if self.ending:
                    return
                yield frame
                del frame
        except Exception as error:
            if self.monitor.frames_in == 0:
                raise
            self.failure = None if self.ending else error

    def _next(self, frames: Iterator[Frame]) -> Frame | None:
        """Return the next frame; what the source made us wait for it is no work."""
        before = self.live.waited_s
        try:
            return super()._next(frames)
        finally:
            self.stages.decode.rest(self.live.waited_s - before)

    def _hand_over(self, lane: Lane, frame: Frame) -> None:
        self.traffic.arrive(frame)
        staged = lane.stage(frame)
        with self.gate, self.stages.decode.waiting():
            if self.ending:
                self._leave_out(staged)
            else:
                self.staged.put(staged)

    def _lose(self, staged: Any) -> None:
        """Give up a frame that newer ones pushed out."""
        self.traffic.lose(staged.pts)
        self.lane.discard(staged)

    def _leave_out(self, staged: Any) -> None:
        self.traffic.leave_out(staged.pts, late=False)
        self.lane.discard(staged)

    def _upscale(self, lane: Lane, staged: Any, number: int) -> Any:
        if self.ladder is None:
            self.traffic.make(self.traffic.begin(staged.pts), 0, stopgap=False)
        elif not self.ladder.admit(staged.pts):
            lane.discard(staged)
            return None
        return super()._upscale(lane, staged, number)

    def _written(self, frame: Frame) -> None:
        passage, seconds = self.traffic.end(frame.pts)
        if self.ladder is not None:
            self.ladder.ended(passage, seconds)

    def _encode(self, lane: Lane) -> None:
        super()._encode(lane)
        if self.ending:
            # The decoder's thread may still wait for a source that does not hear.
            self.scope.stop()

    @property
    def dropped(self) -> int:
        """Frames that came and are not shown, for whatever reason."""
        return self.traffic.dropped

    def report(self) -> Report:
        """Return what was done so far."""
        return replace(super().report(), live=self.live.report())


def queue_for(spec: VideoSpec, budget_s: float) -> int:
    """Return how many frames like `spec` may wait for the network under a budget."""
    return max(QUEUE, min(LONGEST_QUEUE, math.ceil(budget_s * (spec.frame_rate or USUAL_RATE)) + 1))
