"""A film behind http(s), as an ffmpeg program tells of it: how long it is, and where it was gone on with."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_STATUS: Final = re.compile(r"\] http_code=(\d+)$")
_LENGTH: Final = re.compile(r"\] header='content-length: *(\d+)'$", re.IGNORECASE)
_TOTAL: Final = re.compile(r"\] header='content-range: *bytes *\d+-\d+/(\d+)'$", re.IGNORECASE)
_AGAIN: Final = re.compile(r"\] Will reconnect at (\d+) ")
_CHUNKED: Final = re.compile(r"\] header='transfer-encoding: *chunked'$", re.IGNORECASE)
_LAST_CHUNK: Final = "] Last chunk received"
# Where the server has closed the connection, and nothing said how long the reply would be.
_CLOSED: Final = re.compile(rf"\] Stream ends prematurely at \d+, should be {2**64 - 1}$")
_WHOLE, _PART = "200", "206"


class Film:
    """What is known of what an HTTP server gives, from the lines of a program at FFmpeg's level ``trace``.

    length     its bytes; None as long as the server has given none, as for a live stream
    resumed    how often it was gone on with after the connection had broken off
    over       whether a reply without a length has come to its end: to its last chunk, or, where it has no chunks, to
               where the server closed the connection
    cut        whether a reply in chunks is without its last one so far
    on_break   is given the byte that was reached, each time the connection to a film breaks off
    """

    def __init__(self, on_break: Callable[[int], object] = lambda byte: None) -> None:
        self.length: int | None = None
        self.resumed = 0
        self.over = self.cut = False
        self._on_break = on_break
        self._status = ""
        self._broken = False

    def feed(self, line: str) -> None:
        """Take in a line."""
        if found := _STATUS.search(line):
            self._status = found[1]
            self.over = self.cut = False
            if self._broken and self._status == _PART:
                self._broken, self.resumed = False, self.resumed + 1
        # Of a part only the range says how long the whole is; a redirect has a length of its own.
        elif found := (_LENGTH if self._status == _WHOLE else _TOTAL).search(line):
            self.length = int(found[1])
        elif _CHUNKED.search(line):
            self.cut = True
        elif _LAST_CHUNK in line or (_CLOSED.search(line) and not self.cut):
            self.over, self.cut = True, False
        elif (found := _AGAIN.search(line)) and self.length is not None and not self._broken:
            self._broken = True
            self._on_break(int(found[1]))
