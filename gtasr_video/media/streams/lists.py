"""HLS and DASH lists on this machine: what is asked of the program that writes one, and what has come of it.

The program does not say where a segment could not be written: a disk that is full costs it all, and it ends well.
"""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import Any, Final

from gtasr_video.errors import OutputError

LISTS: Final = (".m3u8", ".mpd")
_SEGMENT_S: Final = 2
# What a file system keeps for its own use when nothing can be written any more.
_FULL_BYTES: Final = 1 << 16
# What means something else in an address, as which players read the names in a list, or in a muxer's pattern.
_UNSAFE: Final = re.compile(r"[^\w .,=@~+()\[\]-]")
_NUMBER: Final = re.compile(r"%\d*d")


def is_list(name: str) -> bool:
    """Return whether `name` is an HLS or DASH list on this machine."""
    return "://" not in name and Path(name).suffix.lower() in LISTS


class ListFiles:
    """The list `path` and its segments, each whole before the list names it; its folder is made.

    segments   how many the list names, 0 for all
    muxer      FFmpeg's name of the format
    Raises OutputError for a list that exists, without `overwrite`, or has no place to be.
    """

    def __init__(self, path: Path, segments: int, *, overwrite: bool) -> None:
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists; use -y to replace it")
        self.muxer = "hls" if path.suffix.lower() == ".m3u8" else "dash"
        if self.muxer == "hls" and (number := _NUMBER.search(str(path.absolute().parent))):
            raise OutputError(f"{path}: {number[0]} in a folder's name is taken for a number; name another folder")
        try:
            path.parent.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
        self.path, self._segments = path, segments
        self.url = f"file:{path.absolute()}"

    def options(self) -> dict[str, Any]:
        """Return the muxer's options. A program that takes over from one that failed goes on with its list."""
        if self.muxer == "dash":
            return _dash(self.path, self._segments)
        options = _hls(self.path, self._segments)
        return {**options, "hls_flags": f"{options['hls_flags']}+append_list"} if self.path.exists() else options

    def fault(self, *, at_end: bool) -> str:
        """Return what is wrong with the files, "" for nothing; `at_end`: no program writes them any more."""
        try:
            return _missing(self.path) if at_end else _no_room(self.path.parent)
        except OSError as error:
            return error.strerror or str(error)


def _no_room(folder: Path) -> str:
    disk = os.statvfs(folder)
    free = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail  # root may use what is kept for root
    return "the disk is full" if disk.f_blocks and free * disk.f_frsize < _FULL_BYTES else ""


def _missing(path: Path) -> str:
    """Return which file is not there or empty, of the list and those that it names."""
    names = [path.name]
    if path.suffix.lower() == ".m3u8":
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        names += [line for line in lines if line and not line.startswith("#")]
    else:
        names += sorted(found.name for found in path.parent.glob(f"{glob.escape(_stem(path))}-*.m4s"))
    empty = [name for name in names if not (path.parent / name).stat().st_size]
    return f"{empty[0]} is empty" if empty else "no segment was written" if len(names) == 1 else ""


def _stem(path: Path) -> str:
    """Return how the names of segments begin: like `path`, in characters that stand for themselves."""
    return _UNSAFE.sub(lambda found: f"_{ord(found[0]):x}", path.stem)


def _hls(path: Path, segments: int) -> dict[str, Any]:
    flags = "independent_segments+program_date_time+temp_file" + "+delete_segments" * (segments > 0)
    return {
        "hls_time": _SEGMENT_S,
        "hls_list_size": segments,
        "hls_flags": flags,
        "hls_segment_filename": f"{path.absolute().parent / _stem(path)}-%05d.ts",
    }


def _dash(path: Path, segments: int) -> dict[str, Any]:
    stem = _stem(path)
    return {
        "seg_duration": _SEGMENT_S,
        "window_size": segments,
        "init_seg_name": f"{stem}-init-$RepresentationID$.m4s",
        "media_seg_name": f"{stem}-$RepresentationID$-$Number%05d$.m4s",
        # The names and forms that MPEG-TS has for these would be taken over.
        "tag:v": "avc1",
        "tag:a": "mp4a",
        "bsf:a": "aac_adtstoasc",
    }
