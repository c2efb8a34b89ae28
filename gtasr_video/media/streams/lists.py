"""HLS and DASH lists on this machine: what is asked of the program that writes one, and what has come of it.

The program does not say where a segment could not be written: a disk that is full costs it all, and it ends well.
"""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gtasr_video.errors import OutputError, UsageError
from gtasr_video.media.source import same_file

log = logging.getLogger("gtasr_video")

LISTS: Final = (".m3u8", ".mpd")
_SEGMENT_S: Final = 2
# What a file system keeps for its own use when nothing can be written any more.
_FULL_BYTES: Final = 1 << 16
# What means something else in an address, as which players read the names in a list, or in a muxer's pattern.
_UNSAFE: Final = re.compile(r"[^\w .,=@~+()\[\]-]")
# What the HLS muxer puts something else in the place of, in a folder's name and in that of the list.
_NUMBER: Final = re.compile(r"%\d*d|%v", re.IGNORECASE)
_VARIANT: Final = re.compile("%v", re.IGNORECASE)
_ELSEWHERE: Final = "choose another name or folder"


def is_list(name: str) -> bool:
    """Return whether `name` is an HLS or DASH list on this machine."""
    return "://" not in name and Path(name).suffix.lower() in LISTS


class ListFiles:
    """The list `path`, or what that leads to, and its segments beside it, each whole before the list names it.

    segments   how many the list names, 0 for all
    source     the file that is read meanwhile, if there is one
    muxer      FFmpeg's name of the format

    Nothing is touched before `begin`. Raises UsageError if `source` has a name that belongs to the list, OutputError
    if another file has one and `overwrite` is False, if what has one is no file, or if the list has no place to be.
    """

    def __init__(self, path: Path, segments: int, *, overwrite: bool, source: Path | None = None) -> None:
        self.path = _behind_link(path)
        self.muxer = "hls" if self.path.suffix.lower() == ".m3u8" else "dash"
        self.url = f"file:{self.path.absolute()}"
        self._segments, self._overwrite, self._source = segments, overwrite, source
        self._part = 1  # which program in turn writes, of a DASH list
        _check_name(self.path, self.muxer)
        with self._errors():
            self._check_place()
            self._old()

    def _check_place(self) -> None:
        folder = self.path.parent
        if not folder.is_dir() and not folder.parent.is_dir():
            raise OutputError(f"there is no folder {folder.parent} for {self.path}; make it first")
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder} is no folder; {_ELSEWHERE}")
        if not os.access(folder if folder.is_dir() else folder.parent, os.W_OK):
            raise OutputError(f"{self.path}: cannot be written (Permission denied)")

    def _old(self) -> list[Path]:
        """Return the files that have a name of the list or of its segments, once they may go."""
        folder, belongs = self.path.parent, _belonging(self.path, self.muxer)
        found = sorted(one for one in folder.iterdir() if belongs.fullmatch(one.name)) if folder.is_dir() else []
        for one in found:
            if self._source is not None and same_file(one, self._source):
                raise UsageError(f"the input {one} would be replaced by {self.path} and its segments; {_ELSEWHERE}")
            if one.exists() and not one.is_file():
                raise OutputError(f"{one} is no file, and in the way of {self.path} and its segments; {_ELSEWHERE}")
        if found and not self._overwrite:
            if os.path.lexists(self.path):
                raise OutputError(f"{self.path} exists; use -y to replace it")
            raise OutputError(f"{found[0]} exists, as if it were of {self.path}; use -y to delete it, or {_ELSEWHERE}")
        return found

    def begin(self) -> None:
        """Make the folder, and delete what an earlier run has written. Raises OutputError, UsageError as at first."""
        with self._errors():
            self.path.parent.mkdir(exist_ok=True)
            for old in self._old():
                old.unlink()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror or error})") from error

    def shares_names(self, other: ListFiles) -> bool:
        """Return whether both would write the same files."""

        def names(files: ListFiles) -> tuple[str, str, str]:
            return os.path.realpath(files.path.parent), files.muxer, _stem(files.path)

        return names(self) == names(other)

    def options(self) -> dict[str, Any]:
        """Return the muxer's options for the next program. Raises OSError.

        One that takes over from another that failed goes on with its HLS list. A DASH list it would begin anew: what
        there is of that becomes ``NAME.part-1.mpd``, and what comes gets names of its own.
        """
        begun = self.path.exists()
        if self.muxer == "hls":
            return _hls(self.path, self._segments, append=begun)
        if begun:
            self._keep()
        return _dash(self._names, self._segments)

    @property
    def _names(self) -> str:
        """How the names of segments begin that the present program writes."""
        return _stem(self.path) if self._part == 1 else f"{_stem(self.path)}.part-{self._part}"

    def _keep(self) -> None:
        kept = self.path.with_name(f"{self.path.stem}.part-{self._part}{self.path.suffix}")
        kept.write_text(_ended(self.path.read_text(encoding="utf-8")), encoding="utf-8")
        self.path.unlink()
        log.warning("%s begins anew; what it held until then is in %s", self.path, kept)
        self._part += 1

    def fault(self, *, at_end: bool) -> str:
        """Return what is wrong with the files, "" for nothing; `at_end`: no program writes them any more."""
        try:
            return _missing(self.path, self._names) if at_end else _no_room(self.path.parent)
        except OSError as error:
            return error.strerror or str(error)


