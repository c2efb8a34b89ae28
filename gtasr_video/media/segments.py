"""The picture in segments: each encoded on its own, and later joined into one file without encoding again.

A segment begins with a key picture and refers to nothing outside it. Its packets lie one after the other in a file
just as the encoder gave them; where each begins and when it is shown is kept beside it, as exact integers. No container
would do: those that hold every codec round times, or leave decoding times out.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import av
from av.container import OutputContainer
from av.packet import PacketSideData, packet_sidedata_type_from_literal

from gtasr_video.errors import OutputError
from gtasr_video.frames import Frame
from gtasr_video.media.durable import Space
from gtasr_video.media.encoding import Plan
from gtasr_video.media.packet_times import PacketTimes
from gtasr_video.media.picture import PictureEncoder
from gtasr_video.media.source import Packet
from gtasr_video.media.writer import Writer

# Where libvpx gives a packet its transparency, which Matroska and WebM keep beside the picture.
_BESIDE: Final = "matroska_block_additional"


class PacketEntry(NamedTuple):
    """One encoded picture: its times in ticks of the output, its length in bytes, whether it is a key picture.

    beside   bytes after those that belong to the packet but are no part of it: the transparency of VP9
    """

    pts: int
    dts: int
    duration: int
    size: int
    key: bool
    beside: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """A finished segment: its `packets` in decoding order, lying in the file `path`.

    sha256   of that file
    header   SHA-256 of what the encoder wants at the head of the output; the same for all segments that fit together
    """

    path: Path
    packets: tuple[PacketEntry, ...]
    sha256: str
    header: str

    @property
    def shown(self) -> list[int]:
        """Presentation times in rising order."""
        return sorted(packet.pts for packet in self.packets)

    @property
    def delay(self) -> int:
        """How many pictures later than it could a decoder has to show each, for their reordering.

        What the encoder reserved, read off its decoding times; where those cannot be right (libx265 invents them for
        streams shorter than its delay), what these pictures need.
        """
        shown = self.shown
        times = [packet.dts for packet in self.packets]
        in_order = all(a < b for a, b in pairwise(times))
        reserved = sum(dts < shown[0] for dts in times)
        if in_order and reserved < len(times) and all(p.dts <= p.pts for p in self.packets):
            return reserved
        place = {pts: index for index, pts in enumerate(shown)}
        return max(index - place[packet.pts] for index, packet in enumerate(self.packets))

    def read(self) -> Iterator[tuple[PacketEntry, bytes]]:
        """Yield each packet with its bytes and those beside it. Raises OutputError at the end if they were changed."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            for packet in self.packets:
                data = file.read(packet.size + packet.beside)
                digest.update(data)
                yield packet, data
        if digest.hexdigest() != self.sha256:
            raise OutputError(f"{self.path} has been changed or damaged; run again with --restart", restart=True)

    def is_whole(self) -> bool:
        """Return whether the file holds what was written."""
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except OSError:
            return False


class SegmentWriter:
    """Encode frames as one segment into the file `path`, by an encoder of its own.

    output  whose segment it is, for messages; plan: how it is encoded
    origin  ticks that are taken off every pts, as the output's `Writer` does
    """

    def __init__(self, path: Path, output: Path, plan: Plan, origin: int, space: Space) -> None:
        self._path, self._output, self._origin, self._space = path, output, origin, space
        # Never written to: it lends the encoder the settings that it would have in the output.
        self._container: OutputContainer = av.open(io.BytesIO(), mode="w", format=plan.container.muxer)
        self._file = -1
        try:
            with self._errors():
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
                self._picture = PictureEncoder(self._container, plan)
                self._picture.open()
        except BaseException:
            self.abort()
            raise
        self._times = PacketTimes(by_decoding=False)
        self._digest = hashlib.sha256()
        self._packets: list[PacketEntry] = []

    def write(self, frame: Frame) -> None:
        """Encode the next frame. Raises OutputError."""
        pts = frame.pts - self._origin
        self._times.expect(pts, frame.duration)
        with self._errors():
            self._keep(self._times.settle(self._picture.encode(frame, pts)))

    def _keep(self, packets: list[Packet]) -> None:
        for packet in packets:
            beside = bytes(packet.get_sidedata(_BESIDE))
            data = bytes(packet) + beside
            self._space.append(self._file, data)
            self._digest.update(data)
            times = packet.pts or 0, packet.dts or 0, packet.duration or 0
            self._packets.append(PacketEntry(*times, packet.size, packet.is_keyframe, len(beside)))

    def finish(self) -> Segment:
        """Encode what is pending and make the file durable. Raises OutputError."""
        with self._errors():
            self._keep(self._times.settle_last(self._picture.drain()))
            self._space.attempt(lambda: os.fsync(self._file))
            self._close()
        header = hashlib.sha256(self._picture.header).hexdigest()
        return Segment(self._path, tuple(self._packets), self._digest.hexdigest(), header)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what FFmpeg and the system raise into one line about the output."""
        try:
            yield
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(f"{self._output}: writing failed ({reason})") from error

    def abort(self) -> None:
        """Throw the segment away; does nothing after `finish`, and never raises."""
        if self._file >= 0:
            self._close()
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _close(self) -> None:
        os.close(self._file)
        self._file = -1
        with contextlib.suppress(av.FFmpegError):
            self._container.close()


def join(segments: Sequence[Segment], writer: Writer) -> None:
    """Copy the pictures of all `segments`, in order, into `writer`. They may be made when they are asked for.

    Decoding times are made anew for the whole: those of the segments go back at each border where frames are unevenly
    spaced. Every picture is decoded as many pictures before it is shown as the most reordered segment needs:
    picture n in decoding order at the time at which picture n - delay is shown, as encoders do.
    Raises OutputError if segments do not fit together or are damaged.
    """
    if {segment.header for segment in segments} != {writer.header}:
        message = f"{writer.path}: its segments were encoded in different ways; run again with --restart"
        raise OutputError(message, restart=True)
    clock = _decoding_times(segments)
    _expect(segments[0], writer)
    for number, segment in enumerate(segments, 1):
        if number < len(segments):
            _expect(segments[number], writer)
        for entry, data in segment.read():
            writer.copy([_packet(entry, next(clock), data)])


def _expect(segment: Segment, writer: Writer) -> None:
    for entry in sorted(segment.packets):
        writer.expect(entry.pts, entry.duration)


def _packet(entry: PacketEntry, dts: int, data: bytes) -> Packet:
    packet: Packet = av.Packet(data[: entry.size])
    if entry.beside:
        beside: Any = PacketSideData  # its stub lacks what it is made of
        held = beside(packet_sidedata_type_from_literal(_BESIDE), entry.beside)
        held.update(data[entry.size :])
        packet.set_sidedata(held)
    packet.pts, packet.dts, packet.duration = entry.pts, dts, entry.duration
    packet.is_keyframe = entry.key
    return packet


def _decoding_times(segments: Sequence[Segment]) -> Iterator[int]:
    """Yield the decoding time of each picture in decoding order, and a few more."""
    delay = max(segment.delay for segment in segments)
    shown = (pts for segment in segments for pts in segment.shown)
    first = [pts for _, pts in zip(range(delay + 1), shown, strict=False)]
    lead = first[-1] - first[0] + (delay + 1 - len(first))
    yield from (pts - lead for pts in first[:delay])
    yield from first
    yield from shown
