"""A sample of what the fuzzer of our own parsers tries: noise, and whole texts spoiled a little."""

from __future__ import annotations

import json

import numpy as np

from tests.soak.parsers import PARSERS, parse
from tests.soak.sizes import size

CASES = size(2000, 200_000)
WHOLE = (
    json.dumps({"sha256": "0", "header": "0", "before": 0, "end": 1, "next": None, "spoiled": [], "corrupt": 0,
                "packets": [[0, 0, 1, 2, True]]}).encode(),
    json.dumps({"format": 1, "source": {}, "settings": {}, "parts": [{"first": None, "end": 9}]}).encode(),
    b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2\x00\x00\x00\x01moov\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"Stream #0:0: Video: h264, yuv420p(tv, bt709, left), 64x48\n  displaymatrix: rotation of -90.00 degrees",
    b"0:01:30.500",
    b"\x10\x00\x00\x00\x00\x00\x00\x00{\"__metadata__\":{}}",
    bytes(64) + b"\x00\x00\x40\x00\x00\x00\x00\x00",
)  # fmt: skip


def test_parsers_raise_nothing_but_errors_of_ours() -> None:
    generator = np.random.default_rng(7)
    for number in range(CASES):
        text = bytearray(WHOLE[number % len(WHOLE)])
        for spot in generator.integers(0, len(text), generator.integers(0, 6)):
            text[spot] = int(generator.integers(0, 256))
        if number % 5 == 0:
            text = text[: generator.integers(0, len(text))]
        parse(bytes([number // len(WHOLE) % len(PARSERS)]) + bytes(text))
