"""A recorded step is the step: at every shape class, at first frames, cuts and gaps; here on what stands in for CUDA.

The stand-in keeps the operators that the work calls, once, with the memory they were called on, and calls these alone
again: as blind as a CUDA graph to anything the host would decide anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gtasr_video.device import Device
from gtasr_video.errors import DeviceError
from gtasr_video.frames import Frame, PixelLayout, VideoSpec
from gtasr_video.models.bicubic import Bicubic
from gtasr_video.models.cascade import Cascade
from gtasr_video.models.facts import State, VideoModel
from gtasr_video.ops.color import rgb_to_yuv
from gtasr_video.runtime import upscaler as upscaling
from gtasr_video.runtime.backends import GraphBackend, TorchBackend, backend_for
from gtasr_video.runtime.backends.graphed import Graphed
from gtasr_video.runtime.tiles import Grid
from gtasr_video.runtime.upscaler import Upscaler
from tests import fakes
from tests.models.networks import TINY, TINY_FINE, scene, tiny

CPU = Device(torch.device("cpu"), torch.float32, "for a test")


class Result(NamedTuple):
    """What a step gives."""

    picture: Tensor
    state: State


class Tape(TorchDispatchMode):
    """Keeps every operator that is called, with the memory it was called on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        """Call all operators again on the same memory, their results written to where they were."""
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            for place, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                # A view of what was given, and what was changed in place, lie where they lay.
                if isinstance(place, Tensor) and place.data_ptr() != new.data_ptr():
                    place.copy_(new)


