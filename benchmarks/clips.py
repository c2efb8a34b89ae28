"""How many training clips a second one process makes: python benchmarks/clips.py --data DIR [--device cuda]

One JSON line for each clip length, with the machine it ran on. `cpu_clips_per_second` counts processor time only, so
that it says the same on a busy machine.
"""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path

import click
import torch

from gtasr_video.training.clips import ClipSource, DataSettings, Loader


@click.command()
@click.option("--data", "paths", multiple=True, required=True, type=click.Path(path_type=Path))
@click.option("--device", default="cpu", show_default=True)
@click.option("--frames", multiple=True, type=int, default=(1, 5), show_default=True)
@click.option("--batch", default=16, show_default=True)
@click.option("--batches", default=12, show_default=True)
def main(paths: tuple[Path, ...], device: str, frames: tuple[int, ...], batch: int, batches: int) -> None:
    """Measure making clips in this process, after two batches to warm up."""
    torch.set_num_threads(1)
    begun = time.perf_counter()
    source = ClipSource(paths, DataSettings(), 0, torch.device(device))
    loaded = time.perf_counter() - begun
    click.echo(json.dumps({"material": source.summary(), "seconds_to_load": round(loaded, 1)}))
    for count in frames:
        made = iter(Loader(source.with_settings(DataSettings(frames=count)), batch, workers=0))
        for _ in range(2):
            next(made).lr.float().mean().item()
        clock, processor = time.perf_counter(), time.process_time()
        for _ in range(batches):
            next(made).lr.float().mean().item()
        wall, busy = time.perf_counter() - clock, time.process_time() - processor
        clips = batch * batches
        line = {
            "frames": count,
            "clips_per_second": round(clips / wall, 1),
            "cpu_clips_per_second": round(clips / busy, 1),
            "batch": batch,
            "device": device,
            "machine": f"{platform.machine()}, torch {torch.__version__}, one thread",
        }
        click.echo(json.dumps(line))


if __name__ == "__main__":
    main()
