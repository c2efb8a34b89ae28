"""Frames to a video file, with the source's sound and tags, whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
from av.container import OutputContainer
from av.stream import Stream

from gtasr_video.audit import Audit, AuditError
from gtasr_video.errors import GTASRVideoError, OutputError, UsageError
from gtasr_video.frames import Frame, VideoSpec
from gtasr_video.media import tags
from gtasr_video.media.blocks import WriterBlock
from gtasr_video.media.carried import Part
from gtasr_video.media.encoding import Encoding, Plan, plan
from gtasr_video.media.geometry import carries_stereo, stereo_lost
from gtasr_video.media.hdr import encoder_options, no_base
from gtasr_video.media.packet_times import PacketTimes
from gtasr_video.media.picture import PictureEncoder
from gtasr_video.media.reader import Reader
from gtasr_video.media.remux import SideStreams
from gtasr_video.media.source import Packet, file_url, path_from
from gtasr_video.media.target import Target

_BITEXACT_FILE: Final = 0x0400  # AVFMT_FLAG_BITEXACT: no dates, versions or random numbers in the file
_LARGEST_TIMESCALE: Final = 2**31 - 1
# Ticks between two packets that a track of MP4 can have, and how fine FFmpeg makes its ticks at least.
_LARGEST_GAP: Final = (1 << 31) - 1
_LEAST_TIMESCALE: Final = 10_000


class Writer(WriterBlock):
    """Encode frames into the file `path`, whose extension names its format.

    Frames must look like `spec` of this writer: the given one, but in the layout (and, from or to RGB, the colours)
    that the encoder takes. Every output frame keeps its pts and duration; with a source that was cut at its start,
    time begins at the first frame. With `source`, its sound, subtitles, covers, attachments, chapters
    and tags come along, interleaved as the picture advances (`facts` says what became of each).

    The file is written as ``NAME.part.EXT``, in the folder `workplace` if it is given, and renamed when it is whole;
    leaving the ``with`` block by an exception throws it away. What is there under that name is moved aside, in
    `workplace` written over (`Target`). Opened, written and finished by one thread at a time.

    Raises UsageError for a codec, option or extension that cannot be (before anything is written), if `path` is the
    source itself, and if the source has streams that this container cannot hold but another could (the message names
    both), unless `drop_unsupported`; OutputError if it exists and `overwrite` is False, or cannot be written.

    Example::

        >>> upscaler = Upscaler(load_model("s"))
        >>> with Reader("in.mp4") as reader:
        ...     with Writer("out.mp4", reader.spec.scaled(4), source=reader) as writer:
        ...         for frame in upscaler(reader, output=writer.spec):
        ...             writer.write(frame)
        >>> writer.facts()["width"]
        256
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        spec: VideoSpec,
        encoding: Encoding | None = None,
        *,
        source: Reader | None = None,
        overwrite: bool = False,
        drop_unsupported: bool = False,
        workplace: Path | None = None,
    ) -> None:
        self.path = path_from(path)
        if not isinstance(encoding, Encoding | None):
            raise UsageError(f"encoding must be an Encoding, as Encoding(codec='ffv1'), not {type(encoding).__name__}")
        self._drop_unsupported = drop_unsupported
        self._plan = plan(self.path, encoding or Encoding(), spec, drop_alpha=drop_unsupported)
        self._wanted = spec
        if source is not None and source.needs_layer and not drop_unsupported:
            raise UsageError(no_base(str(source.path)))
        self._source = source
        self._origin = source.origin_ticks if source is not None else 0
        self._count = 0
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._lost_stereo: str | None = None
        self._times = PacketTimes(by_decoding=self._plan.container.muxer in ("mp4", "mov"))
        self._container: OutputContainer | None = None
        self._side: SideStreams | None = None
        inputs = () if source is None else (source.path,)
        self._target = Target(self.path, overwrite=overwrite, inputs=inputs, workplace=workplace)
        try:
            with self._errors("cannot be opened for writing"):
                self._open()
        except BaseException:
            self.abort()
            raise

    @property
    def spec(self) -> VideoSpec:
        """What frames given to `write` must look like."""
        return self._plan.spec

    @property
    def _end(self) -> Fraction:
        """Seconds of the output at which its last frame so far ends."""
        return self._times.end * self.spec.time_base

    def _open(self) -> None:
        """Open encoder and file and write the header, so that what cannot work fails before any work."""
        form, source = self._plan.container, self._source
        if source is not None:
            self._side = SideStreams(
                source.path,
                source.stream_index,
                Part(source.origin, _end_of(source)),
                drop_unsupported=self._drop_unsupported,
            )
        container = av.open(
            file_url(self._target.part),
            mode="w",
            format=form.muxer,
            container_options=self._file_options(),
            metadata_errors="surrogateescape",
        )
        container.flags |= _BITEXACT_FILE
        self._container = container
        if self._side is None:
            self._add_picture()
        else:
            self._side.add_to(container, form, self._add_picture)
            self._say_stereo(self._picture.stream)
        self._picture.open()
        container.start_encoding()

    def _file_options(self) -> dict[str, str]:
        """Options that make the file keep times as they are: not moved so as to start at 0, not rounded."""
        form = self._plan.container
        options = {"avoid_negative_ts": "disabled", **form.options}
        if form.muxer in ("mp4", "mov"):
            # The offset at which a track begins is stored in ticks of the movie, by default milliseconds.
            rates = () if self._side is None else self._side.sample_rates()
            exact = math.lcm(self.spec.time_base.denominator, *rates)
            fits = exact <= _LARGEST_TIMESCALE
            options["movie_timescale"] = str(exact if fits else self.spec.time_base.denominator)
            if self._side is not None and self._side.needs_free_tags(form):
                options["movflags"] += "+use_metadata_tags"
        return options

    def _add_picture(self) -> Stream:
        assert self._container is not None
        self._picture = PictureEncoder(self._container, self._plan)
        stream, matrix = self._picture.stream, self._display_matrix()
        if matrix is not None:
            stream.set_display_matrix(matrix)
        return stream

    def _display_matrix(self) -> tuple[int, ...] | None:
        """Return by what players are to turn the picture: the source's own matrix unless the picture was turned."""
        source, spec = self._source, self.spec
        turned = (spec.rotation, spec.mirrored)
        is_same = source is not None and turned == (source.spec.rotation, source.spec.mirrored)
        if source is not None and source.display_matrix is not None and is_same:
            return source.display_matrix
        return tags.matrix_of(spec.rotation, mirrored=spec.mirrored) if spec.is_turned else None

    def _say_stereo(self, stream: Stream) -> None:
        """Let `stream` say how its picture holds two eyes, if the source's does, where that can be said."""
        assert self._source is not None
        mode = stream.metadata.pop("stereo_mode", self._source.stereo_mode)
        if mode is None or carries_stereo(self._plan.container.muxer, mode):
            stream.metadata.update({} if mode is None else {"stereo_mode": mode})
        elif mode != "mono":
            self._lost_stereo = mode

    def write(self, frame: Frame) -> None:
        """Encode the next frame. Raises OutputError, after which only `abort` makes sense."""
        self._check(frame)
        pts = frame.pts - self._origin
        self._times.expect(pts, frame.duration)
        self._last_pts = frame.pts
        with self._errors(f"writing failed at frame {self._count}"):
            self._mux(self._times.settle(self._picture.encode(frame, pts)))
        self._count += 1

    @property
    def stream_index(self) -> int:
        """Index of the picture's stream in the file."""
        index: int = self._picture.stream.index
        return index if self._side is None else self._side.place(index)

    def sent(self, kind: str) -> dict[int, int]:
        """Return how many packets went to each stream of `kind` (audio, subtitle), by its index in the file."""
        return {} if self._side is None else self._side.sent(kind)

    def sound_ends(self) -> dict[int, Fraction]:
        """Return at which second each sound stream should end, by its index in the file."""
        return {} if self._side is None else self._side.sound_ends()

    @property
    def header(self) -> str:
        """SHA-256 of what this writer's encoder wants at the head of the file."""
        return hashlib.sha256(self._picture.header).hexdigest()

    @property
    def plan(self) -> Plan:
        """The checked request: what segments for this output are to be encoded with."""
        return self._plan

    def expect(self, pts: int, duration: int) -> None:
        """Announce a picture that `copy` will bring; the next one at least, before a picture is copied."""
        self._times.expect(pts, duration)

    def copy(self, packets: list[Packet]) -> None:
        """Write pictures that an encoder like this writer's has encoded elsewhere, in decoding order.

        Their times are those of the output, in ticks of ``spec.time_base``. Raises OutputError.
        """
        for packet in packets:
            packet.stream, packet.time_base = self._picture.stream, self.spec.time_base
        with self._errors(f"writing failed at frame {self._count}"):
            self._mux(self._times.settle(packets))
        self._count += len(packets)

    def _check(self, frame: Frame) -> None:
        if self._container is None:
            raise OutputError(f"{self.path}: a frame was written after the output was closed")
        if not isinstance(frame, Frame):  # from a program of one's own
            raise OutputError(f"{self.path}: frame {self._count} is a {type(frame).__name__}, not a Frame")
        if self._last_pts is not None and frame.pts <= self._last_pts:
            raise OutputError(f"{self.path}: frame {self._count} has pts {frame.pts}, not after {self._last_pts}")
        spec = self.spec
        wanted = [spec.layout.plane_size(i, spec.width, spec.height) for i in range(spec.layout.planes)]
        found = [tuple(plane.shape) for plane in frame.planes]
        if found != wanted or any(plane.dtype != spec.layout.dtype for plane in frame.planes):
            raise OutputError(f"{self.path}: frame {self._count} is {frame!r}, not {spec.layout.name} {wanted}")

    def _mux(self, packets: list[Packet]) -> None:
        """Write encoded packets, each after the sound that comes before it."""
        assert self._container is not None
        for packet in packets:
            if self._side is not None:
                self._side.copy_until((packet.dts or 0) * self.spec.time_base)
            self._check_gap(packet)
            self._container.mux(packet)

    def _check_gap(self, packet: Packet) -> None:
        """Raise OutputError where MP4 or MOV cannot say how long `packet` lasts, or how long it is after the last."""
        dts = packet.dts or 0
        last, self._last_dts = self._last_dts, dts
        if self._plan.container.muxer not in ("mp4", "mov"):
            return
        unit = self.spec.time_base
        while 1 / unit < _LEAST_TIMESCALE:  # as FFmpeg makes finer ticks of coarse ones
            unit /= 2
        gap = max(packet.duration or 0, 0 if last is None else dts - last) * self.spec.time_base
        if gap / unit > _LARGEST_GAP:
            muxer = self._plan.container.muxer
            raise OutputError(
                f"{self.path}: {muxer} cannot hold a gap of {float(gap):.0f} s between pictures whose times are in "
                f"{unit} s; write .mkv"
            )

    def finish(self) -> None:
        """Encode what is pending, complete the file and give it its name. Raises OutputError."""
        if self._container is not None:
            self.finish_if(lambda _: Audit())

    def finish_if(self, check: Callable[[Path], Audit]) -> Audit:
        """Finish, unless `check` finds something wrong with the complete file; return what it found.

        The file is kept as ``NAME.suspect.EXT`` then, and AuditError raised. Raises OutputError.
        """
        if self._container is None:
            raise OutputError(f"{self.path}: it was closed before it was finished")
        try:
            if self._count == 0:
                raise OutputError(f"{self.path}: no frame was written")
            with self._errors("finishing failed"):
                self._complete(self._container)
            audit = check(self._target.part)
            if not audit.passed:
                kept = self._target.set_aside()
                raise AuditError(f"{self.path}: {'; '.join(audit.faults[:3])}; the result is kept as {kept.name}")
            self._target.commit()
        except BaseException:
            self.abort()
            raise
        self._container = None
        self._close_side()
        return audit

    def _complete(self, container: OutputContainer) -> None:
        self._mux(self._times.settle_last(self._picture.drain()))
        if self._side is not None:
            cut = self._source is not None and self._source.cut_length is not None
            self._side.finish(self._end if cut else None)
        container.close()

    def abort(self) -> None:
        """Throw the output away; does nothing after `finish` or another `abort`, and never raises."""
        # Deleted first: closing would otherwise still complete it, which takes long for a large file.
        self._target.discard()
        container, self._container = self._container, None
        if container is not None:
            with contextlib.suppress(Exception):
                container.close()
        self._close_side()

    def _close_side(self) -> None:
        if self._side is not None:
            self._side.close()

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turn what FFmpeg and the system raise into one line about this output."""
        try:
            yield
        except GTASRVideoError:
            raise
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._target.error(error, what) from error

    def facts(self) -> dict[str, Any]:
        """Return what the output is and what became of the source's other streams, as plain JSON-able values."""
        return {
            "path": str(self.path),
            **self._plan.facts(),
            "frames": self._count,
            "duration_s": float(self._end),
            "streams": [] if self._side is None else self._side.facts(),
            "warnings": list(self.warnings()),
        }

    def warnings(self) -> Iterator[str]:
        """Yield one line for each way in which the output is not what the source was."""
        plan, spec = self._plan, self.spec
        if (plan.width, plan.height) != (spec.width, spec.height):
            size = f"{spec.width}x{spec.height}"
            yield f"{plan.codec.name} in {plan.pix_fmt} needs even sizes: {size} became {plan.width}x{plan.height}"
        muxer = plan.container.muxer
        if spec.sample_aspect != 1 and muxer in ("matroska", "webm") and plan.codec.name not in ("h264", "h265"):
            yield f"{plan.codec.name} in {muxer} cannot carry the pixel aspect {spec.sample_aspect}; use h265, or .mp4"
        if self._lost_stereo is not None:
            yield stereo_lost(muxer, self._lost_stereo)
        if muxer == "mpegts" and tags.turns(self._display_matrix()):
            known = spec.rotation and not spec.mirrored
            what = f"the rotation by {spec.rotation} degrees" if known else "how players mirror or turn the picture"
            yield f"{muxer} cannot carry {what}; use .mp4 or .mkv"
        yield from self._losses()
        if self._side is not None:
            yield from self._side.warnings()

    def _losses(self) -> Iterator[str]:
        """Yield what of the picture the codec cannot hold."""
        plan, wanted, found = self._plan, self._wanted.layout, self.spec.layout
        if wanted.alpha and not found.alpha:
            yield f"{plan.codec.name} in {plan.container.muxer} cannot hold transparency; it was left out"
        if plan.codec.name == "prores" and self._wanted.color.full_range:
            yield "prores has no full range; the picture was converted to limited range, which looks the same"
        if found.bits < wanted.bits:
            deeper = ("prores", "ffv1") if found.alpha else ("h265", "ffv1")
            others = " or ".join(name for name in deeper if name != plan.codec.name)
            yield f"{plan.codec.name} got {found.bits} of {wanted.bits} bits; --codec {others} keeps more"
        coarse = (found.log2_chroma_w, found.log2_chroma_h) > (wanted.log2_chroma_w, wanted.log2_chroma_h)
        if coarse and wanted.planes > 1:
            others = "prores and ffv1" if found.alpha else "h264, h265 and ffv1"
            yield f"{plan.codec.name} got colour as {found.name}, coarser than {wanted.name}; {others} keep it"
        if self.spec.hdr is not None and not encoder_options(plan.codec.encoder, self.spec.hdr):
            yield f"{plan.codec.name} cannot carry mastering display and light level here; use h265, av1 or h264"


def _end_of(source: Reader) -> Fraction | None:
    """Return the output time in seconds at which the part of `source` that was asked for ends, None for all of it."""
    length = source.cut_length
    return None if length is None else source.first_time - (source.origin or 0) + length
