"""OpenVINO on a CPU: the whole frame as one compiled program, its convolutions in integers where asked for.

The network is traced and converted here, from the weights at hand: what is compiled always fits the weights, and no
second file can be wrong or old. Converting takes seconds, so the result is kept on disk (`cache`) for the next start.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import openvino as ov
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from openvino.passes import ConstantFolding, Manager
from torch import Tensor, nn

from gtasr_video.models.facts import State
from gtasr_video.models.int8 import measure_limits, with_int8
from gtasr_video.runtime.backends import TorchBackend, cache
from gtasr_video.runtime.backends.calibration import shots
from gtasr_video.runtime.backends.conversion import (
    ConversionError,
    FrameProgram,
    channels_first,
    channels_last,
    flatten,
    traced,
    unflatten,
)
from gtasr_video.runtime.backends.frame import Enlarged, Planes, padded_size

# Sets of state tensors: the one being written, the one being read, and the one before that, to make a frame again from.
_STATES = 3


class OpenVinoBackend:
    """A compiled step; see `Backend`."""

    def __init__(self, name: str, compiled: Any, template: State, planes: int) -> None:
        self.name = name
        self._request = compiled.create_infer_request()
        self._template, self._planes = template, planes
        outputs = compiled.outputs
        self._plane_facts = [
            (tuple(port.shape), _TORCH[port.element_type.get_type_name()]) for port in outputs[:planes]
        ]
        self._sound = torch.empty((), dtype=torch.bool)
        self._like = flatten(template)
        self._rings = [[torch.empty_like(held(field)) for field in self._like] for _ in range(_STATES)]
        self._turn = 0

    def step(self, planes: Planes, state: State) -> Enlarged:
        """Enlarge one frame. The planes are new memory; the state is one of three sets that take turns."""
        # OpenVINO gets addresses: whatever lies there must be held until it has run.
        given = [plane.contiguous() if plane.dtype is torch.uint8 else plane.to(torch.int32) for plane in planes]
        given += [held(field) for field in flatten(state)]
        following = self._rings[self._turn]
        self._turn = (self._turn + 1) % _STATES
        large = [torch.empty(shape, dtype=dtype) for shape, dtype in self._plane_facts]
        for index, tensor in enumerate(given):
            self._request.set_input_tensor(index, _shared(tensor))
        for index, tensor in enumerate([*large, self._sound, *following]):
            self._request.set_output_tensor(index, _shared(tensor))
        self._request.infer()
        made = tuple(plane if plane.dtype is torch.uint8 else plane.to(torch.uint16) for plane in large)
        fields = [channels_first(field, like) for field, like in zip(following, self._like, strict=True)]
        return Enlarged(made, self._sound.clone(), unflatten(fields, self._template))


def held(field: Tensor) -> Tensor:
    """Return a field of a state as the program takes it, in one piece; no copy where it came from there."""
    return channels_last(field).contiguous()


_TORCH = {"u8": torch.uint8, "i32": torch.int32}


def _shared(tensor: Tensor) -> ov.Tensor:
    """Return `tensor` for OpenVINO, without a copy."""
    return ov.Tensor(tensor.numpy(), shared_memory=True)


def open_openvino(plain: TorchBackend, *, int8: bool) -> OpenVinoBackend:
    """Return a backend that gives what `plain` does: to rounding in float32, nearly in int8. Raises ConversionError."""
    model: Any = plain.model
    name = "openvino-int8" if int8 else "openvino"
    template = model.initial(1, *padded_size(plain.source, model.facts.multiple_of))
    compiled = _compile(_program_file(plain, template, int8=int8), torch.get_num_threads())
    return OpenVinoBackend(name, compiled, template, plain.output.layout.planes)


@lru_cache(maxsize=2)
def _compile(file: Path, threads: int) -> Any:
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # Where the CPU has bf16 OpenVINO would use it for everything, and positions in a picture need more bits.
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,  # the decoder and the encoder want the same cores
    }
    return ov.Core().compile_model(file, "CPU", settings)


def _program_file(plain: TorchBackend, template: State, *, int8: bool) -> Path:
    model: Any = plain.model
    key = cache.key(model, plain.source, plain.output, plain.seed, int8, ov.__version__)

    def write(folder: Path) -> None:
        network = with_int8(model, measure_limits(model, shots())) if int8 else model
        ov.save_model(converted(network, plain, template), folder / "step.xml", compress_to_fp16=False)

    return cache.folder(key, write) / "step.xml"


def converted(network: nn.Module, plain: TorchBackend, template: State) -> ov.Model:
    """Return the step with `network` as a model of OpenVINO, for frames of the size of `plain`'s source."""
    program = FrameProgram(network, plain.source, plain.output, template, plain.seed)  # type: ignore[arg-type]
    layout = plain.source.layout
    sizes = [layout.plane_size(k, plain.source.width, plain.source.height) for k in range(layout.planes)]
    kind = torch.uint8 if layout.dtype is torch.uint8 else torch.int32
    inputs = [*(torch.zeros(size, dtype=kind) for size in sizes), *map(held, flatten(template))]
    return to_openvino(program, inputs)


def to_openvino(program: nn.Module, inputs: Sequence[Tensor]) -> ov.Model:
    """Convert a module called with `inputs`, whose shapes are fixed. Raises ConversionError."""
    decoder = TorchScriptPythonDecoder(traced(program, inputs))  # the model refers to it while it is converted
    frontend = FrontEndManager().load_by_framework("pytorch")
    try:
        model = frontend.convert(frontend.load(decoder))
        model.reshape({port: list(tensor.shape) for port, tensor in zip(model.inputs, inputs, strict=True)})
    except Exception as error:  # its exceptions have no class of their own in common
        raise ConversionError(f"OpenVINO cannot convert it ({' '.join(str(error).split())[:200]})") from error
    fold = Manager()
    fold.register_pass(ConstantFolding())
    fold.run_passes(model)
    return model
