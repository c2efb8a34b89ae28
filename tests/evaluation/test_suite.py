"""A whole measurement over synthetic truth, through the command line as a user runs it."""

from __future__ import annotations

import json
import math
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from gtasr_video.device import choose
from gtasr_video.errors import EvaluationError, GTASRVideoError, describe
from gtasr_video.evaluation.cache import Cache
from gtasr_video.evaluation.command import command, name_methods
from gtasr_video.evaluation.methods import FrameMethod, Program, bicubic
from gtasr_video.evaluation.scores import METRICS, Scorer
from gtasr_video.evaluation.streams import ffmpeg_binary, read_frames, write_frames, x264
from gtasr_video.evaluation.suite import EvaluateConfig, Results, Row, evaluate
from gtasr_video.evaluation.truth import Clip, degrade
from tests.evaluation.conftest import scene


def run(*arguments: object, env: dict[str, str | None] | None = None) -> Result:
    clean: dict[str, str | None] = {"GTASR_VGG": None, "GTASR_NIQE": None}
    return CliRunner().invoke(command, [str(a) for a in arguments], env=clean | (env or {}), catch_exceptions=True)


def failure(result: Result) -> str:
    assert isinstance(result.exception, GTASRVideoError), result.exception
    line = describe(result.exception)
    assert "\n" not in line
    return line


