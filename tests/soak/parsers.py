"""Our own parsers as one function that takes bytes: for the fuzzer of `fuzz_parsers`, and for a seeded sample."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from gtasr_video.api import parse_seconds
from gtasr_video.errors import GTASRVideoError
from gtasr_video.media import ffv1, labels, tags
from gtasr_video.media.source import _mp4_boxes, _playlist_kind
from gtasr_video.models.checkpoint import read_card
from gtasr_video.runtime.job.journal import _known
from gtasr_video.runtime.job.memory import load_state
from gtasr_video.runtime.job.records import Done

_FOLDER = Path(tempfile.mkdtemp(prefix="parsers-"))


def _done(data: bytes) -> None:
    path = _FOLDER / "000000.json"
    path.write_bytes(data)
    with contextlib.suppress(ValueError):
        Done.read(path).segment.is_whole()


def _job(data: bytes) -> None:
    (_FOLDER / "job.json").write_bytes(data)
    _known(_FOLDER)


def _boxes(data: bytes) -> None:
    path = _FOLDER / "a.mp4"
    path.write_bytes(data)
    _mp4_boxes(path)


def _state(data: bytes) -> None:
    path = _FOLDER / "a.state"
    path.write_bytes(data)
    load_state(path)


def _card(data: bytes) -> None:
    path = _FOLDER / "a.safetensors"
    path.write_bytes(data)
    with contextlib.suppress(GTASRVideoError):
        read_card(path)


def _time(data: bytes) -> None:
    with contextlib.suppress(GTASRVideoError):
        parse_seconds(data.decode("utf-8", "replace"))


def _description(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    tags.chroma_siting(text)
    tags.stated_rotation(text)
    labels.lasting({text: text})


PARSERS: tuple[Callable[[bytes], object], ...] = (
    ffv1.has_damage, _playlist_kind, _done, _job, _boxes, _state, _card, _time, _description,
)  # fmt: skip


def parse(data: bytes) -> None:
    """Give `data` without its first byte to the parser that this byte names; only errors of ours may come out."""
    if data:
        PARSERS[data[0] % len(PARSERS)](data[1:])
