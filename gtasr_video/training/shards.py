"""Reading a pack: tar files of WebP stills and H.264 clips, each with an index of what it holds as its first member.

A shard needs Pillow or OpenCV for its stills, and PyAV or OpenCV for its clips; nothing else and no other file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gtasr_video.errors import InputError, TrainingError
from gtasr_video.training.pictures import decode_picture

INDEX = "index.json"
FORMAT = "gtasr-video pack"
VERSION = 1


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
