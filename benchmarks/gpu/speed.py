"""Job 2: how fast a step and a whole session are, by tier, size and way to run it.

python benchmarks/gpu/speed.py --out DIR [--minutes 9] [--tiers s m l] [--rehearse]

Writes speed.jsonl. A line ``what: step`` has milliseconds a frame of `model.step` alone, output megapixels a second,
memory taken, and the largest and mean difference to fp32 in 8-bit steps after eight frames (cases named fp32 compute
as torch does by default, with convolutions in TF32; what they are compared with does not). ``what: session`` has frames
a second through lane, colour conversion and network, frames coming from and going to host memory. ``what: kernels`` has
where the device's time goes. What did not run says why; what the time did not suffice for is listed last.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from lines import Clock, Lines, machine, wait
from torch import Tensor

from gtasr_video.device import Device
from gtasr_video.frames import ColorSpec, Frame, PixelLayout, VideoSpec
from gtasr_video.media.memory import MemoryReader
from gtasr_video.models.gtasr import TIERS, GTASRVideo
from gtasr_video.runtime.session import run
from gtasr_video.runtime.upscaler import Upscaler

SCALE = 4
SIZES = {"1080p": (270, 480), "2160p": (540, 960)}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# The first are what matters most: time may end before the last.
WAYS = ("eager", "graph", "compile+graph", "compile")
COMPARED = 8


@dataclass(frozen=True)
class Case:
    """One way to run one network on frames of one size."""

    tier: str
    size: str
    dtype: str
    way: str
    channels_last: bool = True


def cases(tiers: list[str], sizes: dict[str, tuple[int, int]]) -> Iterator[Case]:
    """Yield what is measured, the most telling first."""
    for size in reversed(sizes):
        for way in WAYS:
            yield from (Case(tier, size, "bf16", way) for tier in tiers)
    for tier in tiers:
        yield from (Case(tier, next(reversed(sizes)), dtype, "graph") for dtype in ("fp16", "fp32"))
        yield Case(tier, next(reversed(sizes)), "bf16", "graph", channels_last=False)


def network(tier: str) -> GTASRVideo:
    """Return a folded network whose every part has a say: weights that begin as zero are drawn small."""
    torch.manual_seed(0)
    model = GTASRVideo(TIERS[tier], (SCALE,))
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.01)
    return model.eval().fold()


def pan(size: tuple[int, int], multiple: int, count: int, device: torch.device) -> list[Tensor]:
    """Return frames (1, 3, H, W) in [-1, 1] of a texture that moves two pixels a frame, sides rounded up."""
    height, width = (side + -side % multiple for side in size)
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, height // 4, (width + 2 * count) // 4 + 1, generator=generator) * 2 - 1
    whole = torch.nn.functional.interpolate(coarse, size=(height, width + 2 * count), mode="bicubic").clamp(-1, 1)
    return [whole[..., 2 * k : 2 * k + width].contiguous().to(device) for k in range(count)]


def leaves(state: Any) -> Iterator[Tensor]:
    """Yield the tensors of a state, which may hold states of its own."""
    for part in state:
        yield from [part] if isinstance(part, Tensor) else leaves(part)


class Runner:
    """One network with fixed buffers for its input and state, so that a step can be captured as a CUDA graph."""

    def __init__(self, model: GTASRVideo, case: Case, size: tuple[int, int], device: torch.device) -> None:
        layout = torch.channels_last if case.channels_last else torch.contiguous_format
        self.model = copy.deepcopy(model).to(device, DTYPES[case.dtype]).to(memory_format=layout)  # type: ignore[call-overload]
        self.x = torch.zeros(1, 3, *size, device=device)
        self.state = self.model.initial(1, *size)
        self.device = device
        self.once = self._eager(self.model.step)
        if "compile" in case.way:
            # On a CPU this rehearses: the step is traced as a whole, but not translated.
            backend = "inductor" if device.type == "cuda" else "eager"
            self.once = self._eager(torch.compile(self.model.step, dynamic=False, backend=backend))
        if "graph" in case.way and device.type == "cuda":
            self.once = self._captured(self.once)

    def _eager(self, step: Callable[..., Any]) -> Callable[[], Tensor]:
        def once() -> Tensor:
            y, state = step(self.x, self.state)
            for held, new in zip(leaves(self.state), leaves(state), strict=True):
                held.copy_(new)
            return y  # type: ignore[no-any-return]

        return once

    def _captured(self, once: Callable[[], Tensor]) -> Callable[[], Tensor]:
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            for _ in range(3):
                once()
        torch.cuda.current_stream(self.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = once()

        def replay() -> Tensor:
            graph.replay()
            return y

        return replay

    def reset(self) -> None:
        """Begin a new stream."""
        for held in leaves(self.state):
            held.zero_()

    def push(self, x: Tensor) -> Tensor:
        """Return the larger frame; it lies in memory that the next call may write to."""
        self.x.copy_(x)
        return self.once()


def measure(runner: Runner, frames: list[Tensor], seconds: float) -> float:
    """Return seconds a step, the best of five rounds."""
    rounds = []
    for _ in range(5):
        wait(runner.device)
        begun, count = time.perf_counter(), 0
        while count < len(frames) or time.perf_counter() - begun < seconds / 5:
            runner.push(frames[count % len(frames)])
            count += 1
            if count % 20 == 0:
                wait(runner.device)
        wait(runner.device)
        rounds.append((time.perf_counter() - begun) / count)
    return min(rounds)


def outputs(runner: Runner, frames: list[Tensor]) -> list[Tensor]:
    """Return the first frames of a stream on the CPU."""
    runner.reset()
    return [runner.push(x).float().cpu() for x in frames[:COMPARED]]


@contextlib.contextmanager
def exact_convolutions() -> Iterator[None]:
    """Let cuDNN convolve fp32 as fp32 in the block; elsewhere it rounds to TF32, as torch lets it, also for users."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@torch.inference_mode()
