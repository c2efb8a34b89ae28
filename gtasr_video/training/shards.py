"""A pack: tar files of WebP stills and H.264 clips, each with an index of what it holds as its first member.

A shard needs Pillow or OpenCV for its stills, and PyAV or OpenCV for its clips; nothing else and no other file.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gtasr_video.errors import InputError, TrainingError
from gtasr_video.training.licences import MANIFEST
from gtasr_video.training.pictures import decode_picture

INDEX = "index.json"
FORMAT = "gtasr-video pack"
VERSION = 1
_SHARD_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of a shard: file name, ``still`` or ``clip``, size, frames, where it comes from and on what terms."""

    member: str
    kind: str
    width: int
    height: int
    frames: int
    source: str
    licence: str
    sha256: str


class Shard:
    """One file of a pack. Raises InputError naming the file if it is not one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with tarfile.open(path) as tar:
                self._places = {m.name: (m.offset_data, m.size) for m in tar.getmembers()}
            index = json.loads(self._member(INDEX))
        except (OSError, tarfile.TarError, KeyError, ValueError, AttributeError) as error:
            raise InputError(f"{path}: not a shard of a pack ({error})") from error
        if index.get("format") != FORMAT or index.get("version") != VERSION:
            raise InputError(f"{path}: not a shard that this version can read")
        self.entries = [Entry(**e) for e in index["entries"]]

    def read(self, entry: Entry) -> Tensor:
        """Return the frames (T, 3, H, W) uint8 RGB of `entry`. Raises InputError if it is damaged."""
        name = f"{self.path}:{entry.member}"
        try:
            data = self._member(entry.member)
        except (OSError, KeyError) as error:
            raise InputError(f"{name}: missing or cut off") from error
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise InputError(f"{name}: damaged (its checksum differs)")
        return decode_picture(data, name)[None] if entry.kind == "still" else decode_clip(data, name)

    def _member(self, name: str) -> bytes:
        offset, size = self._places[name]
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(size)


def decode_clip(data: bytes, name: str) -> Tensor:
    """Return the frames (T, 3, H, W) uint8 of an MP4 file in memory, by PyAV or OpenCV, whichever is installed."""
    if importlib.util.find_spec("av"):
        from gtasr_video.media.access import decode_bytes

        return decode_bytes(data, name)
    if importlib.util.find_spec("cv2"):
        return _decode_by_opencv(data, name)
    raise TrainingError(f"{name}: reading clips needs PyAV or OpenCV: pip install 'gtasr-video[train]'")


def _decode_by_opencv(data: bytes, name: str) -> Tensor:
    import cv2

    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:  # OpenCV reads videos from files only
        file.write(data)
        file.flush()
        capture: Any = cv2.VideoCapture(file.name)
        pictures = []
        while (read := capture.read())[0]:
            pictures.append(read[1][:, :, ::-1])
        capture.release()
    if not pictures:
        raise InputError(f"{name}: cannot be decoded")
    return torch.from_numpy(np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2)))


def write_shards(members: Sequence[tuple[Entry, bytes]], folder: Path) -> None:
    """Write entries with their encoded bytes as shards of about 16 MiB into `folder`, and a manifest of them all."""
    rows = []
    for number, portion in enumerate(_portions(members)):
        name = f"shard-{number:03d}.tar"
        _write_shard(folder / name, portion)
        rows += [
            (f"{name}/{e.member}", e.kind, e.source, e.licence, f"{e.width}x{e.height}", e.frames, len(data))
            for e, data in portion
        ]
    with (folder / MANIFEST).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "kind", "source", "licence", "size", "frames", "bytes"))
        writer.writerows(rows)


def _portions(members: Sequence[tuple[Entry, bytes]]) -> Iterator[list[tuple[Entry, bytes]]]:
    portion: list[tuple[Entry, bytes]] = []
    size = 0
    for entry, data in members:
        if portion and size + len(data) > _SHARD_BYTES:
            yield portion
            portion, size = [], 0
        portion.append((entry, data))
        size += len(data)
    yield portion


def _write_shard(path: Path, members: Sequence[tuple[Entry, bytes]]) -> None:
    index = {"format": FORMAT, "version": VERSION, "entries": [asdict(entry) for entry, _ in members]}
    with tarfile.open(path, "w") as tar:
        _add(tar, INDEX, json.dumps(index, indent=1).encode())
        for entry, data in members:
            _add(tar, entry.member, data)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))
