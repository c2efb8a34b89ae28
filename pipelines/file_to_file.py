"""Upscale one file into another by hand, frame by frame.

    python pipelines/file_to_file.py in.mp4 out.mp4 --model s --scale 4

``gtasr_video.upscale("in.mp4", "out.mp4")`` does the same, on three threads. Begin here when frames are to be
looked at, left out or changed on the way.
"""

from __future__ import annotations

import argparse
import sys

from gtasr_video import Encoding, GTASRVideoError, Reader, Upscaler, Writer, load_model


def file_to_file(source: str, output: str, model: str, scale: int) -> int:
    """Upscale `source` into `output` and return the number of frames written."""
    upscaler = Upscaler(load_model(model, scale=scale))
    with Reader(source) as reader:
        enlarged = reader.spec.scaled(scale)
        # `source` brings sound, subtitles, chapters and tags along. An exception in this block leaves no file behind.
        with Writer(output, enlarged, Encoding(crf=18), source=reader) as writer:
            count = 0
            for frame in upscaler(reader, output=writer.spec):
                writer.write(frame)
                count += 1
    return count


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Upscale one file into another by hand.")
    parser.add_argument("source")
    parser.add_argument("output")
    parser.add_argument("--model", default="s")
    parser.add_argument("--scale", type=int, default=4)
    wanted = parser.parse_args()
    try:
        count = file_to_file(wanted.source, wanted.output, wanted.model, wanted.scale)
    except GTASRVideoError as error:
        sys.exit(f"error: {error}")
    print(f"{wanted.output}: {count} frames", file=sys.stderr)


if __name__ == "__main__":
    main()
