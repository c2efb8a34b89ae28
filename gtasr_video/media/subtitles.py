"""Text subtitles that a container cannot hold as they are, decoded and encoded as what it can."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final

import av
from av.container import OutputContainer
from av.subtitles.stream import SubtitleStream

_MILLISECONDS: Final = Fraction(1, 1000)


class TextConverter:
    """Decodes subtitle packets of `source` and encodes them with `encoder` into a new stream of `output`.

    Times are kept. Italics, bold and the like survive where both formats have them; positions and fonts of ASS do not.
    """

    def __init__(self, source: SubtitleStream, output: OutputContainer, encoder: str) -> None:
        self._source = source.codec_context
        with contextlib.suppress(av.FFmpegError, ValueError):
            self._source.open()  # makes the decoder tell its styles, which encoders ask for when they open
        stream: Any = output.add_stream(encoder)
        stream.time_base = stream.codec_context.time_base = _MILLISECONDS
        if self._source.subtitle_header:
            stream.codec_context.subtitle_header = self._source.subtitle_header
        stream.codec_context.open()
        self.stream: SubtitleStream = stream
        self.damaged = 0

    def convert(self, packet: av.Packet[Any] | None) -> Iterator[av.Packet[Any]]:
        """Yield the packet that stands for a source packet, if it says anything; nothing at the end (None)."""
        if packet is None:
            return
        try:
            texts = self._source.decode2(packet)
            if texts is None or not len(texts):
                return
            made = self.stream.codec_context.encode_subtitle(texts)
        except av.FFmpegError:
            self.damaged += 1
            return
        made.pts = made.dts = packet.pts
        made.duration = packet.duration or round(texts.end_display_time * _MILLISECONDS / packet.time_base)
        made.time_base, made.stream = packet.time_base, self.stream
        yield made
