"""Job 3 and on: one round of training on a GPU that ends, with its weights saved, when its time is over.

python benchmarks/gpu/train.py --round pictures|clips|structure|FILE.toml --tier s|m|l --carry DIR --out DIR
    [--init FILE] [--minutes 9] [--set KEY=VALUE ...] [--rehearse]

The pack in the carried folder is decoded once into the GPU's memory. Clips are made and degraded there, a model
standing for the codec. The phases of the round are stretched so that together they take the time there is: a few steps
of each are timed first. Writes the averaged weights as `TIER.safetensors` in fp16 (in parts of 15 MiB, `.0`, `.1`,
where it is larger; `--init` takes such parts, too), now and then and at the end, metrics.jsonl with a line every ten
steps, and round.json. The next round goes on from the weights alone, with a warm-up.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lines import Clock, Lines, machine

from gtasr_video.config import load_config
from gtasr_video.device import Device, choose
from gtasr_video.models.checkpoint import save_model
from gtasr_video.training.clips import ClipSource
from gtasr_video.training.loop import steps
from gtasr_video.training.losses import Perceptual
from gtasr_video.training.ranks import Ranks
from gtasr_video.training.settings import Phase, TrainSettings
from gtasr_video.training.start import network, perceptual_distance, teacher_of
from gtasr_video.training.state import RunState
from gtasr_video.training.validation import Validation

ROUNDS = Path(__file__).with_name("rounds")
PART = 15 * 2**20
SAVE_EVERY = 120.0
REPORT_EVERY = 15.0
# Kept back at the end for validating and saving, in seconds.
RESERVE = 25.0
# Optimiser steps of each phase that are timed first.
TRIAL = 8
# What a rehearsal on a CPU makes small.
TINY = ("data.crop=16", "data.region=24", "validation_clips=4", "data.short_side=256")


class Round:
    """A round of training: settings, what it starts from, and the files it leaves."""

    def __init__(self, settings: TrainSettings, carry: Path, init: Path | None, out: Path, device: Device) -> None:
        self.settings, self.out, self.device = settings, out, device
        largest = dataclasses.replace(settings.data, scale=max(p.scale for p in settings.phases))
        self.source = ClipSource([carry / "pack"], largest, settings.seed, device.torch_device)
        self.perceptual: Perceptual | None = perceptual_distance(settings, device)
        self.teacher = teacher_of(settings, device)
        self.state = RunState.new(network(settings, init, device), settings)

    def speed(self, phase: Phase, count: int) -> float:
        """Return clips a second of `phase`, the median of the last half of `count` steps of a copy of the network."""
        trial = dataclasses.replace(self.settings, phases=(dataclasses.replace(phase, clips=count * phase.batch),))
        state = RunState.new(copy.deepcopy(self.state.model), trial)
        lines = self._steps(trial, state)
        return statistics.median(line["perf/clips_per_second"] for line in itertools.islice(lines, count // 2, None))

    def stretch(self, seconds: float, trial: int) -> dict[str, Any]:
        """Multiply the clips of all phases so that they take `seconds` in all, judged by `trial` steps of each."""
        speeds = [self.speed(phase, trial) for phase in self.settings.phases]
        needed = sum(p.clips / speed for p, speed in zip(self.settings.phases, speeds, strict=True))
        factor = seconds / needed
        phases = tuple(_longer(p, factor) for p in self.settings.phases)
        self.settings = dataclasses.replace(self.settings, phases=phases)
        return {"clips_per_second": [round(s, 1) for s in speeds], "clips": [p.clips for p in phases]}

    def run(self, clock: Clock, metrics: Lines) -> int:
        """Take steps until the plan or the time is at its end; return the clips seen."""
        clips, saved, told = 0, time.monotonic(), 0.0
        for line in self._steps(self.settings, self.state):
            clips += self.settings.phases[line["phase"]].batch
            if line["step"] % 10 == 0 or line["step"] < 10:
                metrics.keep(**line)
            now = time.monotonic()
            if now - told > REPORT_EVERY:
                told = now
                print(json.dumps({k: round(v, 4) for k, v in line.items()}), f"{clock.left:.0f} s left", flush=True)
            if now - saved > SAVE_EVERY:
                saved = now
                self.save(clips)
            if clock.left < RESERVE:
                break
        return clips

    def judge(self) -> dict[str, float]:
        """Return how the averaged weights do on held-out clips, at the scale of the last phase."""
        scale = self.settings.phases[-1].scale
        model = self.state.averaged()
        model.scale = scale
        return Validation(self.settings, scale, self.source, self.perceptual, self.device).measure(model)

    def save(self, clips: int) -> list[str]:
        """Write the averaged weights; return the names of the files."""
        path = self.out / f"{self.settings.tier}.safetensors"
        note = {"licence": self.settings.licence, "data": self.settings.data_note}
        save_model(path, self.state.model, dtype=torch.float16, tensors=self.state.ema, clips=clips, **note)
        if path.stat().st_size <= PART:
            return [path.name]
        data = path.read_bytes()
        parts = [data[at : at + PART] for at in range(0, len(data), PART)]
        for number, part in enumerate(parts):
            path.with_name(f"{path.name}.{number}").write_bytes(part)
        path.unlink()
        return [f"{path.name}.{number}" for number in range(len(parts))]

    def _steps(self, settings: TrainSettings, state: RunState) -> Iterator[dict[str, Any]]:
        return steps(settings, state, self.source, self.perceptual, self.teacher, self.device, Ranks())


def _longer(phase: Phase, factor: float) -> Phase:
    clips = max(phase.batch, math.floor(phase.clips * factor))
    return dataclasses.replace(phase, clips=clips, warm_up=min(phase.warm_up, clips // 4))


def whole(path: Path | None, out: Path) -> Path | None:
    """Return `path`, put together in `out` from its parts where only they are there."""
    if path is None or path.is_file():
        return path
    parts = sorted(path.parent.glob(f"{path.name}.[0-9]"))
    if not parts:
        sys.exit(f"{path}: no such weights, whole or in parts")
    joined = out / "init.safetensors.whole"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    return joined


def read_settings(chosen: argparse.Namespace) -> TrainSettings:
    """Return the settings of the round, with `--set` and what a rehearsal makes tiny."""
    named = ROUNDS / f"{chosen.round}.toml"
    overrides = [f"tier={chosen.tier}", f"vgg={chosen.carry / 'vgg.safetensors'}", "data.codec=model", *chosen.set]
    settings = load_config(
        TrainSettings, str(named if named.is_file() else chosen.round), [*overrides, *(TINY if chosen.rehearse else ())]
    )
    if chosen.rehearse:
        small = {"batch": 4, "perceptual_crops": 2, "perceptual_size": 64}
        phases = tuple(dataclasses.replace(p, frames=min(p.frames, 3), **small) for p in settings.phases)
        settings = dataclasses.replace(settings, phases=phases)
    return settings


def main() -> None:
    """Train one round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--round", required=True)
    parser.add_argument("--tier", required=True)
    parser.add_argument("--carry", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--rehearse", action="store_true")
    chosen = parser.parse_args()
    clock = Clock(chosen.minutes)
    chosen.out.mkdir(parents=True, exist_ok=True)
    device = choose("cpu", torch.float32) if chosen.rehearse else choose("cuda")
    torch.backends.cudnn.benchmark = True
    init = whole(chosen.init, chosen.out)
    settings = read_settings(chosen)
    noise_scale = settings.noise_scale if settings.noise_scale is not None else 0.0
    job = Round(settings.settled(chosen.tier, noise_scale), chosen.carry, init, chosen.out, device)
    if init is not None and init != chosen.init:
        init.unlink()
    facts: dict[str, Any] = {"machine": machine(device.torch_device), "material": job.source.summary()}
    facts["before"] = job.judge()
    # A rehearsal takes one step of each phase.
    facts |= job.stretch(0.0, 1) if chosen.rehearse else job.stretch(clock.left - RESERVE, TRIAL)
    print(json.dumps(facts), flush=True)
    clips = job.run(clock, Lines(chosen.out, "metrics"))
    facts["files"] = job.save(clips)
    facts |= {
        "seen": clips,
        "steps": job.state.step,
        "after": job.judge(),
        "settings": dataclasses.asdict(job.settings),
    }
    (chosen.out / "round.json").write_text(json.dumps(facts, indent=1, default=str) + "\n", encoding="utf-8")
    print(json.dumps({k: v for k, v in facts.items() if k != "settings"}), flush=True)


if __name__ == "__main__":
    main()
