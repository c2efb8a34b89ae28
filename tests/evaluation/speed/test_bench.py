"""`gtasr-video bench`: what it measures is there and adds up, and a fallen ratio is found. No time is judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from gtasr_video.errors import EvaluationError
from gtasr_video.evaluation.speed.bench import STAGES
from gtasr_video.evaluation.speed.check import baseline, read, slower
from gtasr_video.evaluation.speed.clock import Samples
from gtasr_video.evaluation.speed.peers import compact
from tests.conftest import Outcome

Cli = Callable[..., Outcome]


def param(folder: Path) -> Path:
    """Write an ncnn network that enlarges by 4 with one layer, and return its path."""
    path = folder / "peer.param"
    path.write_text("7767517\n2 2\nInput in 0 1 data\nInterp up 1 1 data output 0=1 1=4.0 2=4.0\n", encoding="utf-8")
    path.with_suffix(".bin").write_bytes(b"")
    return path


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the results and the peer of one small measurement of the real network."""
    from gtasr_video.cli import invoke

    folder = tmp_path_factory.mktemp("bench")
    results, peer = folder / "results.jsonl", param(folder)
    arguments = ["--size", "64x48", "--frames", "8", "--rounds", "2", "--backend", "torch", "--peer", str(peer)]
    assert invoke(["bench", *arguments, "--out", str(results)]) == 0
    return results, peer


def test_all_that_is_promised_is_there(measured: tuple[Path, Path]) -> None:
    (line,) = measured[0].read_text(encoding="utf-8").splitlines()
    found = json.loads(line)
    assert (found["input"], found["output"], found["frames"]) == ("64x48", "256x192", 8)
    assert list(found["stages"]) == list(STAGES)
    assert list(found["peers"]) == ["peer", "compact (torch)"]
    for facts in [*found["stages"].values(), *found["peers"].values()]:
        assert set(facts) == {"fps", "ms_p50", "ms_p95", "cpu_ms"}
        assert facts["ms_p50"] <= facts["ms_p95"]
    assert found["slowest"] in STAGES
    wanted = {"end_to_end/slowest", "end_to_end/ideal", "model/matrix", "end_to_end/peer", "end_to_end/compact (torch)"}
    assert set(found["ratios"]) == wanted
    assert all(value > 0 for value in found["ratios"].values())
    assert found["ratios"]["end_to_end/peer"] == pytest.approx(found["fps"] / found["peers"]["peer"]["fps"], rel=0.01)
    assert found["peak_rss_mib"] > 50
    assert found["machine"]["cores"] >= 1


def test_a_video_may_be_given_and_checked_against_what_was(
    measured: tuple[Path, Path], small_clip: Path, tmp_path: Path, cli: Cli
) -> None:
    results = tmp_path / "results.jsonl"
    options = ("--model", "bicubic", "--scale", "2", "--frames", "6", "--rounds", "1", "--out", results)
    first = cli("bench", small_clip, *options)
    assert first.code == 0, first.err
    assert "end to end" in first.out
    line = json.loads(results.read_text(encoding="utf-8"))
    assert line["input"] == "64x48"
    line["ratios"] = dict.fromkeys(line["ratios"], 1000000.0)
    results.write_text(json.dumps(line) + "\n", encoding="utf-8")
    fallen = cli("bench", small_clip, *options, "--check", results)
    assert fallen.code == 1
    assert "end_to_end/slowest is" in fallen.err
    assert len(results.read_text(encoding="utf-8").splitlines()) == 2  # it is kept all the same


@pytest.mark.parametrize("line", ["[1]", "{}", '{"ratios": 3}', '{"ratios": {"a": "1"}}'])
def test_a_line_that_is_no_measurement_is_refused(line: str, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(EvaluationError, match="its lines are no measurements of bench"):
        read(file)


def test_only_ratios_that_fell_by_more_than_the_tolerance_count() -> None:
    before = {"ratios": {"a": 1.0, "b": 1.0, "gone": 1.0}}
    assert slower({"ratios": {"a": 0.85, "b": 0.75, "new": 0.1}}, before) == ["b is 0.750, was 1.000"]


def test_a_measurement_of_something_else_is_no_baseline(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    now = {"model": "s", "backend": "torch", "input": "64x48", "output": "256x192"}
    file.write_text(json.dumps(now | {"ratios": {"a": 1}}) + "\n" + json.dumps(now | {"ratios": {"a": 2}}) + "\n")
    assert baseline(read(file), now)["ratios"] == {"a": 2}
    with pytest.raises(EvaluationError, match="no measurement of model m"):
        baseline(read(file), now | {"model": "m"})
    file.write_text("no json")
    with pytest.raises(EvaluationError, match="cannot be read as lines of JSON"):
        read(file)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--size", "320"], 2, "--size 320"),
        (["--frames", "2"], 2, "at least 4 frames"),
        (["missing.mp4"], 1, "missing.mp4"),
        (["--codec", "h266", "--model", "bicubic"], 2, "unknown codec 'h266'"),
        (["--check", "missing.jsonl"], 1, "missing.jsonl: cannot be read (No such file"),
        (["--out", "missing/out.jsonl"], 1, "no folder missing for the measurement"),
        (["--peer", "missing.param", "--size", "32x32", "--frames", "4", "--model", "bicubic"], 1, "missing.param"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(arguments: list[str], code: int, said: str, cli: Cli) -> None:
    outcome = cli("bench", *arguments)
    assert outcome.code == code
    assert said in outcome.err.splitlines()[-1]
    assert "round 1" not in outcome.err


def test_the_backends_it_takes_are_those_there_are() -> None:
    from gtasr_video.api import UpscaleConfig
    from gtasr_video.cli.bench import BACKENDS

    assert get_args(get_type_hints(UpscaleConfig)["backend"]) == BACKENDS


def test_samples_sum_up() -> None:
    samples = Samples(wall_ms=[4.0, 1.0, 3.0, 2.0], cpu_ms=20.0)
    assert samples.facts() == {"fps": 400.0, "ms_p50": 3.0, "ms_p95": 4.0, "cpu_ms": 5.0}


def test_compact_has_the_size_of_its_model() -> None:
    assert 600_000 < sum(p.numel() for p in compact(4).parameters()) < 640_000
