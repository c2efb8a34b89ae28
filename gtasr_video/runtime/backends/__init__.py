"""Who does the arithmetic of a frame: one seam, from the planes of a small frame to those of the large one.

    torch           any device and every network; in parts, and again in float32, where that is asked for
    cuda-graph      the same on CUDA, the whole of a frame recorded as one graph and replayed
    openvino        CPU, float32: OpenVINO (extra ``cpu``)
    openvino-int8   CPU, convolutions in 8 bits: the fastest on every CPU it was measured on

The whole frame belongs to a backend, not the network alone: on a CPU the colours, the enlargement, the motion and the
way of every pixel to its place cost as much as the convolutions. All backends run the one function `frame.enlarge`;
OpenVINO runs what it is traced to. The state stays outside, as everywhere.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import nn

from gtasr_video.device import Device
from gtasr_video.errors import DeviceError
from gtasr_video.frames import VideoSpec
from gtasr_video.models.facts import State, VideoModel
from gtasr_video.models.gtasr import GTASRVideo
from gtasr_video.runtime.backends.frame import Enlarged, Planes, enlarge
from gtasr_video.runtime.backends.graphed import Capture, Graphed

log = logging.getLogger("gtasr_video")

# OpenVINO reports to its makers, over the network, that it was imported. It does not where the package for that is
# missing: this keeps it from being found by whatever imports OpenVINO here first.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

Name = Literal["auto", "torch", "cuda-graph", "openvino", "openvino-int8"]


class Backend(Protocol):
    """One way to enlarge the frames of one stream, whose look it was opened for."""

    @property
    def name(self) -> str:
        """Its name for reports."""

    def step(self, planes: Planes, state: State) -> Enlarged:
        """Enlarge one frame; see `frame.enlarge`. A state given stays valid for two more steps."""


@dataclass(frozen=True, slots=True)
class TorchBackend:
    """Torch's operators, on whatever device the model is on."""

    model: VideoModel
    source: VideoSpec
    output: VideoSpec
    seed: int = 0
    in_bands: bool = False
    name: str = "torch"

    @torch.inference_mode()
    def step(self, planes: Planes, state: State) -> Enlarged:
        """Enlarge one frame; states are never overwritten."""
        return enlarge(self.model, planes, state, self.source, self.output, self.seed, in_bands=self.in_bands)


class GraphBackend:
    """The work of a `TorchBackend`, recorded by `capture` and replayed."""

    name = "cuda-graph"

    def __init__(self, plain: TorchBackend, capture: Capture) -> None:
        self._graphed = Graphed(plain.step, capture)

    @torch.inference_mode()
    def step(self, planes: Planes, state: State) -> Enlarged:
        """Enlarge one frame; states are never overwritten."""
        result: Enlarged = self._graphed(planes, state)
        return result


def backend_for(name: Name, model: VideoModel, device: Device) -> tuple[Name, Device]:
    """Return the backend that `name` stands for here, and the device with the type that it computes in.

    ``auto`` is ``cuda-graph`` on CUDA, ``openvino-int8`` on a CPU where OpenVINO is installed, else ``torch``; networks
    that are not of this family run in torch. Raises DeviceError if a backend asked for by name cannot be had.
    """
    if name == "torch":
        return name, device
    on_cuda = device.torch_device.type == "cuda"
    if name == "cuda-graph" and not on_cuda:
        raise DeviceError(f"backend cuda-graph needs a CUDA GPU, the device is {device.name}; use --set backend=torch")
    if on_cuda and name in ("auto", "cuda-graph"):
        return ("cuda-graph" if _is_ours(model) else "torch"), device
    reason = _unsuitable(model, device)
    if reason is None:
        wanted: Name = "openvino" if name == "openvino" else "openvino-int8"
        return wanted, Device(device.torch_device, torch.float32, device.reason)
    if name == "auto":
        return "torch", device
    raise DeviceError(f"backend {name} cannot be used: {reason}; use --set backend=torch")


def open_backend(
    name: Name, model: VideoModel, source: VideoSpec, output: VideoSpec, seed: int = 0, *, in_bands: bool = False
) -> Backend:
    """Return the backend `name`, as `backend_for` returned it, for frames like `source` made into such as `output`.

    Where a network turns out not to be convertible torch does its work, and the log says why. `in_bands` says that
    memory is short, which only torch heeds.
    """
    plain = TorchBackend(model, source, output, seed, in_bands)
    if name == "torch":
        return plain
    if name == "cuda-graph":
        from gtasr_video.runtime.lanes.graph import cuda_capture

        return GraphBackend(plain, cuda_capture)
    from gtasr_video.runtime.backends.conversion import ConversionError
    from gtasr_video.runtime.backends.openvino import open_openvino

    try:
        return open_openvino(plain, int8=name == "openvino-int8")
    except ConversionError as error:
        log.warning("%s cannot be used for %s: %s; torch is used", name, model.facts.name, error)
        return plain


def _unsuitable(model: VideoModel, device: Device) -> str | None:
    """Return why `model` on `device` cannot run in OpenVINO, or None."""
    if device.torch_device.type != "cpu":
        return f"OpenVINO is for CPUs, the device is {device.name}"
    if not _is_ours(model):
        return f"there is nothing in {model.facts.name} to make faster"
    if importlib.util.find_spec("openvino") is None:
        return "OpenVINO is not installed; pip install 'gtasr-video[cpu]'"
    return None


def _is_ours(model: VideoModel) -> bool:
    return isinstance(model, nn.Module) and any(isinstance(module, GTASRVideo) for module in model.modules())
