"""The jobs for a machine with a GPU run as a whole, tiny and on the CPU, where PyAV and its like cannot be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode

from gtasr_video.models import read_card
from gtasr_video.models.gtasr import TIERS, GTASRVideo
from gtasr_video.models.vgg import _shapes
from gtasr_video.training.pack import pack
from tests.training.material import panning, save_picture, save_video, texture

# They start Python anew, and that takes its time on a busy machine.
pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).resolve().parents[1]
BLOCKED = ("av", "decord", "torchaudio", "ffmpeg", "imageio_ffmpeg", "rich", "click", "ncnn", "scipy")
RUNNER = """
import runpy, sys
sys.modules.update(dict.fromkeys({blocked}))
import torch
torch.set_num_threads(1)
sys.path.insert(0, {folder!r})
for sys.argv in {jobs}:
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def carry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as prepare.py makes it: a pack, and random weights in the shape of VGG16's first three blocks."""
    root = tmp_path_factory.mktemp("carry")
    for n in range(2):
        save_picture(root / f"data/{n}.png", texture(128, 128, n))
    save_video(root / "data/a.mp4", panning(12, 96, 128), crf="10")
    pack([root / "data"], root / "pack", 2**20)
    draw = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=draw) / 30 for name, shape in _shapes(3)}
    save_file({name: value.half() for name, value in weights.items()}, root / "vgg.safetensors")
    return root


def rehearse(folder: Path, *jobs: tuple[object, ...]) -> None:
    """Run jobs, each a name and its arguments, one after the other in one process that has `folder` as its own."""
    place = ROOT / "benchmarks" / "gpu"
    commands = [[str(place / f"{name}.py"), "--rehearse", *map(str, rest)] for name, *rest in jobs]
    code = RUNNER.format(blocked=BLOCKED, folder=str(place), jobs=commands)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_check_finds_all_in_order(carry: Path, tmp_path: Path) -> None:
    rehearse(tmp_path, ("check", "--out", "out", "--pack", carry / "pack"))
    found = {line["check"]: line for line in lines(tmp_path / "out" / "check.jsonl")}
    assert found["packages"]["found"]["beside"] == []
    assert "2 pictures and 1 videos" in found["pack"]["found"]["summary"]
    assert " tests collected" in found["tests"]["found"]


def test_every_way_to_run_a_step_is_measured(tmp_path: Path) -> None:
    rehearse(tmp_path, ("speed", "--out", "out", "--tiers", "s"))
    found = lines(tmp_path / "out" / "speed.jsonl")
    assert [line["error"] for line in found if "error" in line] == []
    measured = [line for line in found if line["what"] == "step"]
    assert {line["way"] for line in measured} == {"eager", "graph", "compile", "compile+graph"}
    assert all(line["ms"] > 0 and line["gap_max"] < 2 for line in measured)
    assert [line["gap_max"] for line in measured if line["dtype"] == "fp32"] == [0.0]
    assert {line["what"] for line in found} == {"machine", "session", "step", "kernels", "left out"}


def test_the_engine_is_measured_against_its_targets_and_kernels_against_torch(tmp_path: Path) -> None:
    rehearse(tmp_path, ("engine", "--out", "out", "--tiers", "s"), ("kernels", "--out", "out"))
    engine = lines(tmp_path / "out" / "engine.jsonl")
    kernels = [line for line in lines(tmp_path / "out" / "kernels.jsonl") if line["what"] == "kernel"]
    assert [line["error"] for line in (*engine, *kernels) if "error" in line] == []
    (measured,) = [line for line in engine if line["what"] == "engine"]
    (alike,) = [line for line in engine if line["what"] == "parity"]
    assert alike["graph_db"] >= 50 and alike["compile_db"] >= 50 and measured["backend"] == "torch"
    assert all(measured[name] > 0 for name in ("model_ms", "frame_ms", "session_ms", "end_to_end", "arithmetic"))
    assert {line["kernel"] for line in kernels} == {
        *("picture_from_planes", "planes_from_cells", "keyed_gaussian", "transport_noise"),
        *("patch_equations", "patch_difference", "solved", "fit_affine"),
    }
    assert all(line["gap_max"] <= 1 for line in kernels)


def test_each_round_goes_on_from_the_weights_of_the_one_before(carry: Path, tmp_path: Path) -> None:
    common = ("--tier", "s", "--carry", carry, "--set", "seed=3")
    taught = ("--set", "teacher=m", "--set", "phases.0.weights.distillation=1")
    judged = ("--set", "phases.1.weights.adversarial=0.01")
    rehearse(
        tmp_path,
        ("train", "--round", "pictures", "--out", "one", *common),
        ("train", "--round", "clips", "--out", "two", "--init", "one/s.safetensors", *common, *taught, *judged),
        ("train", "--round", "structure", "--out", "three", "--init", "two/s.safetensors", *common),
    )
    facts = [json.loads((tmp_path / name / "round.json").read_text()) for name in ("one", "two", "three")]
    for one in facts:
        assert one["files"] == ["s.safetensors"] and one["seen"] == 4 * one["steps"]
        assert one["settings"]["seed"] == 3 and one["after"] != one["before"]
    assert read_card(tmp_path / "three" / "s.safetensors").architecture == TIERS["s"]
    # The clips that judge are those of frames, region and seed; rounds two and three have them in common.
    gain = [f[when]["validation/psnr_gain"] for f, when in ((facts[1], "after"), (facts[2], "before"))]
    assert gain[0] == pytest.approx(gain[1], abs=2e-3), "fp16 is all that lies between them"
    found = lines(tmp_path / "two" / "metrics.jsonl")
    assert [(line["phase"], "loss/distil" in line) for line in found] == [(0, True), (1, False), (2, False)]
    assert ["loss/adversarial" in line for line in found] == [False, True, False]


def test_weights_too_large_for_one_file_are_put_together_again(tmp_path: Path) -> None:
    for number, part in enumerate((b"one", b"two")):
        (tmp_path / f"l.safetensors.{number}").write_bytes(part)
    code = "import pathlib, train; print(train.whole(pathlib.Path('l.safetensors'), pathlib.Path('.')).read_bytes())"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks' / 'gpu'}"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "b'onetwo'\n", done.stderr


class NoCopies(TorchFunctionMode):
    """Refuses what copies from the host or waits for the device: neither may happen in a captured graph."""

    REFUSED = (torch.tensor, torch.as_tensor, torch.from_numpy, torch.Tensor.new_tensor, torch.Tensor.item)
    REFUSED += (torch.Tensor.tolist, torch.Tensor.__bool__, torch.Tensor.nonzero, torch.Tensor.cpu)

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in self.REFUSED, f"{func.__name__} within a step"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("folded", [True, False], ids=["folded", "as trained"])
@pytest.mark.parametrize("noise_scale", [0.0, 0.1])
def test_a_step_can_be_captured_as_a_graph(noise_scale: float, folded: bool) -> None:
    model = GTASRVideo(TIERS["s"], (4,), noise_scale).eval()
    model = model.fold() if folded else model
    x, state = torch.rand(1, 3, 16, 16), model.initial(1, 16, 16)
    with torch.inference_mode(), NoCopies():
        for _ in range(2):
            _, state = model.step(x, state)
