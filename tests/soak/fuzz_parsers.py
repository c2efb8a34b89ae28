"""Our own parsers under a fuzzer that looks where they branch; needs the extra ``soak``.

python -m tests.soak.fuzz_parsers -max_total_time=300
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["gtasr_video"]):
    from tests.soak.parsers import parse

if __name__ == "__main__":
    atheris.Setup(sys.argv, parse)
    atheris.Fuzz()
