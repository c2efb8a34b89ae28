"""Finding training material: any mix of folders, pictures, videos and packs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from gtasr_video.errors import TrainingError
from gtasr_video.media.folders import below, is_folder, is_shown_by_us
from gtasr_video.training.pictures import PICTURE_SUFFIXES

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".m2ts", ".flv", ".y4m", ".wmv", ".mxf"}
)
PACK_SUFFIXES = frozenset({".tar"})
_log = logging.getLogger("gtasr_video")
_SUFFIXES = PICTURE_SUFFIXES | VIDEO_SUFFIXES | PACK_SUFFIXES


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Return every picture, video and shard under `paths` (folders are searched whole), sorted, each once.

    Hidden files and folders are left out, and the pictures that runs and measurements of ours show; linked folders are
    gone into. What cannot be looked into is named in a warning. A file given by name is taken whatever its suffix.
    Raises TrainingError for a path that does not exist, and where nothing is found.
    """
    found: set[Path] = set()
    for path in paths:
        if is_folder(path):
            for file, fault in below(path, _SUFFIXES):
                if fault:
                    _log.warning("skipping %s", fault)
                elif not is_shown_by_us(file):
                    found.add(file)
        elif path.is_file():
            found.add(path)
        else:
            raise TrainingError(f"no training data at {path}: no such file or folder")
    if not found:
        raise TrainingError(f"no pictures or videos in {', '.join(map(str, paths)) or 'an empty list of paths'}")
    return sorted(found)


def kind_of(path: Path) -> str:
    """Return what a file is taken for by its name: ``picture``, ``pack`` or ``video`` (also what is unknown)."""
    suffix = path.suffix.lower()
    return "picture" if suffix in PICTURE_SUFFIXES else "pack" if suffix in PACK_SUFFIXES else "video"
