"""Relay a stream of one RTMP server to another, enlarged, until it ends or is asked to end.

    python pipelines/rtmp_to_rtmp.py rtmp://in.example/live/KEY rtmp://out.example/live/KEY --latency 500ms

A line of figures a second goes to standard error. Ctrl-C or SIGTERM ends the stream as its own end would.
``gtasr-video upscale IN OUT --config live --latency 500ms --progress json`` does the same.
"""

from __future__ import annotations

import argparse
import sys

from gtasr_video import GTASRVideoError, Report, UpscaleConfig, upscale


def rtmp_to_rtmp(source: str, output: str, *, latency: str, also: list[str], settings: list[str]) -> Report:
    """Relay `source` to `output`, and to all of `also`; a frame takes at most `latency`."""
    config = UpscaleConfig.load("live", [f"live.latency={latency}", f"stream.also={also}", *settings])
    return upscale(source, output, config=config, progress="json")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Relay an RTMP stream, enlarged.")
    parser.add_argument("source")
    parser.add_argument("output")
    parser.add_argument("--latency", default="1s", help="what a frame may take, such as 500ms")
    parser.add_argument("--also", action="append", default=[], help="send it there too; may be repeated")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    given = parser.parse_args()
    try:
        report = rtmp_to_rtmp(**vars(given))
    except (GTASRVideoError, KeyboardInterrupt) as error:
        sys.exit(f"error: {str(error) or 'interrupted'}")
    print(report.summary())


if __name__ == "__main__":
    main()
