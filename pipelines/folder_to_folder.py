"""Upscale every video of a folder into another, keeping its tree; run again, it does what is missing.

    python pipelines/folder_to_folder.py my_videos/ enlarged/ --model s --scale 4

``gtasr-video upscale my_videos/ enlarged/`` does the same, with a table at the end; ``--watch`` goes on with new files.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import gtasr_video


def folder_to_folder(source: str, output: str, model: str, scale: int) -> int:
    """Upscale all of `source` into `output` and return how many files failed."""

    def tell(outcome: Any) -> None:
        about = outcome.message or outcome.output
        print(f"{outcome.state:6}  {outcome.source}  {about}", file=sys.stderr)

    outcomes = gtasr_video.upscale_folder(source, output, model=model, scale=scale, on_outcome=tell)
    return sum(outcome.state == "failed" for outcome in outcomes)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Upscale every video of a folder into another.")
    parser.add_argument("source")
    parser.add_argument("output")
    parser.add_argument("--model", default="s")
    parser.add_argument("--scale", type=int, default=4)
    wanted = parser.parse_args()
    try:
        failed = folder_to_folder(wanted.source, wanted.output, wanted.model, wanted.scale)
    except gtasr_video.GTASRVideoError as error:
        sys.exit(f"error: {error}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