def step_line(case: Case, sizes: dict[str, tuple[int, int]], device: torch.device, seconds: float) -> dict[str, Any]:
    """Measure one case."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    model = network(case.tier)
    frames = pan(sizes[case.size], model.facts.multiple_of, COMPARED, device)
    size = frames[0].shape[2], frames[0].shape[3]
    begun = time.perf_counter()
    runner = Runner(model, case, size, device)
    ours = outputs(runner, frames)
    ready = time.perf_counter() - begun
    took = measure(runner, frames, seconds)
    peak = torch.cuda.max_memory_reserved(device) / 2**30 if device.type == "cuda" else None
    with exact_convolutions():
        truth = outputs(Runner(model, Case(case.tier, case.size, "fp32", "eager"), size, device), frames)
    gaps = torch.stack([(a - b).abs() * 127.5 for a, b in zip(ours, truth, strict=True)])
    return {
        "ms": round(took * 1000, 3),
        "fps": round(1 / took, 1),
        "output_mpx_per_s": round(size[0] * size[1] * SCALE**2 / took / 1e6, 1),
        "peak_gib": None if peak is None else round(peak, 2),
        "seconds_to_start": round(ready, 1),
        "gap_max": round(float(gaps.max()), 3),
        "gap_mean": round(float(gaps.mean()), 5),
    }


class Sink:
    """A writer that notes when frames come, and lets go of them."""

    def __init__(self, spec: VideoSpec) -> None:
        self.spec = spec
        self.times: list[float] = []

    def write(self, frame: Frame) -> None:
        """Note the time."""
        self.times.append(time.perf_counter())

    def steady_s(self) -> float:
        """Return the seconds a frame takes after the first 50 (half of fewer), in which engines record their work."""
        settled = self.times[min(50, len(self.times) // 2) :]
        return (settled[-1] - settled[0]) / (len(settled) - 1)

    def finish(self) -> None:
        """Nothing is left to do."""

    def abort(self) -> None:
        """Nothing is left to undo."""

    def facts(self) -> dict[str, Any]:
        """Return the count."""
        return {"path": None, "frames": len(self.times)}


def session_line(tier: str, size: tuple[int, int], device: torch.device, count: int) -> dict[str, Any]:
    """Measure a whole session in 8-bit 4:2:0 from host memory to host memory."""
    layout = PixelLayout("yuv420p")
    spec = VideoSpec(size[1], size[0], Fraction(1, 25), layout, ColorSpec("bt709"), frame_rate=Fraction(25))
    sizes = [layout.plane_size(i, size[1], size[0]) for i in range(3)]
    planes = [tuple(torch.randint(16, 235, s, dtype=torch.uint8) for s in sizes) for _ in range(4)]
    frames = (Frame(planes[k % 4], k, 1, k == 0) for k in range(count))
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    backend = "cuda-graph" if device.type == "cuda" else "torch"
    upscaler = Upscaler(network(tier), device=Device(device, dtype, "benchmark"), backend=backend)
    sink = Sink(spec.scaled(SCALE))
    report = run(MemoryReader(frames, spec), upscaler, sink)  # type: ignore[arg-type]
    fps = round(1 / sink.steady_s(), 1)
    return {"frames": count, "fps": fps, "limited_by": report.limited_by, "stages": report.stages}


@torch.inference_mode()
def kernel_line(tier: str, size: tuple[int, int], device: torch.device) -> dict[str, Any]:
    """Say which kernels the time of an eager step in bf16 goes to."""
    from torch.profiler import ProfilerActivity, profile

    model = network(tier)
    frames = pan(size, model.facts.multiple_of, 4, device)
    padded = frames[0].shape[2], frames[0].shape[3]
    runner = Runner(model, Case(tier, "", "bf16", "eager"), padded, device)
    outputs(runner, frames)
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as seen:
        outputs(runner, frames)
    spent = {e.key[:90]: e.self_device_time_total if on_gpu else e.self_cpu_time_total for e in seen.key_averages()}
    total = sum(spent.values()) or 1
    first = sorted(spent, key=lambda name: -spent[name])[:15]
    return {"share": {name: round(spent[name] / total, 3) for name in first}, "ms": round(total / 4000, 3)}


def main() -> None:
    """Measure until all is done or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--tiers", nargs="+", default=list(TIERS), choices=list(TIERS))
    parser.add_argument("--rehearse", action="store_true")
    chosen = parser.parse_args()
    device = torch.device("cpu" if chosen.rehearse else "cuda")
    sizes = {"tiny": (16, 24)} if chosen.rehearse else SIZES
    seconds, count = (0.0, 3) if chosen.rehearse else (2.0, 300)
    clock, lines, left_out = Clock(chosen.minutes), Lines(chosen.out, "speed"), []
    lines.write(what="machine", **machine(device))
    jobs: list[tuple[dict[str, Any], Callable[[], dict[str, Any]]]] = []
    for size in sizes.values():
        for tier in chosen.tiers:
            facts = {"what": "session", "tier": tier, "input": f"{size[1]}x{size[0]}"}
            jobs.append((facts, lambda t=tier, s=size: session_line(t, s, device, count)))  # type: ignore[misc]
    for case in cases(chosen.tiers, sizes):
        jobs.append(({"what": "step", **vars(case)}, lambda c=case: step_line(c, sizes, device, seconds)))  # type: ignore[misc]
    for tier in chosen.tiers:
        facts = {"what": "kernels", "tier": tier}
        jobs.append((facts, lambda t=tier: kernel_line(t, next(reversed(sizes.values())), device)))  # type: ignore[misc]
    for facts, work in jobs:
        if clock.left < 30 and not chosen.rehearse:
            left_out.append(facts)
            continue
        try:
            lines.write(**facts, **work())
        except Exception as error:
            lines.write(**facts, error=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    lines.write(what="left out", jobs=left_out)


if __name__ == "__main__":
    main()
