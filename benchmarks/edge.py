"""Size and speed of exported networks at edge settings: python benchmarks/edge.py [--model s] [--size 320x180]

Exports as ONNX (float32) and OpenVINO (float32 and int8), and times a step of each with four threads, in turns. One
JSON line a file, with the machine; on fewer than four cores the threads share them: compare the lines with each other.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from gtasr_video.device import choose
from gtasr_video.evaluation.speed.clock import Samples
from gtasr_video.evaluation.speed.machine import machine
from gtasr_video.models import load_model
from gtasr_video.models.flow import ALIGN
from gtasr_video.runtime.export import export

Step = Callable[[list[Any]], list[Any]]


def in_onnxruntime(file: Path, threads: int) -> Step:
    """Return a step of an ONNX file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options)
    names = [port.name for port in session.get_inputs()]
    return lambda values: list(session.run(None, dict(zip(names, values, strict=True))))


def in_openvino(file: Path, threads: int, inputs: list[Any]) -> Step:
    """Return a step of an OpenVINO file, compiled for the size of `inputs`."""
    import openvino as ov

    core = ov.Core()
    graph = core.read_model(file)
    graph.reshape({port: list(value.shape) for port, value in zip(graph.inputs, inputs, strict=True)})
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(graph, "CPU", settings).create_infer_request()

    def step(values: list[Any]) -> list[Any]:
        made = request.infer(values, share_inputs=True)
        return [made[k] for k in range(len(made))]

    return step


@click.command()
@click.option("--model", default="s", show_default=True)
@click.option("--scale", default=4, show_default=True)
@click.option("--size", default="320x180", show_default=True, help=f"Rounded down to multiples of {ALIGN}.")
@click.option("--threads", default=4, show_default=True)
@click.option("--rounds", default=12, show_default=True)
def main(model: str, scale: int, size: str, threads: int, rounds: int) -> None:
    """Measure."""
    width, height = (int(side) // ALIGN * ALIGN for side in size.split("x"))
    network: Any = load_model(model, scale=scale)
    first = [field.numpy() for field in network.initial(1, height, width)[:-1] if field.numel()]
    frames = np.random.default_rng(0).uniform(-1, 1, (rounds, 1, 3, height, width)).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = {
            "onnx": export(network, folder / "net.onnx", "onnx"),
            "openvino": export(network, folder / "net.xml", "openvino"),
            "openvino int8": export(network, folder / "int8.xml", "openvino", int8=True),
        }
        steps = {
            kind: in_onnxruntime(files[-1], threads)
            if kind == "onnx"
            else in_openvino(files[-1], threads, [frames[0], *first])
            for kind, files in made.items()
        }
        samples, states = {kind: Samples() for kind in steps}, dict.fromkeys(steps, first)
        for frame in frames:
            for kind, step in steps.items():
                _, *states[kind] = samples[kind].take(step, [frame, *states[kind]])
        described = machine(choose("cpu")) | {"threads": threads}
        for kind, files in made.items():
            megabytes = round(sum(file.stat().st_size for file in files) / 1e6, 2)
            facts = {"file": kind, "model": model, "scale": scale, "input": f"{width}x{height}", "megabytes": megabytes}
            speed = round(samples["onnx"].facts()["ms_p50"] / samples[kind].facts()["ms_p50"], 2)
            click.echo(json.dumps(facts | samples[kind].facts() | {"speed_over_onnx": speed, "machine": described}))


if __name__ == "__main__":
    main()
