"""A network as a file that runs without this package: one step with explicit state, any height and width.

    onnx       ONNX, opset 20: ONNX Runtime, OpenVINO, TensorRT and others
    openvino   OpenVINO's IR, .xml and .bin, made from the ONNX; its convolutions in 8 bits where asked for
    pt2        torch.export: torch.export.load(FILE).module()

Inputs are x (1, 3, H, W), RGB in [-1, 1], and the state: detail, features, frame and age, with noise and drift where
the network has noise; all zero before the first frame and after a cut. Outputs are y (1, 3, s H, s W), not limited to
[-1, 1], and next_detail, ...: the state to give with the next frame. H and W are multiples of 32, and 64 at least.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gtasr_video.errors import ModelChoiceError, ModelError, OutputError, UsageError
from gtasr_video.models.facts import State, VideoModel
from gtasr_video.models.flow import ALIGN
from gtasr_video.models.gtasr import GTASRVideo
from gtasr_video.models.int8 import measure_limits
from gtasr_video.runtime.backends.calibration import shots
from gtasr_video.runtime.backends.conversion import flatten, unflatten

Format = Literal["onnx", "openvino", "pt2"]
SUFFIXES: Mapping[str, str] = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}
_OPSET = 20


def beside(target: Path, kind: Format) -> list[Path]:
    """Return the files that are written beside `target` in the format `kind`."""
    return [target.with_suffix(".bin")] if kind == "openvino" else []


class StepProgram(nn.Module):
    """`VideoModel.step` between plain tensors: (x, state...) -> (y, state...)."""

    def __init__(self, model: VideoModel, template: State) -> None:
        super().__init__()
        self.model: Any = model
        self.template = template

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Run one step."""
        # What is empty has a size all the same, and must have that of this frame.
        empty = x.new_zeros(1, 0, x.shape[-2], x.shape[-1])
        template = (
            self.template._replace(noise=empty, drift=empty) if not self.template.noise.numel() else self.template
        )
        y, following = self.model.step(x, unflatten(state, template))
        return y, *flatten(following)


def export(model: VideoModel, target: Path, kind: Format, *, int8: bool = False) -> list[Path]:
    """Write `model` to `target` in the format `kind`; returns the files made, none of which is ever half written.

    int8  convolutions in 8 bits; only in the format ``openvino``
    Raises UsageError for what does not go together, ModelChoiceError for networks that are made of several, ModelError
    for those that cannot be exported, OutputError where the file cannot be written (before any work, if it is known).
    """
    if target.suffix != SUFFIXES[kind]:
        raise UsageError(f"{target}: a file of format {kind} ends in {SUFFIXES[kind]}")
    if int8 and kind != "openvino":
        raise UsageError(f"8-bit convolutions are for the format openvino, not {kind}; leave out --int8")
    if not isinstance(model, GTASRVideo):
        raise ModelChoiceError(
            f"{model.facts.name} cannot be exported; a single network such as s can, at scales 1 to 4"
        )
    _need(kind)
    for file in (target, *beside(target, kind)):
        with _writing(file) as part:  # learned now, not after the minutes that tracing takes
            part.touch()
            part.unlink()
    model = model.float().cpu()
    limits = measure_limits(model, shots()) if int8 else {}
    with tempfile.TemporaryDirectory(prefix="gtasr-video-export-") as name:
        made = _written(model, Path(name), target.stem, kind, limits)
        return _moved(made, target.parent)


def _need(kind: Format) -> None:
    wanted = {"onnx": ("onnx", "onnxscript"), "openvino": ("onnx", "onnxscript", "openvino"), "pt2": ()}[kind]
    if missing := [name for name in wanted if importlib.util.find_spec(name) is None]:
        raise ModelError(f"the format {kind} needs {' and '.join(missing)}; pip install 'gtasr-video[export]'")


