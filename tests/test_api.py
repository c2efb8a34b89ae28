"""The Python API: honest about its names, with examples that run."""

from __future__ import annotations

import ast
import doctest
import inspect
import logging
import subprocess
import sys
import textwrap
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
import torch

import gtasr_video
from gtasr_video import Encoding, Frame, Reader, UpscaleConfig, Upscaler, Writer, load_model
from gtasr_video.api import parse_seconds
from gtasr_video.errors import GTASRVideoError, InputError, OutputError, UsageError
from gtasr_video.runtime.live.config import LiveConfig
from tests import fakes
from tests.clips import see_through

ROOT = Path(__file__).parent.parent


def test_all_is_sorted_and_true() -> None:
    names = gtasr_video.__all__
    assert names == sorted(set(names))
    assert dir(gtasr_video) == names
    assert 10 <= len(names) <= 18
    for name in names:
        assert getattr(gtasr_video, name).__name__ == name


def test_what_is_declared_for_type_checkers_is_what_is_exported() -> None:
    tree = ast.parse(inspect.getsource(gtasr_video))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    declared = {name.name: node.module for node in block.body for name in node.names}  # type: ignore[union-attr]
    assert declared == {name: f"gtasr_video.{home}" for name, home in gtasr_video._HOMES.items()}
    assert set(declared) == set(gtasr_video.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'gtasr_video' has no attribute 'upscal'"):
        gtasr_video.upscal  # noqa: B018


@pytest.mark.parametrize("name", gtasr_video.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    value = getattr(gtasr_video, name)
    assert len(inspect.getdoc(value) or "") > 40
    if inspect.isclass(value):
        for method, member in vars(value).items():
            if not method.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                assert inspect.getdoc(member), f"{name}.{method}"


def examples() -> list[doctest.DocTest]:
    """Return the examples in the docstrings of all public names: doctests, and blocks after ``Example::``."""
    finder, parser = doctest.DocTestFinder(recurse=False), doctest.DocTestParser()
    found = []
    for name in gtasr_video.__all__:
        value = getattr(gtasr_video, name)
        found += [test for test in finder.find(value, name, globs={}) if test.examples]
        block = (inspect.getdoc(value) or "").partition("Example::")[2]
        code = [line for line in block.splitlines() if not line or line.startswith("    ")]
        if block and ">>>" not in block:
            source = textwrap.dedent("\n".join(code))
            found.append(parser.get_doctest("", {}, name, None, 0))
            found[-1].examples = [doctest.Example(source, "")]
    return found


def test_every_public_name_has_an_example() -> None:
    assert {test.name for test in examples()} == set(gtasr_video.__all__)


@pytest.mark.parametrize("example", examples(), ids=lambda test: test.name)
def test_examples_run(
    example: doctest.DocTest, small_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each runs in a folder with a file in.mp4; tier s stands for bicubic, since tests need no weights."""
    (tmp_path / "in.mp4").write_bytes(small_clip.read_bytes())
    monkeypatch.chdir(tmp_path)

    def stand_in(name: str = "s", *, scale: int = 4, steps: int = 1):
        return load_model("bicubic", scale=scale)

    monkeypatch.setattr("gtasr_video.api.config.load_model", stand_in)
    monkeypatch.setitem(vars(gtasr_video), "load_model", stand_in)
    example.globs = {name: getattr(gtasr_video, name) for name in gtasr_video.__all__} | {"Fraction": Fraction}
    if not example.examples[0].want and len(example.examples) == 1:
        exec(compile(example.examples[0].source, example.name, "exec"), example.globs)
        return
    output: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=output.append, clear_globs=False)
    assert result.failed == 0, "".join(output)


def test_one_call(small_clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    report = gtasr_video.upscale(small_clip, out, model="bicubic", scale=3, start="0:00.2", crf=30)
    assert report.frames_out == 5
    assert report.output["crf"] == 30
    assert size_of(out) == (192, 144)


def test_a_model_of_ones_own(small_clip: Path, tmp_path: Path) -> None:
    model = fakes.Nearest(2)
    report = gtasr_video.upscale(small_clip, tmp_path / "out.mkv", model=model, device="cpu", codec="ffv1", seed=3)
    assert (report.model, report.scale) == ("nearest", 2)
    assert set(model.seeds) == {3}


def test_weights_of_ones_own_by_a_path(small_clip: Path, tmp_path: Path) -> None:
    weights = ROOT / "gtasr_video" / "weights" / "s.safetensors"
    report = gtasr_video.upscale(small_clip, tmp_path / "one.mp4", model=weights, device="cpu", frames=1)
    assert report.model == load_model(weights).facts.name == "s"
    (outcome,) = gtasr_video.upscale_folder([small_clip], tmp_path, model=weights, device="cpu", frames=1)
    assert outcome.state == "done", outcome.message


def test_configurations_as_object_as_name_and_overridden(small_clip: Path, tmp_path: Path) -> None:
    config = UpscaleConfig(model="bicubic", scale=2, crf=40)
    out = tmp_path / "out.mp4"
    assert gtasr_video.upscale(small_clip, out, config=config).output["crf"] == 40
    report = gtasr_video.upscale(small_clip, out, config="fast", model="bicubic", crf=25, overwrite=True)
    assert (report.output["preset"], report.output["crf"]) == ("ultrafast", 25)


def test_an_object_for_frames(small_clip: Path) -> None:
    with Reader(small_clip) as reader:
        frames = list(Upscaler(load_model("bicubic"))(reader))
    assert len(frames) == 10
    assert frames[0].planes[0].shape == (192, 256)


def test_by_hand(small_clip: Path, tmp_path: Path) -> None:
    """The parts give the same bytes as the whole."""
    whole, by_hand = tmp_path / "whole.mp4", tmp_path / "by_hand.mp4"
    gtasr_video.upscale(small_clip, whole, model="bicubic")
    upscaler = Upscaler(load_model("bicubic"))
    with Reader(small_clip) as reader, Writer(by_hand, reader.spec.scaled(4), Encoding(), source=reader) as writer:
        upscaler.start(reader.spec, writer.spec)
        for frame in reader:
            for larger in upscaler.push(frame):
                writer.write(larger)
    assert whole.read_bytes() == by_hand.read_bytes()


def test_errors_are_raised_and_leave_nothing(small_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        gtasr_video.upscale(tmp_path / "none.mp4", tmp_path / "out.mp4", model="bicubic")
    with pytest.raises(ValueError, match="mine") as caught:
        gtasr_video.upscale(small_clip, tmp_path / "out.mp4", model=fakes.FailsAt(4, ValueError("mine")))
    assert caught.value.__notes__ == ["while upscaling frame 4"]
    (tmp_path / "out.mp4").touch()
    with pytest.raises(OutputError, match="exists"):
        gtasr_video.upscale(small_clip, tmp_path / "out.mp4", model="bicubic")
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize("name", ["out.mkv", "out.gif", "out.png"])
def test_an_output_that_is_a_link_goes_where_it_leads(small_clip: Path, tmp_path: Path, name: str) -> None:
    """Parts and journal too: perhaps there is no room for them here."""
    small, large = tmp_path / "small disk", tmp_path / "large disk"
    small.mkdir()
    large.mkdir()
    (small / name).symlink_to(large / f"there-{name}")
    gtasr_video.upscale(small_clip, small / name, model="bicubic", frames=1, drop_unsupported=True)
    assert (small / name).is_symlink()
    assert [path.name for path in large.iterdir()] == [f"there-{name}"]
    with pytest.raises(OutputError, match="exists; use -y"):
        gtasr_video.upscale(small_clip, small / name, model="bicubic", frames=1, drop_unsupported=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scale": "2"}, "'scale' must be a whole number, not '2'"),
        ({"crf": 20.5}, "'crf' must be a whole number, not 20.5"),
        ({"seed": True}, "'seed' must be a whole number, not True"),
        ({"codec": 5}, "'codec' cannot be 5"),
        ({"deinterlace": "yes"}, "'deinterlace' must be one of auto, always, never, not 'yes'"),
        ({"frames": 2.5}, "frames must be a whole number, not 2.5"),
        ({"workers": 1.5}, "workers must be a whole number, not 1.5"),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_refused(
    small_clip: Path, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        gtasr_video.upscale(small_clip, tmp_path / "out.mp4", **({"model": "bicubic", "scale": 2} | given))
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_settings_of_streams_and_of_live_runs_are_looked_at_too() -> None:
    with pytest.raises(UsageError, match=r"'dtype' must be one of .*, not 'int8'"):
        UpscaleConfig(dtype="int8")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"'late' must be one of bicubic, drop, not 'never'"):
        UpscaleConfig(live=LiveConfig(late="never"))  # type: ignore[arg-type]


def test_warnings_go_to_the_log(small_clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("gtasr_video").propagate = True
    odd = fakes.clip(tmp_path / "odd.mkv", 2, fakes.spec(33, 17), Encoding(codec="ffv1"))
    gtasr_video.upscale(odd, tmp_path / "out.mp4", model="bicubic", scale=3)
    assert "99x51 became 100x52" in caplog.text


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (90, Fraction(90)),
        (0.1, Fraction(1, 10)),
        (Fraction(1001, 30000), Fraction(1001, 30000)),
        ("90.5", Fraction(181, 2)),
        ("1:30.5", Fraction(181, 2)),
        ("01:00:00.001", Fraction(3_600_001, 1000)),
        ("100:00:00", Fraction(360_000)),
        ("0", Fraction(0)),
        (" 5 ", Fraction(5)),
        (1e9, Fraction(10**9)),
    ],
)
def test_times_are_exact(given: float | str | Fraction, seconds: Fraction) -> None:
    assert parse_seconds(given) == seconds


@pytest.mark.parametrize("given", ["", "x", "1:2:3:4", "-1", "1:60", "1:-5", "1.5:30", "1/0", "1::2", "nan", "inf", -2])
def test_what_is_not_a_time(given: str) -> None:
    with pytest.raises(UsageError, match=r"time '.*' is not a time; use seconds"):
        parse_seconds(given)


@pytest.mark.parametrize("given", ["1e400", 1e300, "9" * 400, "99999999:00:00"])
def test_a_time_that_cannot_be_counted(given: str | float) -> None:
    with pytest.raises(UsageError, match=r"time '.*' is more than the 1000000000 seconds that can be counted"):
        parse_seconds(given)


def test_pipeline_file_to_file(small_clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    script = ROOT / "pipelines" / "file_to_file.py"
    command = [sys.executable, str(script), str(small_clip), str(out), "--model", "bicubic", "--scale", "2"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, f"{out}: 10 frames\n")
    assert size_of(out) == (128, 96)


def size_of(path: Path) -> tuple[int, int]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.width, stream.height


def test_device_choice_by_name() -> None:
    assert UpscaleConfig(device="cpu", dtype="float32").choose_device().dtype is torch.float32


def test_alpha_of_vp9_survives_a_run(tmp_path: Path) -> None:
    """It lies beside the packets, where segments would lose it."""
    source = see_through(tmp_path / "in.mkv", "ffv1", "yuva420p")
    gtasr_video.upscale(source, tmp_path / "out.webm", model="bicubic", scale=2, preset="8")
    with Reader(tmp_path / "out.webm") as reader:
        assert reader.spec.layout.alpha
        assert len(list(reader)) == 3


def test_transparency_that_an_output_cannot_hold_may_be_left_out(tmp_path: Path) -> None:
    source = see_through(tmp_path / "logo.mov", "prores_ks", "yuva444p10le", profile="4444")
    target = tmp_path / "out.mp4"
    options: dict[str, Any] = {"model": "bicubic", "scale": 2, "preset": "ultrafast"}
    with pytest.raises(UsageError, match="--drop-unsupported"):
        gtasr_video.upscale(source, target, **options)
    report = gtasr_video.upscale(source, target, drop_unsupported=True, **options)
    assert report.frames_out == 3
    assert any("cannot hold transparency; it was left out" in line for line in report.output["warnings"])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda plane: Frame((plane.numpy(),), 0), "planes of a Frame are tensors, not ndarray; torch.from_numpy"),  # type: ignore[arg-type]
        (lambda plane: Frame((plane,), 0.5), "pts and duration of a Frame are whole ticks, not 0.5 and 0"),  # type: ignore[arg-type]
        (lambda plane: Frame((plane,), None), "whole ticks, not None and 0"),  # type: ignore[arg-type]
    ],
)
def test_a_frame_of_something_else_says_what_it_must_be(make: Callable[[torch.Tensor], Frame], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        make(torch.zeros(4, 4, dtype=torch.uint8))


def test_what_is_written_must_be_a_frame(small_clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    with (
        Reader(small_clip) as reader,
        pytest.raises(OutputError, match=r"out\.mp4: frame 0 is a Tensor, not a Frame"),
        Writer(out, reader.spec, source=reader) as writer,
    ):
        writer.write(torch.zeros(3, 48, 64))  # type: ignore[arg-type]
    assert not out.exists()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"source": None}, "source must be text or a path, not NoneType"),
        ({"output": b"out.mp4"}, "output must be text or a path, not bytes"),
        ({"model": 3}, "model must be a tier, a file of weights or a network, not int"),
        ({"config": {"crf": 20}}, "config must be an UpscaleConfig, the name of one, or a .toml file, not dict"),
        ({"progress": "bogus"}, "progress must be one of auto, rich, json, none, not 'bogus'"),
        ({"overwrite": "no"}, "overwrite must be True or False, not 'no'"),
    ],
)
def test_an_argument_of_a_wrong_type_is_said_in_one_line(
    wrong: dict[str, Any], words: str, small_clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    right: dict[str, Any] = {"source": small_clip, "output": out, "model": "bicubic"}
    with pytest.raises(UsageError) as caught:
        gtasr_video.upscale(**(right | wrong))
    assert str(caught.value) == words
    assert not out.exists()


def test_what_is_no_file_and_no_network_is_said_in_one_line(small_clip: Path) -> None:
    calls: list[Callable[[], object]] = [
        lambda: gtasr_video.verify(small_clip, None),  # type: ignore[arg-type]
        lambda: gtasr_video.upscale_folder(3, "out"),  # type: ignore[arg-type]
        lambda: gtasr_video.upscale_folder([None], "out"),  # type: ignore[list-item]
        lambda: gtasr_video.probe(None),  # type: ignore[arg-type]
        lambda: load_model(3),  # type: ignore[arg-type]
        lambda: Upscaler("s"),  # type: ignore[arg-type]
        lambda: Encoding(crf="good"),  # type: ignore[arg-type]
    ]
    for call in calls:
        with pytest.raises(gtasr_video.GTASRVideoError, match=r"not |must be") as caught:
            call()
        assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda _: Reader(None), "text or a path, not by NoneType"),
        (lambda clip: Writer(None, Reader(clip).spec), "text or a path, not by NoneType"),
        (lambda clip: Writer(clip.with_name("new.mkv"), Reader(clip).spec, "ffv1"), "must be an Encoding.* not str"),
        (lambda _: UpscaleConfig.load(3), "text or a path, not by int"),
        (lambda _: load_model("s", scale="4"), "whole numbers, not '4' and 1"),
        (lambda _: load_model("bicubic", scale=2.0), "whole numbers, not 2.0 and 1"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused_in_our_words(
    call: Callable[[Path], Any], said: str, small_clip: Path
) -> None:
    with pytest.raises(GTASRVideoError, match=said):
        call(small_clip)
