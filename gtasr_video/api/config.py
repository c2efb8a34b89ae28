"""How to upscale, as one object with every default."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import torch

from gtasr_video.config import check_types, load_config
from gtasr_video.device import Device, choose
from gtasr_video.errors import ConfigError
from gtasr_video.media import Encoding
from gtasr_video.media.codecs import Goal
from gtasr_video.media.hardware import Door, Nvdec
from gtasr_video.media.streams.config import StreamConfig
from gtasr_video.models import VideoModel, load_model
from gtasr_video.runtime.live.config import LiveConfig
from gtasr_video.runtime.upscaler import Upscaler


@dataclass(frozen=True, slots=True)
class UpscaleConfig:
    """How to upscale, with every default; a file named with ``--config`` holds only differences.

    model    s, m, l, bicubic, or the path of a .safetensors file
    scale    2, 3, 4 or 8 times as wide and high, or 1 to restore without enlarging, as far as the model has it
    steps    how often each frame is read along the path of the method; 1 is what the networks are made for
    device   auto, cpu, cuda or cuda:N
    dtype    what the network computes in; auto is the fastest that keeps the picture on the device
    backend  auto, torch, cuda-graph, openvino or openvino-int8: who does the arithmetic; auto is the fastest there is
    seed     of the network's noise; the same input, seed, device and backend give the same bytes
    decoder  auto or software; auto takes that of the NVIDIA GPU the network runs on, where it opens
    codec, crf, preset, pix_fmt, goal   as in `Encoding`; None leaves it to the codec
    deinterlace    auto makes whole pictures of fields where the source has them; always, never
    bake_rotation  turn the picture itself, instead of telling players to
    stream   how pipes and addresses are read and written, as in `StreamConfig`
    live     how streams are kept up with, as in `LiveConfig`

    Example::

        >>> from gtasr_video import UpscaleConfig
        >>> UpscaleConfig(model="bicubic", crf=20).scale
        4
    """

    model: str = "s"
    scale: int = 4
    steps: int = 1
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    backend: Literal["auto", "torch", "cuda-graph", "openvino", "openvino-int8"] = "auto"
    seed: int = 0
    decoder: Literal["auto", "software"] = "auto"
    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    goal: Goal = "balanced"
    deinterlace: Literal["auto", "always", "never"] = "auto"
    bake_rotation: bool = False
    stream: StreamConfig = field(default_factory=StreamConfig)
    live: LiveConfig = field(default_factory=LiveConfig)

    def __post_init__(self) -> None:
        check_types(self)

    @staticmethod
    def load(name: str | os.PathLike[str] | None = None, overrides: Iterable[str] = ()) -> UpscaleConfig:
        """Return the defaults, changed by the configuration `name` (shipped, or a .toml file) and ``KEY=VALUE`` texts.

        Raises ConfigError for what it does not know, naming the nearest.
        """
        if not isinstance(name, str | os.PathLike | None):
            raise ConfigError(f"a configuration is named by text or a path, not by {type(name).__name__}")
        named = None if name is None else os.fspath(name)
        return load_config(UpscaleConfig, named, overrides, section="upscale")

    @property
    def encoding(self) -> Encoding:
        """The part that concerns the encoder."""
        return Encoding(self.codec, self.crf, self.preset, self.pix_fmt, self.goal)

    def door(self, device: Device) -> Door | None:
        """Return the way to a hardware decoder worth trying: one whose frames are then where they are needed."""
        on_cuda = device.torch_device.type == "cuda"
        return Nvdec(device.torch_device.index or 0) if on_cuda and self.decoder == "auto" else None

    def choose_device(self) -> Device:
        """Return the device and type to compute with. Raises DeviceError if the device is not there."""
        return choose(self.device, None if self.dtype == "auto" else getattr(torch, self.dtype))

    def open_upscaler(self, model: VideoModel | None, device: Device) -> Upscaler:
        """Return what enlarges on `device`: by `model` if it is given, else by the network that is named here."""
        network = model or load_model(self.model, scale=self.scale, steps=self.steps)
        # Who names a type wants torch's own arithmetic in it.
        typed = self.dtype != "auto" and device.torch_device.type == "cpu"
        backend = "torch" if self.backend == "auto" and typed else self.backend
        return Upscaler(network, device=device, seed=self.seed, backend=backend)
