"""The measurement: each stage alone, the whole, and the peers, in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gtasr_video.device import Device, peak_memory, synchronise
from gtasr_video.evaluation.speed.clock import Samples
from gtasr_video.evaluation.speed.machine import machine, matrix_rate
from gtasr_video.evaluation.speed.material import first_frames
from gtasr_video.evaluation.speed.peers import Step, compact_step, ncnn_step
from gtasr_video.frames import Frame, VideoSpec
from gtasr_video.media import Encoding, Reader, Writer
from gtasr_video.media.encoding import plan
from gtasr_video.models.budget import macs_per_pixel
from gtasr_video.models.gtasr import GTASRVideo
from gtasr_video.ops.color import yuv_to_rgb
from gtasr_video.runtime.report import peak_rss_bytes
from gtasr_video.runtime.session import run
from gtasr_video.runtime.upscaler import Upscaler

STAGES = ("decode", "upload", "model", "download", "encode")


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured.

    source    the video; folder: where results may be written, and are thrown away
    frames    frames of it; rounds: how often all take turns
    peers     ncnn models (.param); with any, or `compact`, the Compact network in torch too
    """

    source: Path
    folder: Path
    upscaler: Upscaler
    encoding: Encoding
    frames: int = 60
    rounds: int = 3
    peers: tuple[Path, ...] = ()
    compact: bool = False

    @property
    def device(self) -> Device:
        """Where the network runs."""
        return self.upscaler.device

    def target(self, name: str) -> Path:
        """Return where a result called `name` goes: MP4, or Matroska for the codecs that MP4 is not for."""
        return self.folder / f"{name}{'.mkv' if self.encoding.codec in ('prores', 'ffv1') else '.mp4'}"


@dataclass(slots=True)
class _Turns:
    stages: dict[str, Samples] = field(default_factory=lambda: {name: Samples() for name in STAGES})
    peers: dict[str, Samples] = field(default_factory=dict)
    whole: list[float] = field(default_factory=list)


