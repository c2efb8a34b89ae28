"""One run: frames from a reader through an upscaler to a writer, three threads, bounded memory.

    decode thread --staged--> calling thread (upload, compute, download) --pending--> encode thread

Compute stays on the calling thread: Ctrl-C lands there, and torch's current stream belongs to a thread.

No core is reserved: the decoder may use up to four threads, the network's operators and the encoder as many as there
are cores, and the queues decide. Where the network is slowest `pending` is empty and the encoder's threads sleep;
where the encoder is slowest `pending` is full and the network's sleep (docs/decisions/0002-threads-and-channels.md).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from gtasr_video.device import is_out_of_memory
from gtasr_video.errors import DeviceError, InputError
from gtasr_video.frames import Frame, FrameReader, FrameWriter, VideoSpec
from gtasr_video.runtime.account import Account
from gtasr_video.runtime.channels import Channel, Scope
from gtasr_video.runtime.footprint import frame_bytes
from gtasr_video.runtime.lanes import Lane, Work, open_lane
from gtasr_video.runtime.progress import Monitor
from gtasr_video.runtime.report import Report, Stages, limiting, peak_rss_bytes
from gtasr_video.runtime.upscaler import Upscaler

# Frames each queue holds. Two would keep every thread busy if all frames cost the same; key frames do not.
QUEUE = 4


@dataclass(frozen=True, slots=True)
class Memory:
    """What the frames of one run may hold: an upper bound, the same for a minute and a day.

    frames_in   the queue, and one each in the hands of the decoder, of the calling thread and between them
    frames_out  the queue, and one each in the hands of the calling thread, of the encoder and between them
    """

    frames_in: int
    frames_out: int
    bytes_in: int
    bytes_out: int

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.frames_in * self.bytes_in + self.frames_out * self.bytes_out

    def __str__(self) -> str:
        def megabytes(count: int) -> str:
            return f"{count / 1e6:.1f} MB"

        return (
            f"frames take at most {self.frames_in} x {megabytes(self.bytes_in)} in + "
            f"{self.frames_out} x {megabytes(self.bytes_out)} out = {megabytes(self.total)}, whatever the length"
        )


def memory(source: VideoSpec, output: VideoSpec, queue: int = QUEUE) -> Memory:
    """Return the bound on the memory of frames in flight. The network's and the codecs' own come on top."""
    return Memory(queue + 3, queue + 3, frame_bytes(source), frame_bytes(output))


def run(
    reader: FrameReader,
    upscaler: Upscaler,
    writer: FrameWriter,
    *,
    monitor: Monitor | None = None,
    queue: int = QUEUE,
) -> Report:
    """Upscale all of `reader` into `writer`, finish the writer and report. The caller opens and closes both.
    Raises what the first failing stage raised, with a note of the frame and time; KeyboardInterrupt on Ctrl-C. The
    threads have ended by then; the writer is left for its ``with`` block to throw away.
    """
    queues = Channel[Any](queue, name="staged"), Channel[Any](queue, name="pending")
    account = Account(reader.spec, writer.spec)
    return Session(reader, upscaler, writer, monitor or Monitor(), *queues, account).run()


class Session:
    """One run, from `run` to its report.

    work      what makes the frames, by default the upscaler itself
    account   notes the frames that pass, for the audit; None where another makes it
    """

    def __init__(
        self,
        reader: FrameReader,
        upscaler: Upscaler,
        writer: FrameWriter,
        monitor: Monitor,
        staged: Channel[Any],
        pending: Channel[Any],
        account: Account | None = None,
    ) -> None:
        self.reader, self.upscaler, self.writer, self.monitor = reader, upscaler, writer, monitor
        self.work: Work = upscaler
        self.account = account
        self.made = 0
        self.stages = Stages()
        self.scope = Scope()
        self.staged, self.pending = self.scope.own(staged), self.scope.own(pending)
        self.began = self.ended = 0.0
        self.first: Fraction | None = None

    def run(self) -> Report:
        """Run to the end and report."""
        self._start()
        self.monitor.watch(self.stages, {"staged": self.staged, "pending": self.pending})
        try:
            with self.scope, self._open_lane() as lane:
                self.scope.start("decode", lambda: self._decode(lane))
                self.scope.start("encode", lambda: self._encode(lane))
                self._compute(lane)
        finally:
            self.scope.close()
        return self.report()

    def _start(self) -> None:
        self.upscaler.start(self.reader.spec, self.writer.spec)

    def _open_lane(self) -> Lane:
        device, specs = self.upscaler.device.torch_device, (self.reader.spec, self.writer.spec)
        return open_lane(device, self.scope, self.stages, *specs, self.staged.capacity, self.pending.capacity)

    def _decode(self, lane: Lane) -> None:
        for frame in self._decoded():
            if self.monitor.frames_in == 0:
                self.began = time.perf_counter()
                self.first = self._seconds(frame)
            self.monitor.decoded()
            if self.account is not None:
                self.account.decoded(frame)
            self._hand_over(lane, frame)
            del frame
        if self.monitor.frames_in == 0:
            raise InputError(f"{self._name()}: no video frames could be decoded from it")
        self.staged.close()

    def _hand_over(self, lane: Lane, frame: Frame) -> None:
        staged = lane.stage(frame)
        with self.stages.decode.waiting():
            self.staged.put(staged)

    def _decoded(self) -> Iterator[Frame]:
        """Yield the reader's frames, timing it, and say where an error struck."""
        frames = iter(self.reader)
        last: Frame | None = None
        while True:
            try:
                frame = self._next(frames)
            except Exception as error:
                after = f" after {float(self._seconds(last)):.3f} s" if last else ""
                error.add_note(f"while decoding frame {self.monitor.frames_in + 1}{after}")
                raise
            if frame is None:
                return
            last = Frame((), frame.pts)
            yield frame
            del frame

    def _next(self, frames: Iterator[Frame]) -> Frame | None:
        with self.stages.decode.busy():
            return next(frames, None)

    def _compute(self, lane: Lane) -> None:
        for number, staged in enumerate(self._staged(), 1):
            pending = self._upscale(lane, staged, number)
            if pending is not None:
                self.made += 1
                with self.stages.download.waiting():
                    self.pending.put(pending)
            del staged, pending
        self.pending.close()

    def _staged(self) -> Iterator[Any]:
        frames = iter(self.staged)
        while True:
            with self.stages.compute.waiting():
                staged = next(frames, None)
            if staged is None:
                return
            yield staged
            del staged

    def _upscale(self, lane: Lane, staged: Any, number: int) -> Any:
        """Return what the encoder's thread collects, or None for a frame that is left out."""
        try:
            return lane.download(lane.compute(self.work, lane.upload(staged)))
        except Exception as error:
            failure = _out_of_memory(error, self.reader.spec, self.upscaler) or error
            failure.add_note(f"while upscaling frame {number}")
            if failure is error:
                raise
            raise failure from error

    def _encode(self, lane: Lane) -> None:
        pendings = iter(self.pending)
        while True:
            with self.stages.encode.waiting():
                pending = next(pendings, None)
            if pending is None:
                break
            self._write(lane, pending)
            del pending
        with self.stages.encode.busy():
            self.writer.finish()
        self.ended = time.perf_counter()

    def _write(self, lane: Lane, pending: Any) -> None:
        try:
            with lane.collect(pending) as frame:
                with self.stages.encode.busy():
                    self.writer.write(frame)
                if self.account is not None:
                    self.account.written(frame)
                assert self.first is not None
                # In the reader's ticks, as all frames here: a format without times counts in its own.
                end = (frame.pts + frame.duration) * self.reader.spec.time_base
                self.monitor.written(float(end - self.first))
                self._written(frame)
        except Exception as error:
            error.add_note(f"while encoding frame {self.monitor.frames_out + 1}")
            raise

    def _written(self, frame: Frame) -> None:
        """Called for each frame that has been written."""

    def _seconds(self, frame: Frame) -> Fraction:
        return frame.pts * self.reader.spec.time_base

    def _name(self) -> str:
        return str(self.reader.facts().get("path") or "input")

    @property
    def dropped(self) -> int:
        """Frames that were decoded and then given up."""
        return self.staged.dropped

    def _audit(self) -> dict[str, Any]:
        if self.account is None:
            return {}
        output = self.writer.facts()
        held = None if output.get("reader_left") else output.get("frames")
        return self.account.audit(self.made, self.dropped, held).to_json()

    def report(self) -> Report:
        """Return what was done so far."""
        monitor, facts = self.monitor, self.upscaler.model.facts
        seconds = self.ended - self.began
        return Report(
            frames_in=monitor.frames_in,
            frames_out=monitor.frames_out,
            frames_dropped=self.dropped,
            corrupt_packets=self.reader.corrupt_packets,
            seconds=seconds,
            media_seconds=monitor.media_seconds,
            fps=monitor.frames_out / seconds if seconds > 0 else 0.0,
            model=facts.name,
            scale=facts.scale,
            seed=self.upscaler.seed,
            device=self.upscaler.device.name,
            dtype=str(self.upscaler.device.dtype).removeprefix("torch."),
            backend=self.upscaler.backend,
            tiles=str(self.upscaler.grid),
            frames_redone=self.upscaler.redone,
            input=self.reader.facts(),
            output=self.writer.facts(),
            stages=asdict(self.stages),
            limited_by=limiting(monitor.busy()),
            peak_rss_bytes=peak_rss_bytes(),
            audit=self._audit(),
        )


def _out_of_memory(error: Exception, spec: VideoSpec, upscaler: Upscaler) -> DeviceError | None:
    """Return `error` in our words if it says that memory is exhausted, else None."""
    if not is_out_of_memory(error):
        return None
    size = f"{spec.width}x{spec.height} frames x{upscaler.scale}"
    return DeviceError(f"not enough memory on {upscaler.device.name} for {size}; use a smaller --model or --scale")
