"""Every way to enlarge gives one larger picture a frame, or says in one line why not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gtasr_video.device import choose
from gtasr_video.errors import EvaluationError, ModelError
from gtasr_video.evaluation import methods
from gtasr_video.evaluation.streams import read_frames, write_frames
from gtasr_video.evaluation.truth import to_unit
from gtasr_video.models import save_model
from gtasr_video.models.facts import ModelFacts, State
from gtasr_video.ops.resize import enlarge
from tests.evaluation.conftest import scene
from tests.models.networks import tiny

NEAREST_NCNN = """7767517
2 2
Input data 0 1 data
Interp enlarge 1 1 data output 0=1 1=4.0 2=4.0
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    write_frames(tmp_path / "small.mkv", scene(3, 24, 32))
    return tmp_path / "small.mkv"


@pytest.fixture
def ncnn_file(tmp_path: Path) -> Path:
    """A network in ncnn's format that repeats each pixel four times along each side."""
    (tmp_path / "nearest.bin").write_bytes(b"")
    (tmp_path / "nearest.param").write_text(NEAREST_NCNN)
    return tmp_path / "nearest.param"


def rendered(method: methods.Method, small: Path) -> list[Tensor]:
    target = small.with_name("large.mkv")
    method.render(small, target)
    return list(read_frames(target))