@pytest.fixture(scope="module")
def measured(truth_folder: Path, vgg_file: Path, niqe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One run over a video and a picture, with everything there is to give."""
    out, cache = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("cache")
    nearest = f"'{ffmpeg_binary()}' -i {{input}} -vf scale=2*iw:2*ih:flags=neighbor -c:v ffv1 {{output}}"
    arguments = [truth_folder, "--degradation", "web", "--degradation", "hard", "--vgg", vgg_file, "--niqe", niqe_file]
    arguments += ["--model", "bicubic", "--device", "cpu", "--scale", 2, "--cache", cache, "--out", out]
    arguments += ["--peer-command", nearest, "--set", "vgg_every=2"]
    result = run(*arguments)
    assert result.exception is None, result.output
    return out, result, json.loads((out / "results.json").read_text())


def test_every_clip_degradation_and_method_has_a_row(measured: Any) -> None:
    _, _, data = measured
    rows = [(r["clip"], r["degradation"], r["method"]) for r in data["rows"]]
    program = Path(ffmpeg_binary()).name
    methods = ["bicubic", "lanczos", program, "bicubic #2"]
    clips = ["moving", "stills/still"]
    assert rows == [(c, d, m) for c in clips for d in ("web", "hard") for m in methods]


def test_every_metric_is_there_where_it_applies(measured: Any) -> None:
    _, _, data = measured
    for row in data["rows"]:
        absent = {name for name in METRICS if row["scores"][name] is None}
        # The clips are too small for NIQE, and a picture has no change over time.
        assert absent == ({"niqe"} if row["clip"] == "moving" else {"niqe", "warping", "jitter"})


def test_means_are_means_and_bicubic_is_the_yardstick(measured: Any) -> None:
    _, _, data = measured
    for mean in data["means"]:
        rows = [r["scores"] for r in data["rows"] if all(r[k] == mean[k] for k in ("degradation", "method"))]
        assert mean["psnr"] == pytest.approx(sum(r["psnr"] for r in rows) / 2)
        assert mean["jitter"] == pytest.approx(rows[0]["jitter"])
    yardstick = [m for m in data["means"] if m["method"] == "bicubic"]
    assert all((m["psnr_gain"], m["vgg_ratio"], m["jitter_ratio"]) == (0, 1, 1) for m in yardstick)


def test_the_model_measured_scores_as_the_same_filter_does(measured: Any) -> None:
    _, _, data = measured
    twins = [m for m in data["means"] if m["method"] == "bicubic #2"]
    assert all(abs(m["psnr_gain"]) < 0.05 and m["vgg_ratio"] == pytest.approx(1, abs=0.01) for m in twins)


def test_harder_damage_scores_worse(measured: Any) -> None:
    _, _, data = measured
    web, hard = (next(m for m in data["means"] if m["degradation"] == d) for d in ("web", "hard"))
    assert web["psnr"] > hard["psnr"] and web["vgg"] < hard["vgg"]


def test_table_page_and_sheets_are_written(measured: Any) -> None:
    out, result, _ = measured
    assert "web: mean of 2 clips" in result.stdout and "bicubic #2" in result.stdout
    page = (out / "report.html").read_text()
    assert page.count("<img ") == 2 * (6 * 2 + 6), "six panels a clip and degradation, with a slice for the video"
    assert "http" not in page.replace("data:image", "")
    sheets = sorted(p.name for p in (out / "sheets").iterdir())
    assert sheets == ["moving-hard.jpg", "moving-web.jpg", "stills-still-hard.jpg", "stills-still-web.jpg"]


def test_metrics_without_weights_are_left_out_and_said_so(truth_folder: Path, tmp_path: Path) -> None:
    result = run(truth_folder / "stills", "--config", "quick", "--cache", tmp_path, "--device", "cpu")
    assert result.exception is None, result.output
    assert "VGG16 distance left out" in result.stdout and "NIQE left out" in result.stdout
    assert "VGG16 ratio" not in result.stdout and "jitter" not in result.stdout


def test_weights_may_come_from_the_environment(truth_folder: Path, vgg_file: Path, tmp_path: Path) -> None:
    arguments = (truth_folder / "stills", "--config", "quick", "--cache", tmp_path, "--device", "cpu")
    result = run(*arguments, env={"GTASR_VGG": str(vgg_file)})
    assert "VGG16 ratio" in result.stdout
    result = run(*arguments, "--vgg", "none", env={"GTASR_VGG": str(vgg_file)})
    assert "VGG16 distance left out" in result.stdout


def counting(calls: list[int]) -> FrameMethod:
    plain = bicubic(4)

    def upscale(frames):  # type: ignore[no-untyped-def]
        calls.append(1)
        return plain.upscale(frames)

    return FrameMethod("counting", "counting", upscale)


def test_what_was_measured_is_not_measured_again(truth_folder: Path, tmp_path: Path) -> None:
    calls: list[int] = []
    config = EvaluateConfig(degradations=("web",))
    found = []
    for _ in range(2):
        cache = Cache(tmp_path)
        methods = {"bicubic": bicubic(4), "counting": counting(calls)}
        found.append(evaluate([truth_folder / "stills"], methods, config, Scorer(None, None, choose("cpu")), cache))
        cache.close()
    assert len(calls) == 1
    assert found[0].rows == found[1].rows


def scored(clip: Clip, cache: Cache, frames: list[torch.Tensor], tmp_path: Path) -> dict[str, float | None]:
    write_frames(tmp_path / "result.mkv", frames)
    return Scorer(None, None, choose("cpu"))(degrade(clip, "clean", 4, 0, cache), tmp_path / "result.mkv")


def test_the_truth_itself_scores_best(clip: Clip, cache: Cache, tmp_path: Path) -> None:
    scores = scored(clip, cache, list(read_frames(clip.path)), tmp_path)
    assert (scores["psnr"], scores["jitter"]) == (100, 0)
    assert scores["ssim"] == pytest.approx(1) and (scores["vmaf"] or 0) > 95
    assert scores["vgg"] is None


def test_flicker_is_seen_by_jitter_and_a_tint_by_color(clip: Clip, cache: Cache, tmp_path: Path) -> None:
    truth = list(read_frames(clip.path))
    flicker = [(f.int() + 6 * (k % 2)).clamp(0, 255).byte() for k, f in enumerate(truth)]
    assert scored(clip, cache, flicker, tmp_path)["jitter"] == pytest.approx(6, abs=0.5)
    tinted = [torch.cat([f[:1], f[1:2], (f[2:].int() + 10).clamp(0, 255).byte()]) for f in truth]
    calm = scored(clip, cache, tinted, tmp_path)
    assert calm["jitter"] == pytest.approx(0, abs=0.3) and (calm["color"] or 0) > 3


def test_a_result_of_another_size_or_length_is_an_error(clip: Clip, cache: Cache, tmp_path: Path) -> None:
    truth = list(read_frames(clip.path))
    with pytest.raises(EvaluationError, match="has 3 frames, the truth 4"):
        scored(clip, cache, truth[:3], tmp_path)
    with pytest.raises(EvaluationError, match="has more frames, the truth 4"):
        scored(clip, cache, [*truth, truth[0]], tmp_path)
    with pytest.raises(EvaluationError, match="made for another scale"):
        scored(clip, cache, scene(4, 64, 64), tmp_path)


def test_costly_metrics_can_be_measured_on_a_few_frames(
    clip: Clip, cache: Cache, vgg_file: Path, tmp_path: Path
) -> None:
    truth = list(read_frames(clip.path))
    write_frames(tmp_path / "result.mkv", [255 - f if k == 2 else f for k, f in enumerate(truth)])
    low = degrade(clip, "clean", 4, 0, cache)
    every, middle, first = (Scorer(vgg_file, None, choose("cpu"), n)(low, tmp_path / "result.mkv") for n in (1, 4, 3))
    assert (every["vgg"] or 0) > 0 and middle["vgg"] == pytest.approx(4 * (every["vgg"] or 0), rel=1e-5)
    assert first["vgg"] == pytest.approx(0, abs=1e-6), "frame 1 alone is looked at, which is as the truth"
    assert every["psnr"] == middle["psnr"] and every["jitter"] == middle["jitter"]


def test_a_mean_leaves_out_what_does_not_apply() -> None:
    rows = [
        Row("a", "web", "bicubic", {"psnr": 20.0, "jitter": 2.0, "vgg": 2.0}),
        Row("b", "web", "bicubic", {"psnr": 30.0, "jitter": None, "vgg": 1.0}),
        Row("a", "web", "ours", {"psnr": 21.0, "jitter": 1.0, "vgg": 1.5}),
        Row("b", "web", "ours", {"psnr": 31.0, "jitter": None, "vgg": 0.9}),
    ]
    mean = Results(rows).mean("web", "ours")
    assert mean["jitter"] == 1 and mean["jitter_ratio"] == 0.5
    assert mean["psnr_gain"] == 1 and mean["vgg_ratio"] == pytest.approx(0.8)
    assert mean["vmaf"] is None


def test_names_stay_apart() -> None:
    same = [FrameMethod("best", None, iter) for _ in range(3)]
    assert list(name_methods(same)) == ["best", "best #2", "best #3"]


def test_a_failing_peer_is_named_with_the_clip(truth_folder: Path, tmp_path: Path) -> None:
    broken = f"'{sys.executable}' -c 'raise SystemExit(3)' {{input}} {{output}}"
    result = run(truth_folder / "stills", "--peer-command", broken, "--config", "quick", "--cache", tmp_path)
    line = failure(result)
    assert "failed with 3" in line and "stills" not in line.split("(")[0] and "on still, web" in line
    assert Program(broken).name == Path(sys.executable).name


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("'{python}' -c '' {{input}} {{output}}", "wrote no file {output} (it said nothing)"),
        ("{text} {{input}} {{output}}", "cannot be run (Exec format error)"),
    ],
)
def test_a_peer_that_makes_nothing_is_told_as_that(
    command: str, reason: str, truth_folder: Path, tmp_path: Path
) -> None:
    """It had "failed with 0", and a file that is no program was a cache that cannot be written."""
    (text := tmp_path / "text").write_text("no program")
    text.chmod(0o755)
    peer = command.format(python=sys.executable, text=text)
    result = run(truth_folder / "stills", "--peer-command", peer, "--config", "quick", "--cache", tmp_path / "cache")
    assert reason in failure(result) and "choose --cache" not in failure(result)


def test_a_peers_result_that_cannot_be_measured_is_not_kept(truth_folder: Path, tmp_path: Path) -> None:
    """A peer that was mended in a way that its command does not show was held to its old result for ever."""
    large = tmp_path / "large.mkv"
    peer = FrameMethod("bicubic", "mended", lambda frames: read_frames(large))
    scorer, config = Scorer(None, None, choose("cpu")), EvaluateConfig(degradations=("web",), scale=2)
    with closing(Cache(tmp_path / "cache")) as cache:
        write_frames(large, scene(1, 50, 50))
        with pytest.raises(EvaluationError, match="the result is 50x50, the truth 100x100"):
            evaluate([truth_folder / "stills"], {"bicubic": peer}, config, scorer, cache)
        write_frames(large, scene(1, 100, 100))
        assert evaluate([truth_folder / "stills"], {"bicubic": peer}, config, scorer, cache).rows


@pytest.fixture
def half_damaged(truth_folder: Path, tmp_path: Path) -> Path:
    """A folder of truth whose first file is damaged far behind its first picture, and whose second is whole."""
    (folder := tmp_path / "half").mkdir()
    write_frames(folder / "a.mp4", scene(4, 98, 134) * 12, x264(10))
    data = bytearray((folder / "a.mp4").read_bytes())
    at = len(data) * 17 // 20
    data[at : at + 1000] = b"U" * 1000
    (folder / "a.mp4").write_bytes(data)
    (folder / "b.mp4").symlink_to(truth_folder / "moving.mp4")
    return folder


def test_damaged_truth_is_left_out_and_the_rest_measured(half_damaged: Path, tmp_path: Path) -> None:
    """It ended there, and what had been measured before was lost."""
    result = run(half_damaged, "--degradation", "web", "--no-cache", "--scale", 2, "--out", tmp_path / "out")
    assert "1 of the truth left out" in failure(result) and "a.mp4: cannot be decoded" in failure(result)
    assert "@ 0x" not in failure(result)  # addresses in memory, which ffmpeg puts before its lines
    data = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {row["clip"] for row in data["rows"]} == {"b"}
    assert "left out" in data["notes"][-1] and "left out" in (tmp_path / "out" / "report.html").read_text()
    assert "mean of 1 clip" in result.output


def test_what_was_measured_before_an_error_is_shown(truth_folder: Path, tmp_path: Path) -> None:
    """Hours of measuring were lost with the one clip that a peer could not do."""
    once = tmp_path / "once"
    code = "import os, subprocess, sys; os.mkdir(sys.argv[1]); subprocess.run(sys.argv[2:], check=True)"
    enlarge = f"'{ffmpeg_binary()}' -i {{input}} -vf scale=2*iw:2*ih -c:v ffv1 {{output}}"
    peer = f"'{sys.executable}' -c '{code}' {once} {enlarge}"
    result = run(
        truth_folder, "--config", "quick", "--no-cache", "--scale", 2, "--out", tmp_path / "out", "--peer-command", peer
    )
    assert "FileExistsError" in failure(result) and "on stills/still, web" in failure(result)
    data = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {row["clip"] for row in data["rows"]} == {"moving"} and "ended early" in data["notes"][-1]
    assert "mean of 1 clip" in result.output and (tmp_path / "out" / "report.html").is_file()


def test_brackets_in_a_files_name_are_no_markup(truth_folder: Path, tmp_path: Path) -> None:
    """``film [x264]`` was shown as ``film``, and ``a[/b]`` ended the measurement when all was measured."""
    (folder := tmp_path / "truth" / "a[").mkdir(parents=True)
    for name in ("film [x264].png", "b].png"):
        (folder.parent / name).symlink_to(truth_folder / "stills" / "still.png")
    (folder / "b].png").symlink_to(truth_folder / "stills" / "still.png")
    result = run(folder.parent, "--config", "quick", "--no-cache", "--scale", 2)
    assert result.exception is None
    assert "film [x264]" in result.output and "a[/b]" in result.output


@pytest.mark.parametrize(
    ("arguments", "reason", "code"),
    [
        ([], "no truth given", 2),
        (["none-here"], "no such file or folder of truth", 1),
        (["{truth}", "--degradation", "wbe"], "did you mean 'web'", 2),
        (["{truth}", "--scale", "5"], "scale must be", 2),
        (["{truth}", "--seed", str(2**63)], "seed must lie within", 2),
        (["{truth}", "--limit-frames", "0"], "limit_frames must be at least 1", 2),
        (["{truth}", "--set", "degradation=web"], "did you mean 'degradations'", 2),
        (["{truth}", "--config", "quik"], "did you mean", 2),
        (["{truth}", "--vgg", "none.npz"], "no such file of VGG16 weights", 1),
        (["{truth}", "--niqe", "none.mat"], "no such file of NIQE parameters", 1),
        (["{truth}", "--peer", "bicubik"], "did you mean 'bicubic'", 1),
        (["{truth}", "--model", "xl"], "no model 'xl'", 2),
        (["{truth}", "--device", "tpu"], "device", 2),
        (["{truth}", "--out", "{truth}/notes.txt"], "cannot be written", 1),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], reason: str, code: int, truth_folder: Path) -> None:
    result = run(*(a.replace("{truth}", str(truth_folder)) for a in arguments), "--no-cache")
    assert reason in failure(result)
    assert isinstance(result.exception, GTASRVideoError) and result.exception.exit_code == code


def test_a_missing_extra_is_named(truth_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "cv2" else math)
    assert "opencv-python-headless; pip install 'gtasr-video[evaluate]'" in failure(run(truth_folder))


def test_what_cannot_be_measured_is_said_before_anything_is(truth_folder: Path, tmp_path: Path) -> None:
    """One bad file among many cost the measurements of all before it."""
    (folder := tmp_path / "truth").mkdir()
    (folder / "a.mp4").symlink_to(truth_folder / "moving.mp4")
    (folder / "z.mp4").write_bytes(b"no video")
    asked = []
    nothing = FrameMethod("bicubic", None, lambda frames: iter([asked.append(frames)]))  # type: ignore[arg-type]
    scorer, config = Scorer(None, None, choose("cpu")), EvaluateConfig(degradations=("web",))
    with closing(Cache(None)) as cache, pytest.raises(EvaluationError, match=r"z\.mp4: cannot be decoded"):
        evaluate([folder], {"bicubic": nothing}, config, scorer, cache)
    assert not asked


def test_the_room_of_a_clip_is_given_back_when_it_is_measured(
    truth_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lossless copies of all clips filled the disk where there were many."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scorer, config = Scorer(None, None, choose("cpu")), EvaluateConfig(degradations=("web",), scale=2)
    with closing(Cache(None)) as cache:
        evaluate([truth_folder], {"bicubic": bicubic(2)}, config, scorer, cache)
        left = [path.name for path in tmp_path.rglob("*") if path.suffix in (".mkv", ".mp4")]
    assert not left