def _written(model: GTASRVideo, folder: Path, stem: str, kind: Format, limits: Mapping[str, float]) -> list[Path]:
    program, names = exported(model)
    if kind == "pt2":
        with _quiet():
            torch.export.save(program, folder / f"{stem}.pt2", extra_files={"facts.json": _facts(model)})
        return [folder / f"{stem}.pt2"]
    onnx = folder / f"{stem}.onnx"
    _save_onnx(program, names, onnx, model)
    if kind == "onnx":
        return [onnx]
    from gtasr_video.runtime.backends.integers import with_integers

    return _save_openvino(onnx, lambda graph: with_integers(graph, model, limits))


def _facts(model: GTASRVideo) -> str:
    facts = model.facts
    return f'{{"name": "{facts.name}", "scale": {facts.scale}, "multiple_of": {ALIGN}}}'


@torch.no_grad()
def exported(model: GTASRVideo) -> tuple[torch.export.ExportedProgram, list[str]]:
    """Return the step of `model` as a program for any size, and the names of its state. Raises ModelError."""
    # Two blocks a side and one more across: sizes that must not be taken for constants or for each other.
    height, width = 2 * ALIGN, 3 * ALIGN
    template = model.initial(1, height, width)
    names = [name for name in State._fields[:-1] if getattr(template, name).numel()]
    rows, columns = (torch.export.Dim(name, min=2, max=1024) for name in ("block_rows", "block_columns"))

    def sizes(tensor: Tensor) -> dict[int, Any]:
        if tensor.dim() < 4:
            return {}
        per_block = ALIGN * tensor.shape[-2] // height
        return {2: per_block * rows, 3: per_block * columns}

    inputs = (torch.zeros(1, 3, height, width), *flatten(template))
    shapes = (sizes(inputs[0]), tuple(sizes(tensor) for tensor in inputs[1:]))
    step = StepProgram(model, template)
    step(*inputs)  # what is computed once and kept must not be computed while tracing
    try:
        with _quiet():
            program = torch.export.export(step, inputs, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # torch has no class of its own for what it cannot export
        raise ModelError(f"{model.facts.name} cannot be exported ({' '.join(str(error).split())[:200]})") from error
    return program, names


def _save_onnx(program: torch.export.ExportedProgram, names: list[str], path: Path, model: GTASRVideo) -> None:
    import onnx

    with _quiet():
        made = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=_OPSET,
            input_names=["x", *names],
            output_names=["y", *(f"next_{name}" for name in names)],
        )
        assert made is not None
        made.save(path)
    graph = onnx.load(path)
    onnx.helper.set_model_props(graph, {"gtasr_video": _facts(model)})
    onnx.checker.check_model(graph)
    onnx.save(graph, path)


def _save_openvino(onnx: Path, change: Any) -> list[Path]:
    import openvino as ov

    graph = ov.Core().read_model(onnx)
    change(graph)
    ov.save_model(graph, onnx.with_suffix(".xml"), compress_to_fp16=False)
    return [onnx.with_suffix(".bin"), onnx.with_suffix(".xml")]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporters say to themselves: it is not for users."""
    loud = [logging.getLogger(name) for name in ("torch.onnx", "torch._export", "onnxscript", "onnx_ir")]
    levels = [log.level for log in loud]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            for log in loud:
                log.setLevel(logging.ERROR)
            yield
        finally:
            for log, level in zip(loud, levels, strict=True):
                log.setLevel(level)


def _moved(files: list[Path], folder: Path) -> list[Path]:
    """Put whole files into `folder`, each by one rename."""
    made = []
    for file in files:
        target = folder / file.name
        with _writing(target) as part:
            part.write_bytes(file.read_bytes())
            part.replace(target)
        made.append(target)
    return made


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[Path]:
    """Give the name that `target` is written under until it is whole. Raises OutputError where it cannot be."""
    part = target.with_name(f"{target.name}.part")
    try:
        yield part
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise OutputError(f"{target}: cannot be written ({error.strerror or error})") from error
