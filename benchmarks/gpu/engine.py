"""Job 3: the engine against its targets: what a session loses against its network, and what that makes of the GPU.

python benchmarks/gpu/engine.py --out DIR [--minutes 6] [--tiers m l s] [--rehearse]

Writes engine.jsonl, each line as soon as it is measured. A line ``what: engine`` has, of one tier at one size and in
one run on one machine:

    model_ms           the network alone, as one CUDA graph, state and motion included
    frame_ms           from planes to planes on the GPU, as one CUDA graph
    session_ms         from host memory to host memory through the lane, frames thrown away; a frame after the first 50
    start_ms           until the first of those frames came out
    end_to_end         model_ms / session_ms             (target: 0.95)
    glue               frame_ms / model_ms - 1           (target: below 0.10)
    fps, output_mpx_per_s   of the session
    arithmetic         the network's multiply-adds over the bf16 matrix rate measured here (target: 0.25)
    peak_gib           GPU memory of the session         (target for 2160p: 4)

and, once all of these are there, as torch.compile takes minutes, a line ``what: parity``:

    graph_db, compile_db    how alike graph and torch.compile are to operators one by one (target: 50)
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from lines import Clock, Lines, machine, wait
from speed import COMPARED, SCALE, SIZES, Sink, network, pan

from gtasr_video.device import Device
from gtasr_video.frames import ColorSpec, Frame, PixelLayout, VideoSpec
from gtasr_video.media.memory import MemoryReader
from gtasr_video.models.budget import macs_per_pixel
from gtasr_video.models.gtasr import TIERS, GTASRVideo
from gtasr_video.ops.color import rgb_to_yuv
from gtasr_video.runtime.backends import TorchBackend
from gtasr_video.runtime.backends.graphed import Graphed
from gtasr_video.runtime.session import run
from gtasr_video.runtime.upscaler import Upscaler

LAYOUT = PixelLayout("yuv420p")


def capture(device: torch.device) -> Callable[[Callable[[], Any]], tuple[Callable[[], None], Any]]:
    """Return what records work; a rehearsal on a CPU runs it again instead."""
    if device.type == "cuda":
        from gtasr_video.runtime.lanes.graph import cuda_capture

        return cuda_capture

    def again(work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        def replay() -> None:
            work()

        return replay, work()

    return again


def matrix_rate(device: torch.device, side: int, seconds: float) -> float:
    """Return the multiply-adds a second of bf16 matrices of `side` x `side`, the best of five rounds."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return side**3 / per_call(lambda: torch.mm(a, b), device, seconds)


def per_call(work: Callable[[], Any], device: torch.device, seconds: float) -> float:
    """Return the seconds a call takes when many are queued, the best of five rounds; one call where `seconds` is 0."""
    rounds, least = (5, 8) if seconds else (1, 1)
    for _ in range(rounds):
        work()
    best = float("inf")
    for _ in range(rounds):
        wait(device)
        begun, count = time.perf_counter(), 0
        while count < least or time.perf_counter() - begun < seconds / 5:
            work()
            count += 1
            if count % 16 == 0:
                wait(device)
        wait(device)
        best = min(best, (time.perf_counter() - begun) / count)
    return best


class Stream:
    """A work of planes (or pictures) and state, called on the frames of a pan one after the other."""

    def __init__(self, work: Callable[[Any, Any], Any], state: Any, given: list[Any]) -> None:
        self._work, self._state, self._given, self._next = work, state, given, 0

    def __call__(self) -> Any:
        """Make the next frame."""
        result = self._work(self._given[self._next % len(self._given)], self._state)
        self._state, self._next = result.state, self._next + 1
        return result


def decibels(one: list[Any], other: list[Any]) -> float:
    """Return the lowest ratio in dB between the planes of two runs."""
    gaps = [
        (p.double() - q.double()).square().mean()
        for a, b in zip(one, other, strict=True)
        for p, q in zip(a, b, strict=True)
    ]
    return round(float(10 * torch.log10(255**2 / torch.stack(gaps).max().clamp(min=1e-6))), 1)


