"""Bytes to frames and back: the only folder that knows PyAV.

Names are loaded when first used, so that frames in memory can be had where PyAV is not installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gtasr_video.media.encoding import Encoding
    from gtasr_video.media.memory import MemoryReader, MemoryWriter
    from gtasr_video.media.probing import encoders, probe
    from gtasr_video.media.reader import Reader
    from gtasr_video.media.writer import Writer

_HOMES = {
    "Encoding": "encoding",
    "MemoryReader": "memory",
    "MemoryWriter": "memory",
    "Reader": "reader",
    "Writer": "writer",
    "encoders": "probing",
    "probe": "probing",
}

__all__ = ["Encoding", "MemoryReader", "MemoryWriter", "Reader", "Writer", "encoders", "probe"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
