"""Frames and sound into a stream that is written from beginning to end: a pipe, a receiver, or a file."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

import av
from av.container import OutputContainer

from gtasr_video.errors import GTASRVideoError, OutputError
from gtasr_video.frames import Frame, VideoSpec, Vitals
from gtasr_video.media.blocks import WriterBlock
from gtasr_video.media.encoding import Encoding, Plan, plan_in
from gtasr_video.media.geometry import carries_stereo, stereo_lost
from gtasr_video.media.packet_times import PacketTimes
from gtasr_video.media.picture import USUAL_RATE, PictureEncoder
from gtasr_video.media.source import Packet
from gtasr_video.media.streams.bit_rate import BitRate
from gtasr_video.media.streams.fed_sound import FedSound, SoundWish
from gtasr_video.media.streams.outlets import Outlet
from gtasr_video.media.streams.sound_queue import SoundQueue

# Formats without times: frames are as many as they are, each as long as the rate says.
_COUNTED: Final = ("yuv4mpegpipe", "rawvideo")
_TICK_S: Final = 0.25
# For a thread that still writes when the output is let go of.
_LEAVE_S: Final = 1.0


class StreamWriter(WriterBlock):
    """Encode frames into `outlet`, each with its own time, and the sound of `sound` beside them.

    Frames must look like `spec` of this writer: the given one, but upright, since hardly a stream can tell a player to
    turn its picture, and in the layout that the encoder takes.

    wish        what is wanted of the sound; by default what the outlet's format holds is copied
    live        let nothing wait for more pictures: no reordering, no looking ahead. Sound that comes before the first
                picture is left out; all other is written as it comes, whatever the picture does
    stereo_mode  how the picture holds two eyes, by Matroska's name for it; None if it holds one
    drop_unsupported   leave transparency out where it cannot be held, instead of refusing
    on_closed   called once when nobody reads the output any more; frames given to `write` afterwards are let go,
                and the output has ended without an error

    Raises UsageError for a codec or option that cannot be, OutputError if the outlet cannot be written.
    """

    def __init__(
        self,
        outlet: Outlet,
        spec: VideoSpec,
        encoding: Encoding | None = None,
        *,
        sound: SoundQueue | None = None,
        wish: SoundWish | None = None,
        live: bool = False,
        stereo_mode: str | None = None,
        drop_unsupported: bool = False,
        on_closed: Callable[[], None] = lambda: None,
    ) -> None:
        self.outlet = outlet
        self._on_closed = on_closed
        self._count = 0
        self._first_pts: int | None = None
        self._last_pts: int | None = None
        self._last_end = 0
        self._time_base = spec.time_base
        self._plan = _plan(outlet, encoding or Encoding(), spec.upright(), live=live, drop_alpha=drop_unsupported)
        self._counted = outlet.form.muxer in _COUNTED
        self._times = PacketTimes(by_decoding=outlet.form.muxer in ("mp4", "mov"))
        self._rate = BitRate()
        self._queue = sound or SoundQueue()
        self._sound = FedSound(self._queue, wish or SoundWish(outlet.sound_taken))
        self._stereo_mode = None if stereo_mode == "mono" else stereo_mode
        self._live, self._writing = live, threading.Lock()
        # Held by the thread that writes pictures or finishes: nothing may be closed under its hands.
        self._used = threading.RLock()
        self._ended = threading.Event()
        self._failed: BaseException | None = None
        self._sounding: threading.Thread | None = None
        self._container: OutputContainer | None = None
        try:
            with self._errors("cannot be opened for writing"):
                self._open()
        except BaseException:
            self.abort()
            raise

    def _open(self) -> None:
        form = self.outlet.form
        options = {"avoid_negative_ts": "disabled", "flush_packets": "1", **form.options}
        if self._live:
            # The muxer would put packets in order of time, and hold sound until the picture has come as far.
            options["max_interleave_delta"] = "1"
        container = av.open(
            self.outlet.open(),
            mode="w",
            format=form.muxer,
            container_options=options,
            metadata_errors="surrogateescape",
        )
        self._container = container
        self._picture = PictureEncoder(container, self._plan)
        if self._stereo_mode is not None and carries_stereo(form.muxer, self._stereo_mode):
            self._picture.stream.metadata["stereo_mode"] = self._stereo_mode
        self._sound.add_to(container, form, self._put_sound)
        self._picture.open()
        container.start_encoding()

    @property
    def spec(self) -> VideoSpec:
        """What frames given to `write` must look like."""
        return self._plan.spec

    @property
    def closed(self) -> bool:
        """True once the output has ended because nobody reads it."""
        return self.outlet.closed

    def write(self, frame: Frame) -> None:
        """Encode the next frame. Raises OutputError, after which only `abort` makes sense."""
        with self._used:
            if not self.closed:
                self._write(frame)

    def _write(self, frame: Frame) -> None:
        self._check(frame)
        pts, duration = (self._count, 1) if self._counted else (frame.pts, frame.duration)
        self._times.expect(pts, duration)
        self._last_pts, self._last_end = frame.pts, frame.pts + frame.duration
        self._first_pts = frame.pts if self._first_pts is None else self._first_pts
        with self._errors(f"writing failed at frame {self._count}"):
            self._mux(self._times.settle(self._picture.encode(frame, pts)))
        self._count += 1

    def _check(self, frame: Frame) -> None:
        if self._container is None:
            raise OutputError(f"{self.outlet.name}: a frame was written after the output was closed")
        if self._last_pts is not None and frame.pts <= self._last_pts:
            raise OutputError(
                f"{self.outlet.name}: frame {self._count} has pts {frame.pts}, not after {self._last_pts}"
            )

    def _mux(self, packets: list[Packet]) -> None:
        """Write encoded packets, each after the sound that comes before it."""
        for packet in packets:
            at = (packet.dts or 0) * self.spec.time_base
            with self._writing:
                self._begin_at(at)
                self._sound.silence_until(at)
                self._sound.copy_until(at)
                key = packet.is_keyframe
                self._put(packet, at, key=key, pictures=1)
            if self._live and self._sounding is None:
                self._sounding = threading.Thread(target=self._pass_sound, name="sound", daemon=True)
                self._sounding.start()
        if self._failed is not None:
            raise self._failed

    def _begin_at(self, time: Fraction) -> None:
        if self._live and self._sounding is None:
            self._sound.begin(time)

    def _pass_sound(self) -> None:
        """Write sound as it comes: a picture that is late must not hold it up."""
        try:
            while not self._ended.is_set():
                if self._queue.wait(_TICK_S):
                    with self._writing:
                        if not self._ended.is_set():
                            self._sound.copy_until(None)
        except BaseException as error:  # told to the thread that writes the picture
            self._failed = error

    def _put_sound(self, packet: Packet) -> None:
        self._put(packet, (packet.dts or 0) * packet.time_base, key=False, pictures=0)

    def _put(self, packet: Packet, at: Fraction, *, key: bool, pictures: int) -> None:
        """Write a packet that is due `at` seconds; with `_writing` held."""
        assert self._container is not None
        self._rate.add(packet.size, float(at))
        self._container.mux(packet)
        self.outlet.sent(float(at), key=key, pictures=pictures)

    def _end_sound(self) -> None:
        self._ended.set()
        if self._sounding is not None:
            self._sounding.join()

    def finish(self) -> None:
        """Encode what is pending and complete the output. Raises OutputError."""
        with self._used:
            self._finish()

    def _finish(self) -> None:
        container = self._container
        if container is None:
            return
        if self.closed:
            self.abort()
            return
        self._end_sound()
        with self._errors("finishing failed"):
            self._mux(self._times.settle_last(self._picture.drain()))
            self._sound.finish()
            container.close()
        self._container = None
        self.outlet.commit()

    def hurry(self) -> None:
        """Let `write` and `finish` fail from now on where nobody takes anything for a few seconds; from any thread."""
        self.outlet.hurry()

    def stop(self) -> None:
        """Let `write` and `finish` fail at once where they wait, and from now on; from any thread."""
        self.outlet.stop()

    def abort(self) -> None:
        """Let go of the output; does nothing after `finish` or another `abort`, and never raises."""
        container, self._container = self._container, None
        self._ended.set()
        self.outlet.discard()
        self._end_sound()
        # A thread that hangs in a disk, say, keeps the container: to close it there would crash.
        if container is not None and self._used.acquire(timeout=_LEAVE_S):
            with contextlib.suppress(Exception):
                container.close()
            self._used.release()

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turn what FFmpeg and the system raise into one line about this output; a reader that left is no error."""
        try:
            yield
        except GTASRVideoError:
            raise
        except (av.FFmpegError, OSError, ValueError) as error:
            if not self.closed:
                raise self.outlet.error(error, what) from error
            self._on_closed()

    def facts(self) -> dict[str, Any]:
        """Return what the output is and what became of the sound, as plain JSON-able values."""
        return {
            "path": self.outlet.name,
            **self._plan.facts(),
            "frames": self._count,
            "duration_s": float(self._seconds),
            "reader_left": self.closed,
            "streams": self._sound.facts(),
            **self.outlet.facts(),
            "warnings": list(self.warnings()),
        }

    def vitals(self) -> Vitals:
        """Return how the output is doing now."""
        vitals = self.outlet.vitals()
        if self._rate.bits_per_second is not None:
            vitals["bitrate_bps"] = self._rate.bits_per_second
        if self._sound.offset_s is not None:
            vitals["av_offset_s"] = self._sound.offset_s
        return vitals

    def warnings(self) -> Iterator[str]:
        """Yield one line for each way in which the output is not what the source was."""
        yield from self._sound.warnings()
        if self._stereo_mode is not None and not carries_stereo(self._plan.container.muxer, self._stereo_mode):
            yield stereo_lost(self._plan.container.muxer, self._stereo_mode)
        rate = self.spec.frame_rate or USUAL_RATE
        if self._counted and abs(self._count / rate - self._seconds) > 2 / rate:
            form = self._plan.container.muxer
            yield f"{form} knows no times: {self._count} frames at {rate} a second are not {float(self._seconds):.3f} s"

    @property
    def _seconds(self) -> Fraction:
        """Playing time of the frames given, by their own times."""
        return (self._last_end - (self._first_pts or 0)) * self._time_base


