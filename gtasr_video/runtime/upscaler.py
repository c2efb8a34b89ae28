"""`Upscaler`: frames in, larger frames out, with the memory from one frame to the next."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gtasr_video.device import Device, choose, current, free_memory, is_out_of_memory, release_memory
from gtasr_video.errors import ModelError, UsageError
from gtasr_video.frames import Frame, VideoSpec
from gtasr_video.models.facts import State, VideoModel
from gtasr_video.models.handover import hand_over
from gtasr_video.runtime.backends import Backend, Name, TorchBackend, backend_for, open_backend
from gtasr_video.runtime.backends.frame import padded_size, shown
from gtasr_video.runtime.footprint import Fit, frame_bytes
from gtasr_video.runtime.tiles import Grid, tiled

log = logging.getLogger("gtasr_video")

# Frames that a session holds on either side of a step.
_WAITING = 8
# On CUDA: of the frames under way, and the two that a recording has of its own.
_STATES_KEPT = 7


class Upscaled(NamedTuple):
    """A larger frame, whether it is one, and what was remembered before it.

    sound   scalar bool tensor on the frame's device: False if the network gave NaN, infinity or black for a picture
            that is not black. A flag rather than an error, since reading it makes the host wait for the device
    before  the state before this frame, to make it again from
    """

    frame: Frame
    sound: Tensor
    before: State


class Upscaler:
    """Enlarge the frames of one stream with `model`, in order, one for one.

    Each frame goes YUV -> RGB in [-1, 1] -> padded to ``facts.multiple_of`` (replicate) -> ``model.step``
    -> cropped -> YUV, all on `device`, by the backend (`runtime.backends`).
    At ``frame.cut`` the temporal state begins anew. The output has the time,
    duration and cut flag of its input; nothing is delayed.

    model   any `VideoModel`; a module is moved to the device, in the fastest type both allow
    device  a `Device` from `gtasr_video.device.choose`, its name (``cuda:1``), or None for the best there is
    seed    of the network's noise; the same input, seed, device and backend give the same output
    backend auto, torch, cuda-graph, openvino or openvino-int8; see `runtime.backends`

    Frames too large for the free memory are made in parts (`grid`), which gives the same picture; where memory runs out
    all the same, in smaller ones. A frame that comes out as NaN or black is made again in float32 (`redone` counts).

    Not for several threads at once. Example::

        upscaler = Upscaler(load_model("s"))
        with Reader("in.mp4") as reader:
            for frame in upscaler(reader):
                ...                             # planes of reader.spec.scaled(4)
    """

    def __init__(
        self, model: VideoModel, *, device: Device | str | None = None, seed: int = 0, backend: Name = "auto"
    ) -> None:
        if not hasattr(model, "facts"):
            raise UsageError(f"an Upscaler takes a network, such as load_model('s'), not {type(model).__name__}")
        chosen = device if isinstance(device, Device) else choose(device or "auto")
        supported = _supported(chosen, model)
        self._backend_name, self.device = backend_for(backend, model, supported)
        self.model = _place(model, self.device)
        self.seed = seed
        self._spec: VideoSpec | None = None
        self._view: VideoSpec | None = None
        self._output: VideoSpec | None = None
        self._state: State | None = None
        self._fit: Fit | None = None
        self._backend: Backend | None = None
        self._careful: Any = None
        self.grid = Grid()
        self.redone = 0
        self._restored: State | None = None

    def restore(self, state: State) -> None:
        """Let the next `start` go on with `state`, which was `before` its first frame, instead of beginning anew."""
        self._restored = state

    @property
    def scale(self) -> int:
        """Output pixels per input pixel along one side."""
        return self.model.facts.scale

    @property
    def backend(self) -> str:
        """Who does the arithmetic: ``torch``, ``cuda-graph``, ``openvino`` or ``openvino-int8``."""
        return self._backend.name if self._backend else self._backend_name

    @property
    def output(self) -> VideoSpec:
        """What the frames that come out look like. Raises UsageError before `start`."""
        if self._output is None:
            raise UsageError("this upscaler does not know its frames yet; call start(spec) first")
        return self._output

    def start(self, spec: VideoSpec, output: VideoSpec | None = None) -> VideoSpec:
        """Begin a new stream of frames that look like `spec`; returns what will come out.

        output  layout and colours wanted (``writer.spec``); None keeps those of `spec`. Where players turn or mirror
                `spec` and not this, frames are turned before they are enlarged. Raises UsageError if its size is not
                `scale` times that of `spec`.
        """
        wanted = output or spec.scaled(self.scale)
        view = shown(spec, wanted)
        width, height = view.width * self.scale, view.height * self.scale
        if (wanted.width, wanted.height) != (width, height):
            raise UsageError(f"output of {wanted.width}x{wanted.height} is not the {width}x{height} that will come out")
        self._spec, self._view, self._output = spec, view, wanted
        self._state, self._restored = self._restored, None
        self._fit = self._fitting(view)
        self.grid = self._fit.first(self._free(spec, wanted))
        if self.grid != Grid():
            log.info("memory: frames are made in %s parts", self.grid)
        self._backend = self._open()
        return wanted

    def _open(self) -> Backend:
        """Return who makes the frames from here on: in parts that is torch, recorded or not."""
        assert self._spec is not None and self._output is not None
        whole, name = self.grid == Grid(), self._backend_name
        model = self.model if whole else tiled(self.model, self.grid) or self.model
        if not whole and name != "cuda-graph":
            name = "torch"
        return open_backend(name, model, self._spec, self._output, self.seed, in_bands=not whole)

    def _fitting(self, spec: VideoSpec) -> Fit:
        states = _STATES_KEPT if self.device.torch_device.type == "cuda" else 0
        return Fit(self.model, *padded_size(spec, self.model.facts.multiple_of), states)

    def _free(self, spec: VideoSpec, output: VideoSpec) -> int:
        """Bytes a step may take: what is free, less the frames that wait on either side of it."""
        return free_memory(self.device.torch_device) - _WAITING * (frame_bytes(spec) + frame_bytes(output))

    @torch.inference_mode()
    def continue_from(self, other: Upscaler) -> None:
        """Take over the stream where `other` left it, as far as this network can; else begin anew at the next frame."""
        state = other._state
        self._state = None if state is None else hand_over(state, other.model, self.model)

    def push(self, frame: Frame) -> list[Frame]:
        """Return the frames that can be given out after `frame`: for the causal networks here, exactly one.

        Planes come back on the upscaler's device. Raises UsageError before `start`, or if `frame` does not look like
        the stream's frames; ModelError if the network gives NaN or black, and does so in float32 too.
        """
        result = self.step(frame)
        if not result.sound:
            result = self.redo(frame, result.before)
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

    def step(self, frame: Frame) -> Upscaled:
        """Enlarge one frame as `push` does, but report a bad result as a flag instead of making it again.

        Where memory runs out the frame is cut into smaller parts and made again from the same state.
        """
        return self._step(frame, None)

    def redo(self, frame: Frame, before: State) -> Upscaled:
        """Enlarge `frame` again in float32 from the state `before` it, and go on from there.

        Raises ModelError where float32 is what it was made in, or is of no help; waits for the device.
        """
        in_float32 = self.device.dtype is torch.float32 and self.backend != "openvino-int8"
        if in_float32 or not isinstance(self.model, nn.Module):
            raise ModelError(_UNSOUND)
        if self._careful is None:
            self._careful = copy.deepcopy(self.model).float()
        self._state = before
        result = self._step(frame, self._careful)
        if not result.sound:
            raise ModelError(_UNSOUND)
        self.redone += 1
        log.warning("the frame at tick %d came out as NaN or black; it was made again in float32", frame.pts)
        return result

    @torch.inference_mode()
    def _step(self, frame: Frame, careful: VideoModel | None) -> Upscaled:
        if self._spec is None or self._view is None:
            raise UsageError("this upscaler does not know its frames yet; call start(spec) first")
        _check_shape(frame, self._spec)
        before = self._state
        if before is None or frame.cut:
            before = self.model.initial(1, *padded_size(self._view, self.model.facts.multiple_of))
        while True:
            try:
                return self._enlarge(frame, before, careful)
            except Exception as error:
                if not is_out_of_memory(error) or not self._can_shrink:
                    raise
            # Outside the handler: there the error still holds what lived when it struck.
            self._shrink()

    def _enlarge(self, frame: Frame, before: State, careful: VideoModel | None) -> Upscaled:
        planes = tuple(p.to(self.device.torch_device, non_blocking=True) for p in frame.planes)
        with current(self.device.torch_device):
            large, sound, state = self._worker(careful).step(planes, before)
        self._state = state  # only now: what failed on the way is made again from the state before
        return Upscaled(Frame(large, frame.pts, frame.duration, frame.cut), sound, before)

    def _worker(self, careful: VideoModel | None) -> Backend:
        """Return who makes the next frame: the backend, or torch where it is made with care."""
        assert self._spec is not None and self._output is not None and self._backend is not None
        if careful is None:
            return self._backend
        whole = self.grid == Grid()
        model = careful if whole else tiled(careful, self.grid) or careful
        return TorchBackend(model, self._spec, self._output, self.seed, in_bands=not whole)

    @property
    def _can_shrink(self) -> bool:
        return self._fit is not None and self._fit.finer(self.grid) is not None

    def _shrink(self) -> None:
        """Make frames in smaller parts from here on."""
        finer = self._fit and self._fit.finer(self.grid)
        assert finer
        log.warning("not enough memory on %s: frames are made in %s parts from here on", self.device.name, finer)
        self.grid = finer
        self._backend = None  # its memory goes before that of the next is taken
        release_memory(self.device.torch_device)
        self._backend = self._open()


_UNSOUND = "the network gave NaN or infinity or black instead of a picture, in float32 too; its weights may be damaged"


def _check_shape(frame: Frame, spec: VideoSpec) -> None:
    layout = spec.layout
    wanted = [layout.plane_size(i, spec.width, spec.height) for i in range(layout.planes)]
    if [tuple(p.shape) for p in frame.planes] != wanted or any(p.dtype != layout.dtype for p in frame.planes):
        raise UsageError(f"{frame!r} is not a {layout.name} frame of {spec.width}x{spec.height}")


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
