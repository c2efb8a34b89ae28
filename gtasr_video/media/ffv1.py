"""Checksums of FFV1 pictures, which FFmpeg's decoder checks but tells of in its log alone.

A packet of FFV1 version 3 or 4 with error detection (``slicecrc``) is a chain of slices. Each ends in 3 bytes of size,
a byte of status and a CRC-32, so the chain is walked from the end of the packet (RFC 9043, sections 4.9 and 4.9.2).
"""

from __future__ import annotations

import zlib
from typing import Final

_TRAILER: Final = 8
# zlib's CRC takes bits from the lowest up, FFV1's from the highest down: turn the bytes round, and the value is the
# same with its bits turned round.
_TURNED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
# What the CRC over a slice and its trailer starts from and must end at: 0, or another number in version 4.
_REFERENCES: Final = (0, int(f"{0x79408C7A:032b}"[::-1], 2))


def has_damage(packet: bytes) -> bool:
    """Return whether a slice of `packet` fails its checksum; False where slices have none, or the chain is broken.

    The decoder refuses a packet whose chain is broken, so that such damage is known anyway.
    """
    slices, end = [], len(packet)
    while end >= _TRAILER:
        size = int.from_bytes(packet[end - _TRAILER : end - 5], "big") + _TRAILER
        if size > end:
            return False
        slices.append(packet[end - size : end])
        end -= size
    return end == 0 and not all(_is_whole(data) for data in slices)


def _is_whole(data: bytes) -> bool:
    turned = data.translate(_TURNED)
    # zlib inverts the value before and after.
    return any(zlib.crc32(turned, start ^ 0xFFFFFFFF) ^ 0xFFFFFFFF == start for start in _REFERENCES)