def _behind_link(path: Path) -> Path:
    """Return where `path` leads, if it is a link: somebody has put the list there, perhaps as there is room."""
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if not is_list(str(target)):
        raise OutputError(f"{path} leads to {target}, which is no .m3u8 or .mpd list; name a list")
    return target


def _check_name(path: Path, muxer: str) -> None:
    """Refuse names of which the program would make others. Raises OutputError."""
    whole = path.absolute()
    if str(whole).encode(errors="ignore").decode() != str(whole):
        raise OutputError(f"{path}: a list cannot be written where a name is not UTF-8; {_ELSEWHERE}")
    if muxer != "hls":
        return
    if number := _NUMBER.search(str(whole.parent)):
        raise OutputError(f"{path}: {number[0]} in a folder's name is taken for a number; name another folder")
    if number := _VARIANT.search(path.name):
        raise OutputError(f"{path}: {number[0]} in the name is taken for a number; choose another name")


def _ended(manifest: str) -> str:
    """Return the manifest of a program that was cut off as one that players do not wait for more of."""
    timeline = re.search(r'timescale="(\d+)".*?<SegmentTimeline>(.*?)</SegmentTimeline>', manifest, re.DOTALL)
    if timeline is None:
        return manifest
    end = 0
    for start, ticks, more in re.findall(r'<S (?:t="(\d+)" )?d="(\d+)"(?: r="(\d+)")?', timeline[2]):
        end = int(start or end) + int(ticks) * (int(more or 0) + 1)
    ended = f'type="static" mediaPresentationDuration="PT{end / int(timeline[1]):.3f}S"'
    return re.sub(r'\s+minimumUpdatePeriod="[^"]*"', "", manifest.replace('type="dynamic"', ended, 1))


def _no_room(folder: Path) -> str:
    disk = os.statvfs(folder)
    free = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail  # root may use what is kept for root
    return "the disk is full" if disk.f_blocks and free * disk.f_frsize < _FULL_BYTES else ""


def _missing(path: Path, names: str) -> str:
    """Return which file is not there or empty, of the list and its segments; those of DASH begin with `names`."""
    segments = [path.name]
    if path.suffix.lower() == ".m3u8":
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        segments += [line for line in lines if line and not line.startswith("#")]
    else:
        segments += sorted(found.name for found in path.parent.glob(f"{glob.escape(names)}-*.m4s"))
    empty = [name for name in segments if not (path.parent / name).stat().st_size]
    return f"{empty[0]} is empty" if empty else "no segment was written" if len(segments) == 1 else ""


def _stem(path: Path) -> str:
    """Return how the names of segments begin: like `path`, in characters that stand for themselves."""
    return _UNSAFE.sub(lambda found: f"_{ord(found[0]):x}", path.stem)


def _belonging(path: Path, muxer: str) -> re.Pattern[str]:
    """Return how every name looks that a run may write for the list `path`."""
    stem, kept = re.escape(_stem(path)), ""
    if muxer == "hls":
        segment = rf"{stem}-\d{{5,}}\.ts"
    else:
        segment = rf"{stem}(\.part-\d+)?-(init-\d+|\d+-\d{{5,}})\.m4s"
        kept = rf"|{re.escape(path.stem)}\.part-\d+{re.escape(path.suffix)}"
    # Until a file is whole its name ends so.
    return re.compile(rf"({re.escape(path.name)}|{segment}{kept})(\.tmp)?", re.ASCII)


def _hls(path: Path, segments: int, *, append: bool) -> dict[str, Any]:
    flags = "independent_segments+program_date_time+temp_file"
    return {
        "hls_time": _SEGMENT_S,
        "hls_list_size": segments,
        "hls_flags": flags + "+delete_segments" * (segments > 0) + "+append_list" * append,
        "hls_segment_filename": f"{path.absolute().parent / _stem(path)}-%05d.ts",
    }


def _dash(names: str, segments: int) -> dict[str, Any]:
    return {
        "seg_duration": _SEGMENT_S,
        "window_size": segments,
        "init_seg_name": f"{names}-init-$RepresentationID$.m4s",
        "media_seg_name": f"{names}-$RepresentationID$-$Number%05d$.m4s",
        # The names and forms that MPEG-TS has for these would be taken over.
        "tag:v": "avc1",
        "tag:a": "mp4a",
        "bsf:a": "aac_adtstoasc",
    }
