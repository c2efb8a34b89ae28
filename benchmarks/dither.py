"""What ordered dither costs in bits: the same frames, rounded and dithered, through the same encoder.

python benchmarks/dither.py [--data samples/sintel_320x136.mp4] [--frames 24] [--models s bicubic]

Prints a JSON line a model and crf: bytes of both files, and the dithered one over the other.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from gtasr_video import Encoding, Reader, Writer, load_model
from gtasr_video.frames import Frame
from gtasr_video.models import VideoModel
from gtasr_video.ops.color import rgb_to_yuv, yuv_to_rgb

SCALE = 4


@torch.inference_mode()
def pictures(model: VideoModel, reader: Reader) -> list[tuple[int, int, Tensor]]:
    """Return (pts, duration, enlarged RGB in [0, 1]) of all frames."""
    multiple, spec, found = model.facts.multiple_of, reader.spec, []
    height, width = spec.height // multiple * multiple, spec.width // multiple * multiple
    state = model.initial(1, height, width)
    for frame in reader:
        x = yuv_to_rgb(frame.planes, spec.layout, spec.color)[..., :height, :width] * 2 - 1
        y, state = model.step(x, state)
        found.append((frame.pts, frame.duration, (y + 1) / 2))
    return found


def size_of(frames: list[tuple[int, int, Tensor]], reader: Reader, crf: int, *, dither: bool) -> int:
    """Return the bytes of a file of `frames`."""
    height, width = frames[0][2].shape[-2:]
    spec = replace(reader.spec, width=width, height=height)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.mp4"
        with Writer(path, spec, Encoding(crf=crf)) as writer:
            for number, (pts, duration, rgb) in enumerate(frames):
                planes = rgb_to_yuv(rgb, writer.spec.layout, writer.spec.color, dither=dither)
                writer.write(Frame(planes, pts, duration, number == 0))
        return path.stat().st_size


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("samples/sintel_320x136.mp4"))
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--models", nargs="+", default=["s", "bicubic"])
    chosen = parser.parse_args()
    for name in chosen.models:
        with Reader(chosen.data, frames=chosen.frames) as reader:
            frames = pictures(load_model(name, scale=SCALE), reader)
            for crf in (18, 23):
                plain, dithered = (size_of(frames, reader, crf, dither=dither) for dither in (False, True))
                ratio = round(dithered / plain, 3)
                print(json.dumps({"model": name, "crf": crf, "rounded": plain, "dithered": dithered, "ratio": ratio}))


if __name__ == "__main__":
    main()
