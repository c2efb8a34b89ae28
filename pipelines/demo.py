"""`make demo`: enlarge the sample clip, put a frame beside its bicubic enlargement, say what was measured."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import ffmpeg
import imageio_ffmpeg

from gtasr_video import GTASRVideoError, Report, upscale

SAMPLE = Path(__file__).parent.parent / "samples" / "sintel_320x136.mp4"
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
FRAME, WINDOW = 30, {"x": 500, "y": 0, "w": 480, "h": 400}


def demo(model: str, folder: Path, frames: int | None = None) -> tuple[Report, Path]:
    """Write the large clip and the picture into `folder`; return the report and the picture's path."""
    folder.mkdir(parents=True, exist_ok=True)
    report = upscale(SAMPLE, folder / "sintel_x4.mp4", model=model, frames=frames, overwrite=True, progress="auto")
    picture, moment = folder / "bicubic_and_ours.jpg", min(FRAME, report.frames_out - 1) / 24
    bicubic = ffmpeg.input(str(SAMPLE), ss=moment).filter("scale", "iw*4", "ih*4", flags="bicubic")
    left = bicubic.filter("crop", **WINDOW).filter("pad", "iw+4", color="white")
    right = ffmpeg.input(report.output["path"], ss=moment).filter("crop", **WINDOW)
    joined = ffmpeg.filter([left, right], "hstack").output(str(picture), vframes=1, qscale=2)
    joined.run(cmd=FFMPEG, overwrite_output=True, quiet=True)
    return report, picture


def sound(path: str | Path) -> bytes:
    """Return a digest of all sound packets of a file."""
    packets = ffmpeg.input(str(path)).audio.output("pipe:", acodec="copy", format="md5")
    return bytes(packets.run(cmd=FFMPEG, capture_stdout=True, quiet=True)[0])


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Enlarge the sample clip x4 and show what came of it.")
    parser.add_argument("--model", default="s")
    parser.add_argument("--out", type=Path, default=Path("demo"))
    wanted = parser.parse_args()
    try:
        report, picture = demo(wanted.model, wanted.out)
    except (GTASRVideoError, KeyboardInterrupt) as error:
        sys.exit(f"error: {str(error) or 'interrupted'}")
    kept = sound(SAMPLE) == sound(report.output["path"])
    print(f"video     {report.output['path']}\npicture   {picture} (left: bicubic, right: ours)")
    print(f"measured  {report.summary().split(': ', 1)[1]}, {report.frames_in} frames in, {report.frames_out} out")
    print(
        f"          model {report.model} on {report.device}, {report.dtype}; {report.peak_rss_bytes >> 20} MiB memory"
    )
    print(f"sound     {'the very packets of the input' if kept else 'NOT the packets of the input'}")


if __name__ == "__main__":
    main()