class Case:
    """One tier on frames of one size."""

    def __init__(self, tier: str, size: tuple[int, int], device: torch.device, dtype: torch.dtype) -> None:
        self.tier, self.size, self.device, self.dtype = tier, size, device, dtype
        self.spec = VideoSpec(size[1], size[0], Fraction(1, 25), LAYOUT, ColorSpec("bt709"), frame_rate=Fraction(25))
        self.model: GTASRVideo = network(tier).to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.pictures = pan(size, self.model.facts.multiple_of, 8, device)
        self.planes = [
            rgb_to_yuv((x[..., : size[0], : size[1]] + 1) / 2, LAYOUT, self.spec.color) for x in self.pictures
        ]

    def stream(self, work: Callable[[Any, Any], Any], given: list[Any]) -> Stream:
        """Return `work` as a stream from a new state."""
        return Stream(work, self.model.initial(1, *self.pictures[0].shape[2:]), given)

    def in_cells(self, x: Any, state: Any) -> Any:
        """Run the network alone, in the form of a work."""
        from gtasr_video.runtime.backends.frame import Enlarged

        prediction, following = self.model.step_in_cells(x, state)
        return Enlarged((prediction.residual,), x.new_ones((), dtype=torch.bool), following)

    def session(self, count: int) -> tuple[float, dict[str, Any]]:
        """Return (seconds a frame, where the time went) of a whole session."""
        host = [tuple(p.cpu() for p in planes) for planes in self.planes]
        frames = (Frame(host[k % len(host)], k, 1, k == 0) for k in range(count))
        backend = "cuda-graph" if self.device.type == "cuda" else "torch"
        upscaler = Upscaler(self.model, device=Device(self.device, self.dtype, "benchmark"), backend=backend)
        sink = Sink(self.spec.scaled(SCALE))
        begun = time.perf_counter()
        report = run(MemoryReader(frames, self.spec), upscaler, sink)  # type: ignore[arg-type]
        start_ms = round((sink.times[0] - begun) * 1000, 1)
        return sink.steady_s(), {"backend": report.backend, "limited_by": report.limited_by, "start_ms": start_ms}


@torch.inference_mode()
def engine_line(case: Case, rate: float, seconds: float, count: int) -> dict[str, Any]:
    """Measure one case."""
    device, backend = case.device, TorchBackend(case.model, case.spec, case.spec.scaled(SCALE))
    model_s = per_call(case.stream(Graphed(case.in_cells, capture(device)), case.pictures), device, seconds)
    frame_s = per_call(case.stream(Graphed(backend.step, capture(device)), case.planes), device, seconds)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    session_s, facts = case.session(count)
    pixels = case.size[0] * case.size[1]
    macs = pixels * macs_per_pixel(TIERS[case.tier], SCALE)
    return facts | {
        "model_ms": round(model_s * 1000, 3),
        "frame_ms": round(frame_s * 1000, 3),
        "session_ms": round(session_s * 1000, 3),
        "end_to_end": round(model_s / session_s, 3),
        "glue": round(frame_s / model_s - 1, 3),
        "fps": round(1 / session_s, 1),
        "output_mpx_per_s": round(pixels * SCALE**2 / session_s / 1e6, 1),
        "arithmetic": round(macs / model_s / rate, 3),
        # What a graph works in is reserved, and counted as allocated only while it is recorded.
        "peak_gib": round(torch.cuda.max_memory_reserved(device) / 2**30, 2) if device.type == "cuda" else None,
    }


@torch.inference_mode()
def parity_line(case: Case) -> dict[str, Any]:
    """Compare a graph, and torch.compile, with operators one by one, over the frames after the first.

    Later states are laid out otherwise than the first, for which alone it would be compiled once more.
    """
    backend = TorchBackend(case.model, case.spec, case.spec.scaled(SCALE))
    translated = "inductor" if case.device.type == "cuda" else "eager"
    ways = {
        "plain": backend.step,
        "graph_db": Graphed(backend.step, capture(case.device)) if case.device.type == "cuda" else backend.step,
        "compile_db": torch.compile(backend.step, dynamic=False, backend=translated),
    }
    state = case.stream(backend.step, case.planes)().state
    made = {}
    for name, work in ways.items():
        stream = Stream(work, state, case.planes[1:])
        made[name] = [stream().planes for _ in range(COMPARED)]
    return {name: decibels(made[name], made["plain"]) for name in ("graph_db", "compile_db")}


def main() -> None:
    """Measure until all is done or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--tiers", nargs="+", default=["m", "l", "s"], choices=list(TIERS))
    parser.add_argument("--rehearse", action="store_true")
    chosen = parser.parse_args()
    device = torch.device("cpu" if chosen.rehearse else "cuda")
    sizes = {"tiny": (16, 24)} if chosen.rehearse else SIZES
    seconds, count, dtype = (0.0, 6, torch.float32) if chosen.rehearse else (2.0, 400, torch.bfloat16)
    clock, lines = Clock(chosen.minutes), Lines(chosen.out, "engine")
    rate = matrix_rate(device, 64 if chosen.rehearse else 8192, seconds)
    lines.write(what="machine", bf16_tera_macs_per_s=round(rate / 1e12, 3), **machine(device))
    measured = {"engine": lambda case: engine_line(case, rate, seconds, count), "parity": parity_line}
    least = {"engine": 30, "parity": 120}
    left_out = []
    for what, measure in measured.items():
        for name, size in reversed(sizes.items()):
            for tier in chosen.tiers:
                facts = {"what": what, "tier": tier, "size": name, "input": f"{size[1]}x{size[0]}"}
                if clock.left < least[what] and not chosen.rehearse:
                    left_out.append(facts)
                    continue
                try:
                    lines.write(**facts, **measure(Case(tier, size, device, dtype)))
                except Exception as error:
                    lines.write(**facts, error=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    lines.write(what="left out", jobs=left_out)


if __name__ == "__main__":
    main()
