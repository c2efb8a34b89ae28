"""Make an HLS stream for browsers of an RTMP stream, enlarged.

    python pipelines/rtmp_to_hls.py rtmp://in.example/live/KEY /var/www/live/index.m3u8 --segments 10

Serve the folder by any web server. Each piece is complete before the list names it. The list holds the last SEGMENTS
pieces of about two seconds and older ones are deleted; with 0 it keeps all and can be watched from the beginning.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gtasr_video import GTASRVideoError, Report, UpscaleConfig, upscale


def rtmp_to_hls(source: str, index: Path, *, segments: int, settings: list[str]) -> Report:
    """Write the list `index` and its pieces beside it until `source` ends, also over breaks of the connection."""
    index.parent.mkdir(parents=True, exist_ok=True)
    config = UpscaleConfig.load("live", [f"stream.segments={segments}", *settings])
    return upscale(source, index, config=config, overwrite=True, progress="auto")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Make HLS of an RTMP stream, enlarged.")
    parser.add_argument("source")
    parser.add_argument("index", type=Path, metavar="FOLDER/index.m3u8")
    parser.add_argument("--segments", type=int, default=10, help="pieces that the list holds, 0: all")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    given = parser.parse_args()
    try:
        report = rtmp_to_hls(**vars(given))
    except (GTASRVideoError, KeyboardInterrupt) as error:
        sys.exit(f"error: {str(error) or 'interrupted'}")
    print(report.summary())


if __name__ == "__main__":
    main()
