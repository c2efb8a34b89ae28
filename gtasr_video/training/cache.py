"""Decoded material kept in files, so that the next run starts at once and runs side by side share their memory."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_log = logging.getLogger("gtasr_video")
_NAME = "frames"


class DecodedCache:
    """Frames by what they were decoded from, as memory-mapped files in `folder` (None: nothing is kept).

    The files are safetensors: :func:`numpy.load` parses a header with :mod:`ast`, which now and then fails in threads
    of an older Python 3.11 or 3.12 (github.com/python/cpython/issues/106905).

    A file that changes gets a new name, one that was damaged is made anew; the folder can be deleted at any time
    between runs. If it cannot be written, that is said once and decoding goes on without it.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def fetch(self, path: Path, how: str, decode: Callable[[], Tensor]) -> Tensor:
        """Return what `decode` gives for the file `path`, kept from an earlier run if it is there.

        how   whatever else the result depends on
        """
        folder = self._folder
        if folder is None:
            return decode()
        kept = folder / f"{_key(path, how)}.safetensors"
        if (data := _load(kept)) is not None:
            return data
        data = decode()
        mapped = _load(kept) if self._save(kept, data) else None
        return data if mapped is None else mapped

    def _save(self, kept: Path, data: Tensor) -> bool:
        partial = kept.with_suffix(f".{os.getpid()}.part")
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            save_file({_NAME: data.contiguous()}, partial)
            partial.replace(kept)
        except (OSError, SafetensorError) as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            folder, self._folder = self._folder, None
            if folder is not None:
                _log.warning("nothing is kept in %s: %s", folder, getattr(error, "strerror", None) or error)
            return False
        return True


def _load(kept: Path) -> Tensor | None:
    """Return what is kept in a file, None if that is not whole.

    It is mapped privately: pages are shared with other runs until somebody writes to them.
    """
    try:
        with safe_open(kept, framework="pt") as file:
            frames: Tensor = file.get_tensor(_NAME)
            return frames
    except (OSError, SafetensorError):
        return None


def _key(path: Path, how: str) -> str:
    facts = path.stat()
    text = f"{path.resolve()}|{facts.st_size}|{facts.st_mtime_ns}|{how}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]
