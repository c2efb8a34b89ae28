"""Bytes to frames and back: the only folder that knows PyAV."""

from gtasr_video.media.encoding import Encoding
from gtasr_video.media.memory import MemoryReader, MemoryWriter
from gtasr_video.media.probe import encoders, probe
from gtasr_video.media.reader import Reader
from gtasr_video.media.writer import Writer

__all__ = ["Encoding", "MemoryReader", "MemoryWriter", "Reader", "Writer", "encoders", "probe"]
