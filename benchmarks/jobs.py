"""What working in segments costs: a job against a plain session on the same frames, in turns.

    python benchmarks/jobs.py --rounds 3

Prints one line of JSON with the ratio of processor time and of wall time of each pair, job over session. The clip is
made on the spot. Wall time says something only where nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import gtasr_video
from gtasr_video import Encoding, Reader, Upscaler, Writer, load_model
from gtasr_video.evaluation.speed.material import make_clip
from gtasr_video.runtime.session import run


def session(source: Path, target: Path) -> None:
    """Enlarge without segments."""
    upscaler = Upscaler(load_model("s"), device="cpu", backend="torch")
    with (
        Reader(source) as reader,
        Writer(target, reader.spec.scaled(upscaler.scale), Encoding(), source=reader, overwrite=True) as writer,
    ):
        run(reader, upscaler, writer)


def job(source: Path, target: Path) -> None:
    """Enlarge as `upscale` does."""
    config = gtasr_video.UpscaleConfig(device="cpu", backend="torch")
    gtasr_video.upscale(source, target, config=config, overwrite=True)


def measure(frames: int, rounds: int) -> dict[str, object]:
    """Return the ratios of each round, and their medians."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "in.mp4"
        make_clip(source, 96, 64, frames)
        ratios: dict[str, list[float]] = {"processor": [], "wall": []}
        session(source, folder / "warm.mp4")
        for _ in range(rounds):
            spent = []
            for work in (session, job):
                began = time.process_time(), time.perf_counter()
                work(source, folder / "out.mp4")
                spent.append((time.process_time() - began[0], time.perf_counter() - began[1]))
            ratios["processor"].append(round(spent[1][0] / spent[0][0], 3))
            ratios["wall"].append(round(spent[1][1] / spent[0][1], 3))
    medians = {f"{name}_median": statistics.median(values) for name, values in ratios.items()}
    return {"frames": frames, "rounds": rounds, **ratios, **medians}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure what segments cost.")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    print(json.dumps(measure(wanted.frames, wanted.rounds)))
