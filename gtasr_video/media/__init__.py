"""Bytes to frames and back: the only folder that knows PyAV."""

from gtasr_video.media.memory import MemoryReader, MemoryWriter

__all__ = ["MemoryReader", "MemoryWriter"]
