"""From a folder of videos to weights of your own, and to a video enlarged with them.

    python pipelines/train_two_stages.py my_videos/ runs/mine --vgg vgg16.npz --try clip.mp4

Stopped, it goes on with the same command. One setting changed: --set phases.0.clips=50000. Several GPUs: run the same
``gtasr-video train`` by torchrun instead.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from gtasr_video import GTASRVideoError, upscale


def train(data: Path, out: Path, *, config: str, vgg: str, settings: list[str]) -> Path:
    """Train by both stages and return the best weights; goes on where a run in `out` was stopped."""
    words = ["train", "--config", config, "--data", str(data), "--out", str(out), "--vgg", vgg]
    words += [word for setting in settings for word in ("--set", setting)]
    if any((out / "checkpoints").glob("*.safetensors")):
        words.append("--resume")
    done = subprocess.run([sys.executable, "-m", "gtasr_video", *words], check=False)
    if done.returncode:
        sys.exit(done.returncode)  # the command has said why
    return out / "best.safetensors"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Train a network of your own, and enlarge a video with it.")
    parser.add_argument("data", type=Path, help="videos, pictures and packs")
    parser.add_argument("out", type=Path, help="where the run is kept")
    parser.add_argument("--config", default="train/two_stages")
    parser.add_argument("--vgg", default="none", help="VGG16 weights; none: Charbonnier alone is the distance")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--try", type=Path, metavar="VIDEO", dest="clip", help="a video to enlarge with the weights")
    wanted = parser.parse_args()
    weights = train(wanted.data, wanted.out, config=wanted.config, vgg=wanted.vgg, settings=wanted.settings)
    if wanted.clip is not None:
        large = wanted.out / f"{wanted.clip.stem}_x4.mp4"
        try:
            report = upscale(wanted.clip, large, model=str(weights), overwrite=True)
        except GTASRVideoError as error:
            sys.exit(f"error: {error}")
        print(report.summary())
    print(f"weights  {weights}\nreport   {wanted.out / 'report.html'}")


if __name__ == "__main__":
    main()