def taped(work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """Record `work` on a tape; its result stays where it is."""
    tape = Tape()
    with tape:
        result = work()
    return tape.replay, result


def stepping(model: VideoModel, seed: int = 5) -> Callable[[Tensor, State], Result]:
    return lambda x, state: Result(*model.step(x, state, seed=seed))


def psnr(one: Tensor, other: Tensor) -> float:
    """Return the ratio in dB of pictures in [-1, 1]."""
    return float(10 * torch.log10(4 / (one - other).square().mean().clamp(min=1e-20)))


def film(height: int, width: int) -> list[Tensor]:
    """Nine frames: a scene, a cut the network has to find, and a leap as after a gap in time."""
    one, other = scene(6, height, width, shift=2), scene(3, height, width, seed=9)
    frames = [*one.unbind(1), *other.unbind(1)]
    return frames[:4] + frames[5:]


def run(step: Callable[[Any, Any], Any], model: VideoModel, frames: list[Tensor]) -> list[Tensor]:
    """Run twice over `frames` with a new state at the beginning and in the middle, as at cuts that are known."""
    state, out = None, []
    for number, x in enumerate([*frames, *frames]):
        if number in (0, 5, len(frames)):
            state = model.initial(1, *x.shape[-2:])
        result = step(x, state)
        state = result.state
        out.append(result.picture)
    return out


MODELS = {
    "plain": lambda: tiny(TINY),
    "fine with noise": lambda: tiny(TINY_FINE, (2,), 0.1),
    "two steps": lambda: two_steps(),
    "bf16": lambda: tiny(TINY).to(torch.bfloat16),
    "two networks": lambda: Cascade(tiny(scales=(2,)), tiny(scales=(2,), seed=1)),
}


def two_steps() -> VideoModel:
    model = tiny(TINY, (4,), 0.1)
    model.steps = 2
    return model


@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_a_replayed_step_is_the_step(name: str) -> None:
    model, frames = MODELS[name](), film(20, 44)
    graphed = Graphed(stepping(model), taped, first_frames=2)
    wanted, found = run(stepping(model), model, frames), run(graphed, model, frames)
    assert graphed.recorded
    assert min(psnr(a, b) for a, b in zip(wanted, found, strict=True)) >= 50
    assert len({float(y.mean()) for y in found}) > 5, "the frames differ, so a stale one would show"


@torch.inference_mode()
def test_the_stand_in_sees_a_decision_of_the_host() -> None:
    """The tests above can fail: work that looks at its state on the host is wrong once it is recorded."""

    class Decides:
        def step(self, x: Tensor, state: State) -> Result:
            first = int(state.age) == 0
            return Result(x if first else x / 2, state._replace(age=state.age + 1))

    model, frames = tiny(TINY), film(24, 32)
    graphed = Graphed(Decides().step, taped, first_frames=2)
    wanted, found = run(Decides().step, model, frames), run(graphed, model, frames)
    assert min(psnr(a, b) for a, b in zip(wanted, found, strict=True)) < 50


@torch.inference_mode()
def test_states_and_results_given_out_are_never_written_again() -> None:
    model, frames = tiny(TINY), film(24, 32)
    graphed = Graphed(stepping(model), taped, first_frames=1)
    state, kept = model.initial(1, 24, 32), []
    for x in frames:
        result = graphed(x, state)
        kept.append((x, state, result, result.picture.clone()))
        state = result.state
    for x, before, result, picture in kept:
        assert torch.equal(result.picture, picture)
        again = graphed(x, before)
        assert torch.equal(again.picture, picture), "a frame made again from the state before it is the same"


@torch.inference_mode()
def test_another_shape_is_recorded_anew() -> None:
    model = tiny(TINY)
    graphed = Graphed(stepping(model), taped, first_frames=1)
    for size in ((24, 32), (16, 24)):
        found, wanted = (run(step, model, film(*size)) for step in (graphed, stepping(model)))
        assert min(psnr(a, b) for a, b in zip(wanted, found, strict=True)) >= 50
        assert graphed.recorded


@torch.inference_mode()
def test_what_cannot_be_recorded_runs_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    tried = []

    def refuses(work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        tried.append(1)
        raise RuntimeError("operation not permitted when stream is capturing")

    model, frames = tiny(TINY), film(24, 32)
    with caplog.at_level(logging.WARNING, logger="gtasr_video"):
        found = run(Graphed(stepping(model), refuses, first_frames=1), model, frames)
    assert all(torch.equal(a, b) for a, b in zip(found, run(stepping(model), model, frames), strict=True))
    assert len(tried) == 1 and "recording failed (operation not permitted" in caplog.text


@torch.inference_mode()
def test_running_out_of_memory_while_recording_is_raised() -> None:
    def exhausted(work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    graphed = Graphed(stepping(tiny(TINY)), exhausted, first_frames=1)
    with pytest.raises(torch.OutOfMemoryError):
        graphed(film(24, 32)[0], tiny(TINY).initial(1, 24, 32))


LAYOUTS = [fakes.YUV420, PixelLayout("yuv422p10le", 10, 1, 0), fakes.YUV444]


def frames_of(of: VideoSpec) -> list[Frame]:
    """Return the film as planes: the second half after a gap in time, of which no one says that it is a cut."""
    planes = [rgb_to_yuv((x + 1) / 2, of.layout, of.color) for x in film(of.height, of.width)]
    return [Frame(p, 40 * n + 4000 * (n > 4), 40, n == 0) for n, p in enumerate([*planes, *planes])]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("size", [(32, 24), (30, 22)], ids=str)
def test_whole_frames_are_replayed_at_every_shape(
    layout: PixelLayout, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From planes to planes, padding and cropping included."""
    of = fakes.spec(*size, layout)
    wanted = list(Upscaler(tiny(TINY), device=CPU, backend="torch")(frames_of(of), spec=of))
    made = recording(monkeypatch)
    found = list(Upscaler(tiny(TINY), device=CPU, backend="torch")(frames_of(of), spec=of))
    assert made[-1]._graphed.recorded
    for one, other in zip(found, wanted, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(one.planes, other.planes, strict=True))


def recording(monkeypatch: pytest.MonkeyPatch) -> list[GraphBackend]:
    """Let upscalers use a `GraphBackend` on the stand-in; returns those that were made."""
    made = []

    def open_backend(name: object, model: VideoModel, *rest: Any, in_bands: bool = False) -> GraphBackend:
        made.append(GraphBackend(TorchBackend(model, *rest, in_bands), taped))
        return made[-1]

    monkeypatch.setattr(upscaling, "open_backend", open_backend)
    return made


def test_memory_that_runs_out_while_recording_makes_the_frame_again_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    of = fakes.spec(208, 152, fakes.YUV444)
    frames = frames_of(of)[:6]
    wanted = list(Upscaler(tiny(TINY), device=CPU, backend="torch")(frames, spec=of))
    made, record, refused = recording(monkeypatch), GraphBackend.__init__, []

    def refusing_once(self: GraphBackend, plain: TorchBackend, capture: Any) -> None:
        def capturing(work: Callable[[], Any]) -> Any:
            if not refused:
                refused.append(1)
                raise torch.OutOfMemoryError("CUDA out of memory")
            return capture(work)

        record(self, plain, capturing)

    monkeypatch.setattr(GraphBackend, "__init__", refusing_once)
    upscaler = Upscaler(tiny(TINY), device=CPU, backend="torch")
    found = list(upscaler(frames, spec=of))
    assert refused and upscaler.grid != Grid() and len(made) == 2 and made[-1]._graphed.recorded
    for one, other in zip(found, wanted, strict=True):
        for p, q in zip(one.planes, other.planes, strict=True):
            assert int((p.int() - q.int()).abs().max()) <= 1


def test_a_graph_is_for_cuda_and_for_networks_of_this_family() -> None:
    cuda = Device(torch.device("cuda"), torch.bfloat16, "for a test")
    assert backend_for("auto", tiny(TINY), cuda)[0] == "cuda-graph"
    assert backend_for("auto", Bicubic(2), cuda)[0] == "torch"
    with pytest.raises(DeviceError, match="cuda-graph needs a CUDA GPU"):
        backend_for("cuda-graph", tiny(TINY), CPU)
