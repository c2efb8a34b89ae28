"""Record a network camera, enlarged, until Ctrl-C; a camera that goes away is waited for.

    python pipelines/camera_to_file.py rtsp://user:password@camera/stream recording.mkv

The file is finished and whole whether Ctrl-C, SIGTERM or --seconds ends the recording. Matroska can be watched while
it is written. For a camera of this machine see ffmpeg_pipe.sh.
"""

from __future__ import annotations

import argparse
import sys

from gtasr_video import GTASRVideoError, Report, UpscaleConfig, upscale


def camera_to_file(source: str, output: str, *, seconds: float | None, settings: list[str]) -> Report:
    """Record `source` into `output`, over all breaks of the connection."""
    config = UpscaleConfig.load("live", ["stream.on_end=wait", *settings])
    return upscale(source, output, config=config, duration=seconds, progress="auto")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Record a network camera, enlarged.")
    parser.add_argument("source", help="rtsp://, srt://, http:// or another address")
    parser.add_argument("output")
    parser.add_argument("--seconds", type=float, help="stop after so much of it")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    given = parser.parse_args()
    try:
        report = camera_to_file(**vars(given))
    except (GTASRVideoError, KeyboardInterrupt) as error:
        sys.exit(f"error: {str(error) or 'interrupted'}")
    away = report.input.get("away_s", 0)
    print(f"{report.summary()}; the camera was away for {away:.0f} s")


if __name__ == "__main__":
    main()
