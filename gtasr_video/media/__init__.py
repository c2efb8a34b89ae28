"""Bytes to frames and back: the only folder that knows PyAV."""

from gtasr_video.media.memory import MemoryReader, MemoryWriter
from gtasr_video.media.reader import Reader

__all__ = ["MemoryReader", "MemoryWriter", "Reader"]
