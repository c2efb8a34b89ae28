"""Any frames of a video file as tensors, by number and exact: what training reads instead of a stream."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from gtasr_video.errors import InputError
from gtasr_video.media.decoder import Decoder
from gtasr_video.media.source import choose_video, open_input

_DECORD_FORMATS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"})


@dataclass(frozen=True, slots=True)
class VideoFile:
    """What a file holds, found without decoding: size, and the time of every frame in order of presentation.

    pts        ticks of `time_base`; empty where the container gives none, and frames can then be read only in order
    keys       positions in `pts` of the pictures that decode on their own
    closed     True if no picture is shown before the key picture it follows in the file (closed groups)
    decord     True if decord gave the same frames as FFmpeg where it was tried
    """

    path: Path
    width: int
    height: int
    codec: str
    pixel_format: str
    time_base: Fraction
    pts: tuple[int, ...] = field(repr=False)
    keys: tuple[int, ...] = field(repr=False)
    closed: bool
    decord: bool = False


def index(path: Path) -> VideoFile:
    """Read the packet list of `path` and return what it holds. Raises InputError naming the file."""
    container = open_input(path)
    try:
        stream = choose_video(container, path)
        packets = [(p.pts, p.is_keyframe) for p in container.demux(stream) if p.size and not p.is_discard]
        context = stream.codec_context
        facts = (context.width, context.height, context.name, context.pix_fmt or "")
        time_base = stream.time_base or Fraction(1, av.time_base)
    except av.FFmpegError as error:
        raise InputError(f"{path}: damaged ({error.strerror or error})") from error
    finally:
        container.close()
    known = [pts for pts, _ in packets if pts is not None]
    ordered = tuple(sorted(known)) if len(set(known)) == len(packets) else ()
    place = {pts: number for number, pts in enumerate(ordered)}
    keys = tuple(place[pts] for pts, key in packets if key and pts in place)
    return VideoFile(path, *facts, time_base, ordered, keys, _is_closed(packets))


def _is_closed(packets: Sequence[tuple[int | None, bool]]) -> bool:
    """Whether everything after a key picture in the file is also shown after it."""
    key = None
    for pts, is_key in packets:
        if is_key:
            key = pts
        elif key is not None and pts is not None and pts < key:
            return False
    return True


def read_clip(path: Path, limit: int = 0) -> Tensor:
    """Return the frames of the first video stream as uint8 RGB (T, 3, H, W); at most `limit` unless 0.

    Frames whose size differs from the first one's end the clip. Raises InputError if there is no frame.
    """
    decoder = Decoder(path)
    try:
        pictures = list(islice(_same_size(decoder.frames()), limit or None))
    except (av.FFmpegError, MemoryError) as error:
        raise InputError(f"{path}: cannot be decoded ({error})") from error
    finally:
        decoder.close()
    if not pictures:
        raise InputError(f"{path}: holds no frame that can be decoded")
    return _stack(pictures)


def decode_bytes(data: bytes, name: str) -> Tensor:
    """Return the frames of a video held in memory, as `read_clip` does; `name` is for messages."""
    try:
        with av.open(io.BytesIO(data), mode="r") as container:
            pictures = list(_same_size(container.decode(video=0)))
    except (av.FFmpegError, IndexError) as error:
        raise InputError(f"{name}: cannot be decoded ({error})") from error
    if not pictures:
        raise InputError(f"{name}: holds no frame that can be decoded")
    return _stack(pictures)


def _same_size(frames: Iterator[av.VideoFrame]) -> Iterator[np.ndarray]:
    size = None
    for frame in frames:
        size = size or (frame.width, frame.height)
        if (frame.width, frame.height) != size:
            return
        yield frame.to_ndarray(format="rgb24")


def _stack(pictures: list[np.ndarray]) -> Tensor:
    """Return pictures (H, W, 3) as one (T, 3, H, W), and empty the list: a long film is never held twice."""
    height, width, channels = pictures[0].shape
    stacked = torch.empty(len(pictures), channels, height, width, dtype=torch.uint8)
    while pictures:
        number = len(pictures) - 1
        stacked[number] = torch.from_numpy(pictures.pop()).permute(2, 0, 1)
    return stacked


class FrameReader:
    """Frames of one file by number, through PyAV: exact for every codec. Not to be shared between processes."""

    def __init__(self, file: VideoFile) -> None:
        self.file = file
        self._decoder = Decoder(file.path, threads=1)

    def read(self, start: int, count: int) -> Tensor:
        """Return frames start .. start + count - 1 as uint8 RGB (count, 3, H, W). Raises InputError."""
        wanted = self.file.pts[start : start + count]
        self._decoder.seek(wanted[0] * self.file.time_base)
        pictures = []
        for frame in self._decoder.frames():
            if frame.pts is not None and frame.pts >= wanted[0]:
                pictures.append(frame.to_ndarray(format="rgb24"))
            if len(pictures) == count:
                return _stack(pictures)
        at = float(wanted[0] * self.file.time_base)
        raise InputError(f"{self.file.path}: frame {start} at {at:.3f} s cannot be decoded")


class DecordReader:
    """Frames of one file by number, through decord: faster, and used only where `decord_agrees` says so."""

    def __init__(self, file: VideoFile) -> None:
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        self.file = file
        self._reader: Any = decord.VideoReader(str(file.path), num_threads=1)

    def __len__(self) -> int:
        return len(self._reader)

    def read(self, start: int, count: int) -> Tensor:
        """Return frames start .. start + count - 1 as uint8 RGB (count, 3, H, W). Raises InputError."""
        try:
            pictures = self._reader.get_batch(list(range(start, start + count))).asnumpy()
        except Exception as error:  # decord raises its own classes, and IndexError
            raise InputError(f"{self.file.path}: frame {start} cannot be decoded") from error
        return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))


def decord_agrees(file: VideoFile) -> bool:
    """Return whether decord gives the frames that PyAV gives, for a file of a kind where that can be.

    Only 8-bit H.264 with closed groups is tried: on open groups and on 10-bit HEVC decord is known to return wrong
    frames now and then. The frames tried lie at both ends, in the middle, and on both sides of key pictures, in an
    order that makes it jump back.
    """
    if file.codec != "h264" or file.pixel_format not in _DECORD_FORMATS or not file.closed or not file.pts:
        return False
    try:
        theirs = DecordReader(file)
    except Exception:  # not installed, not built for this machine, or it cannot open the file
        return False
    if len(theirs) != len(file.pts):
        return False
    ours = FrameReader(file)
    return all(_equal(ours, theirs, number) for number in _probes(file))


def _probes(file: VideoFile) -> list[int]:
    last = len(file.pts) - 1
    keys = [k for k in file.keys if k]
    beside = [k + step for k in (keys[len(keys) // 2 :][:1] + keys[-1:]) for step in (1, 0, -1)]
    return list(dict.fromkeys(n for n in (last, last // 2, *beside, 0, last // 3) if 0 <= n <= last))


def _equal(ours: FrameReader, theirs: DecordReader, number: int) -> bool:
    try:
        difference = ours.read(number, 1).short() - theirs.read(number, 1).short()
    except (InputError, RuntimeError):
        return False
    return int(difference.abs().max()) <= 1


def open_frames(file: VideoFile) -> FrameReader | DecordReader:
    """Return the fastest exact reader for `file`. Raises InputError."""
    return DecordReader(file) if file.decord else FrameReader(file)
