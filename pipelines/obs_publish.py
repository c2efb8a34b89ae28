"""Let OBS publish straight to this program, and send what it sends on, enlarged: no server between.

    STREAM_KEY=what-obs-has python pipelines/obs_publish.py rtmp://out.example/live/KEY --port 1935

In OBS: Settings, Stream, Service "Custom", Server ``rtmp://127.0.0.1:1935/live``, Stream Key the same as STREAM_KEY.
It may stop and start again. Without STREAM_KEY any key is taken. Other machines reach us only with --host 0.0.0.0.
"""

from __future__ import annotations

import argparse
import os
import sys

from gtasr_video import GTASRVideoError, Report, UpscaleConfig, upscale


def obs_publish(output: str, *, host: str, port: int, key: str, once: bool, settings: list[str]) -> Report:
    """Wait for a publisher with `key` and relay what it sends to `output`; `once`: until it stops."""
    wishes = ["stream.listen=true", f"stream.on_end={'stop' if once else 'wait'}", *settings]
    source = f"rtmp://{host}:{port}/live/{key}".rstrip("/")
    key_is = "as given" if key else "any"
    print(f"in OBS: Server rtmp://{host}:{port}/live, Stream Key {key_is}", file=sys.stderr)
    return upscale(source, output, config=UpscaleConfig.load("live", wishes), progress="auto")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Take a stream from OBS and send it on, enlarged.")
    parser.add_argument("output", help="an address, a file, or an .m3u8 list")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1935)
    parser.add_argument("--once", action="store_true", help="end when OBS stops")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    given = parser.parse_args()
    try:
        # From the environment: what stands on a command line can be seen by everyone on the machine.
        report = obs_publish(**vars(given), key=os.environ.get("STREAM_KEY", ""))
    except (GTASRVideoError, KeyboardInterrupt) as error:
        sys.exit(f"error: {str(error) or 'interrupted'}")
    print(report.summary())


if __name__ == "__main__":
    main()
