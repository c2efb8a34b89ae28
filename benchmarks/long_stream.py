"""Does a long stream wear out? One clip played forth and back, without a cut, to a thousand frames.

The network's output is its next reference, so an error could feed itself. The same source frame, met in the same
direction, must score the same early and late. Lines of JSON.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import torch
from torch import Tensor

from gtasr_video.media import Reader
from gtasr_video.models import VideoModel, load_model
from gtasr_video.ops.color import yuv_to_rgb
from gtasr_video.ops.edges import luma, sobel
from gtasr_video.ops.resize import bicubic

SCALE = 4
MOST_PSNR, MOST_SOBEL = 0.1, 0.02


def read(path: Path, frames: int, size: int) -> list[Tensor]:
    """Return the first frames of a video, (1, 3, H, W) in [-1, 1], cut from the middle to at most `size` a side."""
    with Reader(path, frames=frames) as reader:
        rgb = [yuv_to_rgb(frame.planes, reader.spec.layout, reader.spec.color) * 2 - 1 for frame in reader]
    height, width = (min(size, side) // 16 * 16 for side in rgb[0].shape[-2:])
    top, left = ((whole - part) // 2 for whole, part in zip(rgb[0].shape[-2:], (height, width), strict=True))
    return [x[..., top : top + height, left : left + width].contiguous() for x in rgb]


def score(y: Tensor, truth: Tensor) -> tuple[float, float]:
    """Return PSNR of luma in dB and the mean Sobel magnitude of luma."""
    error = (luma(y.clamp(-1, 1)) - luma(truth)).square().mean() / 4
    return float(-10 * torch.log10(error)), float(sobel(luma(y)).mean())


@torch.inference_mode()
def play(model: VideoModel, truth: list[Tensor], total: int) -> tuple[list[list[tuple[float, float]]], int]:
    """Return the scores of each place of each round, and how many frames the last scene has lasted."""
    small = [bicubic(x, (x.shape[-2] // SCALE, x.shape[-1] // SCALE)).clamp(-1, 1) for x in truth]
    order = [*range(len(small)), *range(len(small) - 2, 0, -1)]
    state = model.initial(1, *small[0].shape[-2:])
    rounds = []
    for _ in range(-(-total // len(order))):
        scores = []
        for k in order:
            y, state = model.step(small[k], state)
            scores.append(score(y, truth[k]))
        rounds.append(scores)
    return rounds, int(state.age[0])


@click.command()
@click.option("--data", "paths", multiple=True, required=True, type=click.Path(path_type=Path), help="Videos.")
@click.option("--model", default="s", show_default=True, help="A tier or a .safetensors file.")
@click.option("--frames", default=1000, show_default=True, help="Frames to play.")
@click.option("--source-frames", default=12, show_default=True, help="Frames of the clip.")
@click.option("--size", default=256, show_default=True, help="Largest side of the truth, in pixels.")
def main(paths: tuple[Path, ...], model: str, frames: int, source_frames: int, size: int) -> None:
    """Compare the second round with the last, place by place."""
    for path in paths:
        rounds, age = play(load_model(model, scale=SCALE), read(path, source_frames, size), frames)
        psnr = [late[0] - early[0] for early, late in zip(rounds[1], rounds[-1], strict=True)]
        edges = [late[1] / early[1] - 1 for early, late in zip(rounds[1], rounds[-1], strict=True)]
        worst = max(map(abs, psnr)), max(map(abs, edges))
        line = {
            "clip": path.name,
            "model": model,
            "frames": len(rounds) * len(rounds[0]),
            "frames_since_cut": age,
            "psnr_early": round(sum(s[0] for s in rounds[1]) / len(rounds[1]), 3),
            "psnr_late": round(sum(s[0] for s in rounds[-1]) / len(rounds[-1]), 3),
            "worst_psnr_change": round(worst[0], 4),
            "worst_sobel_change": round(worst[1], 5),
            "holds": worst[0] < MOST_PSNR and worst[1] < MOST_SOBEL,
        }
        click.echo(json.dumps(line))


if __name__ == "__main__":
    main()
