"""Every backend gives what the plain way through torch gives; the cache keeps what was compiled."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gtasr_video.device import Device, choose
from gtasr_video.errors import DeviceError
from gtasr_video.frames import ColorSpec, Frame, PixelLayout, VideoSpec
from gtasr_video.models.bicubic import Bicubic
from gtasr_video.models.blocks import Int8Conv2d
from gtasr_video.models.cascade import Cascade
from gtasr_video.models.facts import VideoModel
from gtasr_video.models.int8 import measure_limits, with_int8
from gtasr_video.ops.color import rgb_to_yuv, yuv_to_rgb
from gtasr_video.runtime.backends import backend_for, cache
from gtasr_video.runtime.backends.calibration import shots
from gtasr_video.runtime.upscaler import Upscaler
from tests.models.networks import TINY, scene, tiny

CPU = Device(torch.device("cpu"), torch.float32, "for a test")
YUV420 = PixelLayout("yuv420p")
DEEP = PixelLayout("yuv422p10le", 10, 1, 0)


@pytest.fixture(autouse=True)
def _few_shots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibrate on two of the shots, which takes a quarter of the time."""
    monkeypatch.setattr("gtasr_video.runtime.backends.openvino.shots", lambda: shots()[:2])


def test_nothing_is_reported_to_the_makers_of_openvino(tmp_path: Path) -> None:
    """It would say over the network that it was imported, and keep a number for this user in the home folder."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}  # and no CI=true, which would keep it quiet
    command = "import sys, gtasr_video.runtime.backends.openvino; print(sys.modules['openvino_telemetry'])"
    told = subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout == "None\n"
    assert not list(tmp_path.iterdir())


def spec(width: int, height: int, layout: PixelLayout = YUV420) -> VideoSpec:
    return VideoSpec(width, height, Fraction(1, 25), layout, ColorSpec("bt601"))


def film(of: VideoSpec, count: int = 4) -> list[Frame]:
    """Return frames of a moving picture; the last is of another scene."""
    pictures = scene(count, of.height, of.width, seed=1, shift=2)[0]
    pictures[-1] = scene(1, of.height, of.width, seed=9)[0, 0]
    made = (rgb_to_yuv((picture[None] + 1) / 2, of.layout, of.color) for picture in pictures)
    return [Frame(planes, n, 1, n == 0) for n, planes in enumerate(made)]


def plainly(model: VideoModel, frames: list[Frame], of: VideoSpec, output: VideoSpec) -> list[tuple[Tensor, ...]]:
    """Enlarge by `step`, picture by picture, for sizes that need no padding."""
    state, large = model.initial(1, of.height, of.width), []
    for frame in frames:
        x = yuv_to_rgb(frame.planes, of.layout, of.color) * 2 - 1
        y, state = model.step(x, state)
        large.append(rgb_to_yuv((y + 1) / 2, output.layout, output.color, dither=True))
    return large


def furthest(ours: list[Frame], plain: list[tuple[Tensor, ...]]) -> int:
    return max(
        int((one.int() - other.int()).abs().max())
        for frame, planes in zip(ours, plain, strict=True)
        for one, other in zip(frame.planes, planes, strict=True)
    )


def models() -> dict[str, VideoModel]:
    return {
        "one step": tiny().fold(),
        "noise and two steps": _two_steps(),
        "cascade": Cascade(tiny(scales=(2,)).fold(), tiny(scales=(2,), seed=1).fold()),
    }


def _two_steps() -> VideoModel:
    model = tiny(noise_scale=0.5)
    model.steps = 2
    return model.fold()


@pytest.mark.parametrize("backend", ["torch", "openvino"])
@pytest.mark.parametrize(
    ("name", "layout"), [("one step", YUV420), ("one step", DEEP), ("noise and two steps", YUV420), ("cascade", YUV420)]
)
def test_it_gives_what_torch_gives_plainly(backend: str, name: str, layout: PixelLayout) -> None:
    model, of = models()[name], spec(40, 24, layout)
    frames, output = film(of), of.scaled(model.facts.scale)
    upscaler = Upscaler(copy.deepcopy(model), device=CPU, backend=backend)  # type: ignore[arg-type]
    ours = list(upscaler(frames, spec=of))
    assert upscaler.backend == backend
    assert furthest(ours, plainly(model, frames, of, output)) <= 1


def test_sizes_that_need_padding_are_cropped() -> None:
    model, of = tiny().fold(), spec(37, 22)
    frames = film(spec(40, 24))
    frames = [Frame((f.planes[0][:22, :37], *(p[:11, :19] for p in f.planes[1:])), f.pts, 1, f.cut) for f in frames]
    out = {
        name: list(Upscaler(copy.deepcopy(model), device=CPU, backend=name)(frames, spec=of))  # type: ignore[arg-type]
        for name in ("torch", "openvino")
    }
    assert [tuple(p.shape) for p in out["openvino"][0].planes] == [(88, 148), (44, 74), (44, 74)]
    assert furthest(out["openvino"], [frame.planes for frame in out["torch"]]) <= 1


def test_int8_is_what_the_module_with_rounded_convolutions_gives() -> None:
    model, of = tiny().fold(), spec(40, 24)
    frames = film(of)
    rounded = with_int8(model, measure_limits(model, shots()[:2]))
    assert sum(isinstance(module, Int8Conv2d) for module in rounded.modules()) > 5
    upscaler = Upscaler(copy.deepcopy(model), device=CPU)
    ours = list(upscaler(frames, spec=of))
    assert upscaler.backend == "openvino-int8"
    # Integers round where floats nearly tie; over a few frames of memory that may grow to some codes.
    reference = plainly(rounded, frames, of, of.scaled(4))  # type: ignore[arg-type]
    assert furthest(ours, reference) <= 4
    assert furthest(ours, plainly(model, frames, of, of.scaled(4))) > 0


def test_what_reads_the_picture_stays_in_floating_point() -> None:
    model = tiny().fold()
    limits = measure_limits(model, [scene(2)[0]])
    assert not {"guide.first", "adapters.x4.frame"} & set(limits)
    assert {"trunk.down.0.0.first", "adapters.x4.head", "recalls.x4.detail"} <= set(limits)


def test_the_same_frames_give_the_same_bytes_and_states_stay_valid_for_two_steps() -> None:
    of = spec(40, 24)
    frames, upscaler = film(of, 6), Upscaler(tiny().fold(), device=CPU)
    first = list(upscaler(frames, spec=of))
    again = list(upscaler(frames, spec=of))
    assert furthest(first, [frame.planes for frame in again]) == 0
    upscaler.start(of)
    steps = [upscaler.step(frame) for frame in frames[:4]]
    kept = [field.clone() for field in steps[3].before[:3]]
    upscaler.step(frames[4])
    assert all(torch.equal(a, b) for a, b in zip(kept, steps[3].before[:3], strict=True))


def test_what_was_compiled_is_found_again_and_only_for_the_same_weights() -> None:
    of = spec(40, 24)

    def entries(seed: int) -> set[str]:
        Upscaler(tiny(TINY, seed=seed).fold(), device=CPU, backend="openvino").start(of)
        return {entry.name for entry in cache.root().iterdir()}

    one = entries(11)
    assert entries(11) == one
    assert len(entries(12) - one) == 1


def test_where_nothing_can_be_kept_it_still_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    upscaler = Upscaler(tiny(seed=5).fold(), device=CPU, backend="openvino")
    assert len(list(upscaler(film(spec(40, 24), 2), spec=spec(40, 24)))) == 2
    assert upscaler.backend == "openvino"


def test_a_failed_entry_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fail(folder: Path) -> None:
        (folder / "half").write_text("x", encoding="utf-8")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.folder("name", fail)
    assert list(cache.root().iterdir()) == []


def test_the_entries_used_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache, "_KEPT", 2)
    for name in ("a", "b", "a", "c"):
        cache.folder(name, lambda folder: None)
    assert sorted(entry.name for entry in cache.root().iterdir()) == ["a", "c"]


def test_what_has_no_network_is_left_to_torch() -> None:
    assert backend_for("auto", Bicubic(2), CPU) == ("torch", CPU)
    with pytest.raises(DeviceError, match="backend openvino cannot be used: there is nothing in bicubic"):
        backend_for("openvino", Bicubic(2), CPU)


def test_without_openvino_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    model = tiny().fold()
    assert backend_for("auto", model, CPU)[0] == "torch"
    with pytest.raises(DeviceError, match=r"pip install 'gtasr-video\[cpu\]'"):
        backend_for("openvino-int8", model, CPU)


def test_integers_are_fed_in_float32_whatever_the_cpu_likes() -> None:
    bf16 = Device(torch.device("cpu"), torch.bfloat16, "asked for")
    assert backend_for("auto", tiny().fold(), bf16)[1].dtype is torch.float32
    assert backend_for("torch", tiny().fold(), bf16)[1] is bf16
    assert choose("cpu").torch_device.type == "cpu"
