"""Where each file of a training set comes from and on what terms, as a manifest beside the data says."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MANIFEST = "manifest.csv"
_log = logging.getLogger("gtasr_video")


@dataclass(frozen=True, slots=True)
class Origin:
    """Source and licence of a file; empty where nothing says."""

    source: str = ""
    licence: str = ""


class Origins:
    """The rows of every ``manifest.csv`` found in, above (up to two folders) or beside the paths of a training set.

    A manifest has a header with ``path`` and any of ``source``, ``licence`` (or ``license``). Its paths may begin
    anywhere: the row whose path shares most of its end with a file is that file's.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._rows: dict[str, list[tuple[tuple[str, ...], Origin]]] = {}
        for manifest in sorted({m for path in paths for m in _manifests(path)}):
            self._read(manifest)

    def _read(self, manifest: Path) -> None:
        try:
            with manifest.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    parts = Path(row.get("path") or "").parts
                    if parts:
                        licence = row.get("licence") or row.get("license") or ""
                        self._rows.setdefault(parts[-1], []).append((parts, Origin(row.get("source") or "", licence)))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            _log.warning("%s cannot be read (%s): licences are left empty", manifest, error)

    def of(self, path: Path) -> Origin:
        """Return the origin of `path`."""
        rows = self._rows.get(path.name, [])
        return max(rows, key=lambda row: _common_end(row[0], path.parts), default=((), Origin()))[1]


def _manifests(path: Path) -> list[Path]:
    folder = path.resolve() if path.is_dir() else path.resolve().parent
    return [m for f in (folder, *folder.parents[:2]) if (m := f / MANIFEST).is_file()]


def _common_end(a: Sequence[str], b: Sequence[str]) -> int:
    count = 0
    for x, y in zip(reversed(a), reversed(b), strict=False):
        if x != y:
            break
        count += 1
    return count
