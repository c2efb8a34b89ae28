"""What convolutions in 8 bits cost in quality: python benchmarks/int8.py --data DIR --vgg FILE

For each clip of full-size truth, made small by bicubic and compressed by x264 at crf 23: PSNR and VGG16 distance of
the network in float32 and of the same in int8, as OpenVINO runs it, over the first frames. A JSON line a clip, then
means.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from gtasr_video.evaluation.cache import Cache
from gtasr_video.evaluation.methods import run_model
from gtasr_video.evaluation.streams import read_frames
from gtasr_video.evaluation.truth import degrade, find, prepare, to_unit
from gtasr_video.models import load_model
from gtasr_video.models.int8 import measure_limits, with_int8
from gtasr_video.models.vgg import VGGDistance
from gtasr_video.ops.metrics import psnr
from gtasr_video.runtime.backends.calibration import shots


@torch.inference_mode()
def scores(frames: Iterator[Tensor], truth: list[Tensor], distance: VGGDistance) -> tuple[float, float]:
    """Return mean PSNR of all frames, and the mean VGG16 distance of every third."""
    fidelity, looks = [], []
    for number, (ours, wanted) in enumerate(zip(frames, truth, strict=True)):
        a, b = to_unit(ours), to_unit(wanted)
        fidelity.append(float(psnr(a, b)))
        if number % 3 == 2:
            looks.append(float(distance(a * 2 - 1, b * 2 - 1)))
    return sum(fidelity) / len(fidelity), sum(looks) / len(looks)


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--vgg", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--model", default="s", show_default=True)
@click.option("--scale", default=4, show_default=True)
@click.option("--frames", default=9, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(data: Path, vgg: Path, model: str, scale: int, frames: int, threads: int) -> None:
    """Compare."""
    torch.set_num_threads(threads)
    network: Any = load_model(model, scale=scale)
    rounded: Any = with_int8(network, measure_limits(network, shots()))
    distance, cpu = VGGDistance(vgg), torch.device("cpu")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder))
        for name, path in find([data]):
            clip = prepare(name, path, scale, frames, cache)
            small = degrade(clip, "x264-23", scale, 0, cache).path
            truth = list(read_frames(clip.path))
            (p32, v32), (p8, v8) = (
                scores(run_model(each, read_frames(small), cpu), truth, distance) for each in (network, rounded)
            )
            rows.append({"psnr_fp32": p32, "psnr_int8": p8, "vgg_fp32": v32, "vgg_int8": v8})
            report(clip=name, frames=len(truth), **rows[-1])
    report(mean_of=len(rows), **{key: sum(row[key] for row in rows) / len(rows) for key in rows[0]})


def report(psnr_fp32: float, psnr_int8: float, vgg_fp32: float, vgg_int8: float, **facts: Any) -> None:
    """Print a line with the differences first."""
    loss, change = psnr_fp32 - psnr_int8, vgg_int8 / vgg_fp32 - 1
    facts |= {"psnr_loss_db": round(loss, 4), "vgg_change": round(change, 4), "psnr_fp32": round(psnr_fp32, 3)}
    click.echo(json.dumps(facts | {"vgg_fp32": round(vgg_fp32, 4)}))


if __name__ == "__main__":
    main()
