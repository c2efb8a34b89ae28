"""Decoded material kept in files, so that the next run starts at once and runs side by side share their memory."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_log = logging.getLogger("gtasr_video")


class DecodedCache:
    """Frames by what they were decoded from, as memory-mapped ``.npy`` files in `folder` (None: nothing is kept).

    A file that changes gets a new name; the folder can be deleted at any time between runs. If it cannot be written,
    that is said once and decoding goes on without it.
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
        kept = folder / f"{_key(path, how)}.npy"
        if not kept.is_file():
            data = decode()
            if not self._save(kept, data):
                return data
        return torch.from_numpy(np.load(kept, mmap_mode="c"))

    def _save(self, kept: Path, data: Tensor) -> bool:
        partial = kept.with_suffix(f".{os.getpid()}.part")
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                np.save(file, data.numpy())
            partial.replace(kept)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            folder, self._folder = self._folder, None
            if folder is not None:
                _log.warning("nothing is kept in %s: %s", folder, error.strerror)
            return False
        return True


def _key(path: Path, how: str) -> str:
    facts = path.stat()
    text = f"{path.resolve()}|{facts.st_size}|{facts.st_mtime_ns}|{how}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]
