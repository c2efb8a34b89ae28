"""What takes seconds to make, kept on disk for the next start: ``~/.cache/gtasr-video``, or as XDG_CACHE_HOME says.

An entry is a folder named by the hash of all it depends on: the weights, this package's source, what the frames look
like, the versions of torch and OpenVINO. So none is ever out of date; the oldest make room for new ones.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

log = logging.getLogger("gtasr_video")

# Entries kept, some 5 MB each.
_KEPT = 16


def root() -> Path:
    """Return the folder of all entries, which need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gtasr-video" / "programs"


def key(model: nn.Module, *facts: Any) -> str:
    """Return the name of the entry for `model` and whatever else counts, told apart by its repr."""
    digest = hashlib.sha256(f"{_source()} {torch.__version__} {facts!r}".encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


@cache
def _source() -> str:
    """Return a digest of this package's files, data included: other code makes other programs."""
    package = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for part in ("models", "ops", "runtime/backends"):
        for file in sorted((package / part).rglob("*")):
            if file.suffix in (".py", ".mp4"):
                digest.update(file.read_bytes())
    return digest.hexdigest()


def folder(name: str, make: Callable[[Path], None]) -> Path:
    """Return the entry `name`; if there is none, `make` writes its files into an empty folder first.

    Processes may ask for one entry at once: each makes its own, and the first to finish leaves it. Where nothing can
    be kept the entry lives as long as the process.
    """
    entry = root() / name
    if entry.is_dir():
        _stamp(entry)
        return entry
    part = _empty_folder()
    try:
        make(part)
        if part.parent != root():
            return part
        with contextlib.suppress(OSError):  # another process may have been first
            part.rename(entry)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    _stamp(entry)
    _prune()
    return entry


def _stamp(entry: Path) -> None:
    """Note that an entry is used now: the oldest go first. By a finer clock than the file system's own."""
    now = time.time_ns()
    with contextlib.suppress(OSError):
        os.utime(entry, ns=(now, now))


def _empty_folder() -> Path:
    """Return a new folder beside the entries, or one that goes with the process where none can be made there."""
    try:
        root().mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="part-", dir=root()))
    except OSError as error:
        log.info("nothing can be kept in %s (%s)", root(), error.strerror or error)
    part = Path(tempfile.mkdtemp(prefix="gtasr-video-"))
    atexit.register(shutil.rmtree, part, ignore_errors=True)
    return part


def _prune() -> None:
    """Remove all but the entries used last, and what a process that was killed left half made a day ago."""
    with contextlib.suppress(OSError):
        entries = sorted(root().iterdir(), key=lambda entry: entry.stat().st_mtime, reverse=True)
        whole = [entry for entry in entries if not entry.name.startswith("part-")]
        left = [entry for entry in entries if entry.name.startswith("part-") and _age_s(entry) > 86400]
        for entry in [*whole[_KEPT:], *left]:
            shutil.rmtree(entry, ignore_errors=True)


def _age_s(entry: Path) -> float:
    return time.time() - entry.stat().st_mtime
