"""`Upscaler`: frames in, larger frames out, with the memory from one frame to the next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gtasr_video.device import Device, choose
from gtasr_video.errors import ModelError, UsageError
from gtasr_video.frames import Frame, VideoSpec
from gtasr_video.models.facts import State, VideoModel
from gtasr_video.ops.color import rgb_to_yuv, yuv_to_rgb


class Upscaled(NamedTuple):
    """A larger frame, and a scalar bool tensor on its device: False if the network gave NaN or infinity.

    A flag rather than an error, since reading it makes the host wait for the device.
    """

    frame: Frame
    finite: Tensor


class Upscaler:
    """Enlarge the frames of one stream with `model`, in order, one for one.

    Each frame goes YUV -> RGB in [0, 1] -> [-1, 1] -> padded to ``facts.multiple_of`` (replicate) -> ``model.step``
    -> cropped -> YUV, all on `device`. At ``frame.cut`` the temporal state begins anew. The output has the time,
    duration and cut flag of its input; nothing is delayed.

    model   any `VideoModel`; a module is moved to the device, in the fastest type both allow
    device  a `Device` from `gtasr_video.device.choose`, its name (``cuda:1``), or None for the best there is
    seed    of the network's noise; the same input, seed and device give the same output

    Not for several threads at once. Example::

        upscaler = Upscaler(load_model("s"))
        with Reader("in.mp4") as reader:
            for frame in upscaler(reader):
                ...                             # planes of reader.spec.scaled(4)
    """

    def __init__(self, model: VideoModel, *, device: Device | str | None = None, seed: int = 0) -> None:
        chosen = device if isinstance(device, Device) else choose(device or "auto")
        self.device = _supported(chosen, model)
        self.model = _place(model, self.device)
        self.seed = seed
        self._spec: VideoSpec | None = None
        self._output: VideoSpec | None = None
        self._state: State | None = None

    @property
    def scale(self) -> int:
        """Output pixels per input pixel along one side."""
        return self.model.facts.scale

    @property
    def output(self) -> VideoSpec:
        """What the frames that come out look like. Raises UsageError before `start`."""
        if self._output is None:
            raise UsageError("this upscaler does not know its frames yet; call start(spec) first")
        return self._output

    def start(self, spec: VideoSpec, output: VideoSpec | None = None) -> VideoSpec:
        """Begin a new stream of frames that look like `spec`; returns what will come out.

        output  layout and colours wanted (``writer.spec``); None keeps those of `spec`. Raises UsageError if its
                size is not `scale` times that of `spec`.
        """
        wanted = output or spec.scaled(self.scale)
        width, height = spec.width * self.scale, spec.height * self.scale
        if (wanted.width, wanted.height) != (width, height):
            raise UsageError(f"output of {wanted.width}x{wanted.height} is not the {width}x{height} that will come out")
        self._spec, self._output, self._state = spec, wanted, None
        return wanted

    def push(self, frame: Frame) -> list[Frame]:
        """Return the frames that can be given out after `frame`: for the causal networks here, exactly one.

        Planes come back on the upscaler's device. Raises UsageError before `start`, or if `frame` does not look like
        the stream's frames; ModelError if the network gives NaN or infinity.
        """
        result = self.step(frame)
        check_finite(result.finite)
        return [result.frame]

    def flush(self) -> list[Frame]:
        """Return the frames still held back at the end of a stream, none for causal networks, and forget the stream."""
        self._state = None
        return []

    def __call__(
        self, frames: Iterable[Frame], *, spec: VideoSpec | None = None, output: VideoSpec | None = None
    ) -> Iterator[Frame]:
        """Enlarge a whole stream lazily.

        spec    what `frames` look like; by default ``frames.spec``, which every reader has. `output` as in `start`.
        """
        known = spec or getattr(frames, "spec", None)
        if known is None:
            raise UsageError("these frames do not say what they look like; give spec=")
        self.start(known, output)
        for frame in frames:
            yield from self.push(frame)
        yield from self.flush()

    @torch.inference_mode()
    def step(self, frame: Frame) -> Upscaled:
        """Enlarge one frame as `push` does, but report a bad result as a flag instead of raising."""
        if self._spec is None or self._output is None:
            raise UsageError("this upscaler does not know its frames yet; call start(spec) first")
        _check_shape(frame, self._spec)
        planes = tuple(p.to(self.device.torch_device, non_blocking=True) for p in frame.planes)
        rgb = yuv_to_rgb(planes, self._spec.layout, self._spec.color)
        enlarged = self._enlarge(rgb.mul(2).sub_(1), cut=frame.cut)
        finite = torch.isfinite(enlarged.sum())
        out = rgb_to_yuv(enlarged.add(1).mul_(0.5), self._output.layout, self._output.color)
        return Upscaled(Frame(out, frame.pts, frame.duration, frame.cut), finite)

    def _enlarge(self, x: Tensor, *, cut: bool) -> Tensor:
        height, width = x.shape[-2:]
        padded = _pad(x, self.model.facts.multiple_of)
        if self._state is None or cut:
            self._state = self.model.initial(1, *padded.shape[-2:])
        y, self._state = self.model.step(padded, self._state, seed=self.seed)
        return y[..., : height * self.scale, : width * self.scale]


def check_finite(finite: Tensor) -> None:
    """Raise ModelError if `finite` is False; waits for the device."""
    if not finite:
        raise ModelError("the network gave NaN or infinity instead of a picture; try --set dtype=float32")


def _check_shape(frame: Frame, spec: VideoSpec) -> None:
    layout = spec.layout
    wanted = [layout.plane_size(i, spec.width, spec.height) for i in range(layout.planes)]
    if [tuple(p.shape) for p in frame.planes] != wanted or any(p.dtype != layout.dtype for p in frame.planes):
        raise UsageError(f"{frame!r} is not a {layout.name} frame of {spec.width}x{spec.height}")


def _pad(x: Tensor, multiple: int) -> Tensor:
    """Continue `x` to the right and below with its last column and row, up to a multiple of `multiple`."""
    right, below = -x.shape[-1] % multiple, -x.shape[-2] % multiple
    return F.pad(x, (0, right, 0, below), mode="replicate") if right or below else x


def _supported(device: Device, model: VideoModel) -> Device:
    """Return `device`, in float32 where the model cannot compute in the device's favourite type."""
    if device.dtype in model.facts.dtypes:
        return device
    reason = f"{device.reason}; {model.facts.name} needs float32"
    return Device(device.torch_device, torch.float32, reason)


def _place(model: VideoModel, device: Device) -> VideoModel:
    if not isinstance(model, nn.Module):
        return model
    module: Any = model
    placed: VideoModel = module.to(device.torch_device, device.dtype, memory_format=torch.channels_last).eval()
    return placed