@pytest.mark.parametrize("name", ["bicubic", "lanczos"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_filters_enlarge_every_frame(name: str, scale: int, small: Path) -> None:
    method = methods.peer(name, scale)
    frames = rendered(method, small)
    assert len(frames) == 3 and frames[0].shape == (3, 24 * scale, 32 * scale)
    source = to_unit(next(read_frames(small)))
    assert (to_unit(frames[0]) - enlarge(source, scale)).abs().mean() < 0.02
    assert method.identity is not None


def test_the_filters_are_not_the_same(small: Path) -> None:
    bicubic, lanczos = (rendered(methods.peer(name, 4), small)[0] for name in ("bicubic", "lanczos"))
    assert not torch.equal(bicubic, lanczos)


def test_ncnn_runs_and_every_frame_is_its_own(ncnn_file: Path, small: Path) -> None:
    frames = rendered(methods.peer(str(ncnn_file), 4), small)
    for frame, source in zip(frames, read_frames(small), strict=True):
        assert torch.equal(frame, source.repeat_interleave(4, 1).repeat_interleave(4, 2))


def test_ncnn_identity_follows_the_files(ncnn_file: Path) -> None:
    first = methods.ncnn(ncnn_file, 4).identity
    ncnn_file.write_text(NEAREST_NCNN.replace("0=1", "0=2"))
    assert methods.ncnn(ncnn_file, 4).identity != first


def test_ncnn_files_that_do_not_serve_are_named(ncnn_file: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"none\.param: no such file"):
        methods.peer(str(tmp_path / "none.param"), 4)
    ncnn_file.write_text("not ncnn")
    with pytest.raises(EvaluationError, match="not an ncnn model"):
        methods.peer(str(ncnn_file), 4)
    ncnn_file.write_text(NEAREST_NCNN.replace("output", "result"))
    with pytest.raises(EvaluationError, match="no blobs named 'data' and 'output'"):
        methods.peer(str(ncnn_file), 4)


def test_without_ncnn_it_says_what_to_install(ncnn_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ncnn", None)
    with pytest.raises(EvaluationError, match=r"gtasr-video\[peers\]"):
        methods.peer(str(ncnn_file), 4)


def test_an_unknown_peer_names_the_nearest() -> None:
    with pytest.raises(EvaluationError, match="did you mean 'lanczos'"):
        methods.peer("lanzcos", 4)


def script(folder: Path, body: str) -> str:
    file = folder / "peer script.py"
    file.write_text(body)
    return f"'{sys.executable}' '{file}' {{input}} {{output}}"


def test_a_program_is_run_without_a_shell(tmp_path: Path, small: Path) -> None:
    command = script(tmp_path, "import shutil, sys\nshutil.copy(sys.argv[1], sys.argv[2])\n")
    frames = rendered(methods.Program(f"{command} '; touch pwned' $HOME"), small)
    assert all(torch.equal(a, b) for a, b in zip(frames, read_frames(small), strict=True))
    assert not list(Path.cwd().glob("pwned")) and not list(tmp_path.glob("pwned"))


def test_a_program_identity_follows_its_files(tmp_path: Path) -> None:
    program = methods.Program(script(tmp_path, "one"))
    first = program.identity
    assert program.identity == first
    script(tmp_path, "another")
    assert program.identity != first


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import sys\nsys.exit('it broke')", r"failed with 1 \(it broke\)"),
        ("print('done nothing')", r"wrote no file {output} \(done nothing\)"),
    ],
)
def test_a_program_that_fails_is_told_with_its_last_line(tmp_path: Path, small: Path, body: str, reason: str) -> None:
    with pytest.raises(EvaluationError, match=reason):
        rendered(methods.Program(script(tmp_path, body)), small)
    assert not list(tmp_path.glob("large*"))


@pytest.mark.parametrize("command", ["prog {input}", "prog {output}", "no-such-program {input} {output}", "'"])
def test_a_command_that_cannot_run_is_refused_at_once(command: str) -> None:
    with pytest.raises(EvaluationError, match="peer command"):
        methods.Program(command)


class Counting:
    """A network that repeats pixels and adds the number of frames seen, in steps of 1/255; sides in fours."""

    facts = ModelFacts("counting", scale=2, multiple_of=16, receptive_field=0)

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def initial(self, batch: int, height: int, width: int) -> State:
        nothing = torch.zeros(batch, 0)
        return State(nothing, nothing, nothing, nothing, nothing, torch.zeros(batch, dtype=torch.int64))

    def step(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Tensor, State]:
        self.sizes.append(tuple(x.shape))
        large = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return large + (state.age.item() + seed) * 2 / 255, state._replace(age=state.age + 1)


def test_a_model_gets_padded_frames_and_its_own_state() -> None:
    network, frames = Counting(), [torch.full((3, 24, 40), 100, dtype=torch.uint8)] * 3
    outputs = list(methods.run_model(network, iter(frames), torch.device("cpu"), seed=5))
    assert network.sizes == [(1, 3, 32, 48)] * 3
    assert [y.shape for y in outputs] == [(3, 48, 80)] * 3
    assert [int(y.float().mean()) for y in outputs] == [105, 106, 107]


def test_the_bicubic_model_is_the_bicubic_peer(small: Path) -> None:
    ours = rendered(methods.model("bicubic", 4, choose("cpu", torch.float32), 0), small)
    theirs = rendered(methods.peer("bicubic", 4), small)
    assert all((a.int() - b.int()).abs().max() <= 1 for a, b in zip(ours, theirs, strict=True))


def test_without_memory_every_frame_is_the_first() -> None:
    frames = [torch.full((3, 8, 8), 100, dtype=torch.uint8) for _ in range(3)]
    outputs = list(methods.run_model(Counting(), iter(frames), torch.device("cpu"), seed=5, memory=False))
    assert [y.float().mean().item() for y in outputs] == [outputs[0].float().mean().item()] * 3
    with_memory = list(methods.run_model(Counting(), iter(frames), torch.device("cpu"), seed=5))
    assert with_memory[2].float().mean() > outputs[2].float().mean()


def test_a_network_is_measured_with_as_many_steps_as_asked_for(small: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    save_model(file, tiny(scales=(2,)))
    ways = [methods.model(str(file), 2, choose("cpu", torch.float32), 0, steps) for steps in (1, 2)]
    assert [way.name for way in ways] == ["mine", "mine, 2 steps"]
    once, twice = (rendered(way, small) for way in ways)
    assert once[0].shape == twice[0].shape
    assert not torch.equal(once[0], twice[0])


def test_an_unknown_model_is_an_error() -> None:
    with pytest.raises(ModelError):
        methods.model("xl", 4, choose("cpu"), 0)


def broken(frames: Iterator[Tensor]) -> Iterator[Tensor]:
    yield next(frames)
    raise EvaluationError("out of luck")


def test_a_method_that_breaks_leaves_no_file(small: Path) -> None:
    with pytest.raises(EvaluationError, match="out of luck"):
        rendered(methods.FrameMethod("broken", None, broken), small)
    assert not list(small.parent.glob("large*"))