def is_raw(outlet: Outlet, encoding: Encoding) -> bool:
    """Return whether pictures go into `outlet` as they are, without a codec."""
    return (encoding.codec or outlet.form.codecs[0]) == "rawvideo"


def _plan(outlet: Outlet, encoding: Encoding, spec: VideoSpec, *, live: bool, drop_alpha: bool) -> Plan:
    form = outlet.form
    if is_raw(outlet, encoding):
        # A configuration may say how a codec is to work; raw pictures have none.
        encoding = replace(encoding, crf=None, preset=None)
        rate = spec.frame_rate or USUAL_RATE
        spec = replace(spec, time_base=1 / rate, frame_rate=rate) if form.muxer in _COUNTED else spec
        if form.muxer == "yuv4mpegpipe" and spec.layout.rgb and encoding.pix_fmt is None:
            encoding = replace(encoding, pix_fmt="yuv444p")
    plan = plan_in(form, encoding, spec, drop_alpha=drop_alpha)
    return _without_delay(plan) if live and plan.codec.name in ("h264", "h265") else plan


def _without_delay(plan: Plan) -> Plan:
    """Return `plan` for an encoder that gives out each picture at once, with a key picture every two seconds."""
    rate = plan.spec.frame_rate or 25
    options = {**plan.codec.options, "tune": "zerolatency", "g": str(max(1, round(2 * rate)))}
    return replace(plan, codec=replace(plan.codec, options=options))
