"""Exported networks against the one they were made of, in ONNX Runtime, OpenVINO and torch, at a size of their own."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gtasr_video.errors import ModelChoiceError, OutputError, UsageError
from gtasr_video.models import camera, flow
from gtasr_video.models.bicubic import Bicubic
from gtasr_video.models.facts import State
from gtasr_video.models.gtasr import GTASRVideo
from gtasr_video.models.int8 import measure_limits, with_int8
from gtasr_video.runtime import export as module
from gtasr_video.runtime.backends.calibration import shots
from gtasr_video.runtime.backends.integers import with_integers
from gtasr_video.runtime.export import export
from tests.conftest import Outcome
from tests.models.networks import scene, tiny

# Making a program for any size takes most of a minute of one core.
pytestmark = pytest.mark.timeout(600)

HEIGHT, WIDTH = 96, 160  # not those that programs are made from
DOCS = Path(__file__).parents[2] / "docs" / "export.md"
# Takes (x, detail, features, frame, age) and gives (y, next ...).
Run = Callable[..., list[Any]]


@pytest.fixture(scope="module", autouse=True)
def short_search() -> Iterator[None]:
    """Go through every kind of step of the search for motion once, not many times: tracing takes as long as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "ROUNDS", 1)
        patch.setattr(camera, "_DOUBTS", camera._DOUBTS[-1:])
        yield


@pytest.fixture(scope="module")
def network() -> GTASRVideo:
    return tiny().fold()


@pytest.fixture(scope="module")
def files(network: GTASRVideo, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Export once, as tracing for any size takes long, and write that in each format."""
    folder = tmp_path_factory.mktemp("export")
    program = module.exported(network)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "exported", lambda model: program)
        (onnx,) = export(network, folder / "net.onnx", "onnx")
        (pt2,) = export(network, folder / "net.pt2", "pt2")
    limits = measure_limits(network, shots()[:2])
    shutil.copy(onnx, folder / "int8.onnx")
    module._save_openvino(folder / "int8.onnx", lambda graph: with_integers(graph, network, limits))
    module._save_openvino(onnx, lambda graph: None)
    return {"onnx": onnx, "pt2": pt2, "openvino": folder / "net.xml", "int8": folder / "int8.xml"}


def runner(kind: str, file: Path) -> Run:
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file)
        names = [port.name for port in session.get_inputs()]
        return lambda *values: session.run(None, dict(zip(names, values, strict=True)))
    if kind == "pt2":
        program = torch.export.load(file).module()
        return lambda *values: [t.numpy() for t in program(*map(torch.from_numpy, values))]
    import openvino

    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda *values: [compiled(values)[port].copy() for port in compiled.outputs]


def played(run: Run, network: GTASRVideo, clip: Tensor) -> list[np.ndarray]:
    state = [field.numpy() for field in network.initial(1, HEIGHT, WIDTH)[:-1] if field.numel()]
    large = []
    for frame in clip:
        y, *state = run(frame[None].numpy(), *state)
        large.append(y)
    return large


def expected(network: Any, clip: Tensor) -> list[np.ndarray]:
    state: State = network.initial(1, HEIGHT, WIDTH)
    large = []
    for frame in clip:
        y, state = network.step(frame[None], state)
        large.append(y.numpy())
    return large


@pytest.mark.parametrize("kind", ["onnx", "openvino", "pt2"])
def test_every_format_gives_what_the_network_gives(kind: str, files: dict[str, Path], network: GTASRVideo) -> None:
    clip = scene(3, HEIGHT, WIDTH, shift=2)[0]
    for ours, wanted in zip(played(runner(kind, files[kind]), network, clip), expected(network, clip), strict=True):
        assert np.abs(ours - wanted).max() < 1e-4


def test_int8_is_the_network_with_rounded_convolutions(files: dict[str, Path], network: GTASRVideo) -> None:
    clip = scene(2, HEIGHT, WIDTH, shift=2)[0]
    rounded = with_int8(network, measure_limits(network, shots()[:2]))
    ours = played(runner("openvino", files["int8"]), network, clip)
    assert max(np.abs(a - b).max() for a, b in zip(ours, expected(rounded, clip), strict=True)) < 0.03
    assert np.abs(ours[1] - expected(network, clip)[1]).max() > 1e-4


def test_the_example_in_the_docs_runs(
    files: dict[str, Path], network: GTASRVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(files["onnx"], tmp_path / "s.onnx")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, "export.md", "exec"), names)
    bytes_ = ((scene(2, HEIGHT, WIDTH)[0] + 1) * 127.5).round().to(torch.uint8)
    large = list(names["upscale"](frame.permute(1, 2, 0).numpy() for frame in bytes_))
    wanted = expected(network, bytes_.float() / 127.5 - 1)
    for ours, y in zip(large, wanted, strict=True):
        assert ours.shape == (4 * HEIGHT, 4 * WIDTH, 3)
        assert np.abs(ours - ((y[0].transpose(1, 2, 0) + 1) * 127.5).clip(0, 255)).max() <= 0.51


def test_a_target_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, network: GTASRVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "exported", lambda model: pytest.fail("the work has begun"))
    target = tmp_path / f"{'n' * 248}.pt2"  # it has a name, but its .part would not
    with pytest.raises(OutputError, match=r"cannot be written \(File name too long\)"):
        export(network, target, "pt2")


def test_what_cannot_be_exported_is_refused(tmp_path: Path, network: GTASRVideo) -> None:
    with pytest.raises(ModelChoiceError, match="bicubic cannot be exported"):
        export(Bicubic(2), tmp_path / "b.onnx", "onnx")
    with pytest.raises(UsageError, match=r"ends in \.pt2"):
        export(network, tmp_path / "b.onnx", "pt2")
    with pytest.raises(UsageError, match="8-bit convolutions are for the format openvino"):
        export(network, tmp_path / "b.onnx", "onnx", int8=True)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_is_wrong(tmp_path: Path, cli: Callable[..., Outcome]) -> None:
    (tmp_path / "there.onnx").write_text("mine", encoding="utf-8")
    for name, said in {"net.tflite": "names no format", "there.onnx": "exists", "no/net.onnx": "no folder"}.items():
        outcome = cli("export", tmp_path / name)
        assert outcome.code in (1, 2)
        assert said in outcome.err
    assert (tmp_path / "there.onnx").read_text(encoding="utf-8") == "mine"
    (tmp_path / "other.bin").write_text("mine", encoding="utf-8")  # which goes with other.xml, or with other.param
    outcome = cli("export", tmp_path / "other.xml")
    assert (outcome.code, outcome.err.count("other.bin exists")) == (1, 1)
    assert (tmp_path / "other.bin").read_text(encoding="utf-8") == "mine"