def measure(bench: Bench, on_step: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Run the measurement and return its facts as plain data; `on_step` hears what is being done.

    Raises UsageError, InputError, OutputError, ModelError or EvaluationError for what cannot be run, before it begins.
    """
    spec, frames = first_frames(bench.source, bench.frames)
    peers = _peers(bench)
    turns = _Turns(peers={name: Samples() for name in peers})
    bench.upscaler.start(spec)
    plan(bench.target("whole"), bench.encoding, bench.upscaler.output)
    share = max(4, len(frames) // bench.rounds)
    for number in range(bench.rounds):
        for name, work in _works(bench, spec, frames[:share], turns, peers):
            on_step(f"round {number + 1} of {bench.rounds}: {name}")
            work()
    return _facts(bench, spec, turns)


def _works(
    bench: Bench, spec: VideoSpec, frames: list[Frame], turns: _Turns, peers: dict[str, Step]
) -> Iterator[tuple[str, Callable[[], None]]]:
    large: list[Frame] = []
    yield "decode", partial(_decode, bench.source, len(frames), turns.stages["decode"])
    yield "model", lambda: large.extend(_model(bench, frames, turns))
    yield "encode", partial(_encode, bench, large, turns.stages["encode"])
    yield "end to end", lambda: turns.whole.append(_whole(bench, len(frames)))
    for name, step in peers.items():
        yield name, partial(_peer, step, spec, frames, turns.peers[name])


def _decode(source: Path, count: int, samples: Samples) -> None:
    with Reader(source, frames=count) as reader:
        decoded = iter(reader)
        while samples.take(next, decoded, None) is not None:
            pass
    samples.wall_ms.pop()  # the end of the file is no frame


def _model(bench: Bench, frames: list[Frame], turns: _Turns) -> list[Frame]:
    """Upload, enlarge and download each frame, waiting for the device after each."""
    device, upscaler, stages = bench.device.torch_device, bench.upscaler, turns.stages
    upscaler.step(replace(frames[0], cut=True))  # what is made at the first frame is not counted
    synchronise(device)

    def moved(planes: tuple[Tensor, ...], to: torch.device) -> tuple[Tensor, ...]:
        there = tuple(plane.to(to) for plane in planes)
        synchronise(device)
        return there

    def enlarged(frame: Frame) -> Frame:
        result = upscaler.step(frame).frame
        synchronise(device)
        return result

    large = []
    for frame in frames:
        there = replace(frame, planes=stages["upload"].take(moved, frame.planes, device))
        result = stages["model"].take(enlarged, there)
        back = stages["download"].take(moved, result.planes, torch.device("cpu"))
        large.append(replace(result, planes=back))
    return large


def _encode(bench: Bench, frames: list[Frame], samples: Samples) -> None:
    """Encode, and count what the encoder still holds at the end as part of the frames."""
    with Writer(bench.target("encode"), bench.upscaler.output, bench.encoding, overwrite=True) as writer:
        for frame in frames:
            samples.take(writer.write, frame)
        drained = Samples()
        drained.take(writer.finish)
    each = drained.wall_ms[0] / len(frames)
    samples.wall_ms[-len(frames) :] = [ms + each for ms in samples.wall_ms[-len(frames) :]]
    samples.cpu_ms += drained.cpu_ms


def _whole(bench: Bench, count: int) -> float:
    """Return the frames a second from file to file."""
    with (
        Reader(bench.source, frames=count) as reader,
        Writer(
            bench.target("whole"),
            reader.spec.scaled(bench.upscaler.scale),
            bench.encoding,
            source=reader,
            overwrite=True,
            drop_unsupported=True,  # nobody will see it
        ) as writer,
    ):
        return run(reader, bench.upscaler, writer).fps


def _peer(step: Step, spec: VideoSpec, frames: list[Frame], samples: Samples) -> None:
    few = frames[: max(2, len(frames) // 4)]  # they are slow
    pictures = [_bytes(frame, spec) for frame in few]
    step(pictures[0])
    for picture in pictures:
        samples.take(step, picture)


def _bytes(frame: Frame, spec: VideoSpec) -> Tensor:
    rgb = yuv_to_rgb(frame.planes, spec.layout, spec.color)[0]
    return (rgb.clamp(0, 1) * 255).round().to(torch.uint8)


def _peers(bench: Bench) -> dict[str, Step]:
    scale = bench.upscaler.scale
    steps = {param.stem: ncnn_step(param, scale) for param in bench.peers}
    if bench.compact:
        steps["compact (torch)"] = compact_step(scale, bench.device)
    return steps


def _facts(bench: Bench, spec: VideoSpec, turns: _Turns) -> dict[str, Any]:
    upscaler, stages = bench.upscaler, turns.stages
    fps = sorted(turns.whole)[len(turns.whole) // 2]
    peers = {name: samples.facts() for name, samples in turns.peers.items()}
    described = machine(bench.device)
    slowest = max(STAGES, key=lambda name: stages[name].mean_ms)
    ideal_ms = sum(s.cpu_ms / len(s.wall_ms) for s in stages.values()) / described["cores"]
    ratios = {"end_to_end/slowest": fps * stages[slowest].mean_ms / 1000}
    if bench.device.torch_device.type == "cpu":
        # All work lies on the same cores: better than sharing them without loss it cannot get.
        ratios["end_to_end/ideal"] = fps * ideal_ms / 1000
    ratios |= _arithmetic(bench, spec, stages["model"])
    ratios |= {f"end_to_end/{name}": fps / facts["fps"] for name, facts in peers.items()}
    output = upscaler.output
    return {
        "machine": described,
        "model": upscaler.model.facts.name,
        "backend": upscaler.backend,
        "dtype": str(bench.device.dtype).removeprefix("torch."),
        "input": f"{spec.width}x{spec.height}",
        "output": f"{output.width}x{output.height}",
        "frames": len(stages["decode"].wall_ms),
        "stages": {name: samples.facts() for name, samples in stages.items()},
        "slowest": slowest,
        "fps": round(fps, 2),
        "output_mpx_per_s": round(fps * output.width * output.height / 1e6, 2),
        "peers": peers,
        "ratios": {name: round(value, 4) for name, value in ratios.items()},
        "peak_rss_mib": peak_rss_bytes() >> 20,
        "peak_device_mib": peak_memory(bench.device.torch_device) >> 20,
    }


def _arithmetic(bench: Bench, spec: VideoSpec, model: Samples) -> dict[str, float]:
    """Return the multiply-accumulates of a step over what plain matrix products reach in its time."""
    network = bench.upscaler.model
    if not isinstance(network, GTASRVideo):
        return {}
    macs = macs_per_pixel(network.architecture, network.scale) * spec.width * spec.height
    return {"model/matrix": macs / (model.mean_ms / 1000) / matrix_rate(bench.device)}
