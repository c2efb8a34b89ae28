"""The command line does what it says: the file, the report, the bytes, the exit codes, and nothing left on Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from gtasr_video.api import UpscaleConfig
from gtasr_video.cli import COMMANDS
from gtasr_video.models import save_model
from gtasr_video.runtime.backends import openvino
from gtasr_video.runtime.backends.calibration import shots
from gtasr_video.runtime.report import Report
from tests import fakes
from tests.clips import Sound, make_clip, phone_times
from tests.conftest import Outcome
from tests.models.networks import tiny

Cli = Callable[..., Outcome]
MODEL = ("--model", "bicubic")


def test_upscale_makes_a_larger_file_with_the_same_times(cli: Cli, small_clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    done = cli("upscale", small_clip, out, *MODEL)
    assert done.code == 0, done.err
    assert done.out == ""
    pattern = (
        rf"{re.escape(str(out))}: 10 frames of 256x192 in [\d.]+ s, [\d.]+ fps \([\d.]+x real time, limited by \w+\)"
    )
    assert re.fullmatch(pattern, done.err.strip())
    assert times(out) == times(small_clip)
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.codec_context.name) == (256, 192, "h264")
    assert list(tmp_path.iterdir()) == [out]


def times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def test_a_phone_s_video_keeps_every_time_and_every_packet_of_sound(cli: Cli, tmp_path: Path) -> None:
    sound = (Sound("aac", "eng"), Sound("aac", "deu", tone=220))
    clip = make_clip(tmp_path / "in.mp4", pts=phone_times(90), time_base=Fraction(1, 90000), sound=sound)
    out = tmp_path / "out.mp4"
    assert cli("upscale", clip, out, *MODEL, "--progress", "none") == Outcome(0, "", "")
    with av.open(str(clip)) as source, av.open(str(out)) as large:
        assert [s.language for s in large.streams.audio] == ["eng", "deu"]
        for stream in source.streams.audio:
            assert packets(large, stream.index) == packets(source, stream.index)
    assert times(out) == times(clip)
    assert len(times(out)) == 90


def packets(container: av.container.InputContainer, index: int) -> list[tuple[int | None, bytes]]:
    container.seek(0)
    return [(p.pts, bytes(p)) for p in container.demux(container.streams[index]) if p.size]


def test_the_same_input_gives_the_same_bytes(cli: Cli, small_clip: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.mp4", tmp_path / "two.mp4"
    for out in (one, two):
        assert cli("upscale", small_clip, out, *MODEL, "--progress", "none") == Outcome(0, "", "")
    assert one.read_bytes() == two.read_bytes()


def test_options_reach_the_encoder(cli: Cli, small_clip: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "out.mkv", tmp_path / "report.json"
    options = ("--codec", "h265", "--crf", "30", "--preset", "ultrafast", "--pix-fmt", "yuv420p10le", "--scale", "2")
    done = cli("upscale", small_clip, out, *MODEL, *options, "--seed", "5", "--report", report)
    assert done.code == 0, done.err
    facts = json.loads(report.read_text())
    wanted = {"codec": "h265", "crf": 30, "preset": "ultrafast", "pix_fmt": "yuv420p10le", "width": 128, "height": 96}
    assert {key: facts["output"][key] for key in wanted} == wanted
    assert (facts["model"], facts["scale"], facts["seed"], facts["device"]) == ("bicubic", 2, 5, "cpu")


def test_the_report_has_every_key(cli: Cli, small_clip: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert cli("upscale", small_clip, tmp_path / "out.mp4", *MODEL, "--report", report).code == 0
    facts = json.loads(report.read_text())
    assert set(facts) == set(Report.__dataclass_fields__)
    assert (facts["frames_in"], facts["frames_out"], facts["frames_dropped"]) == (10, 10, 0)
    assert facts["fps"] == pytest.approx(10 / facts["seconds"])


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (("--start", "0.2"), [5, 10]),
        (("--start", "0:00.2", "--duration", "0.08"), [5, 7]),
        (("--duration", "00:00:0.12"), [0, 3]),
        (("--start", "0.12", "--frames", "4"), [3, 7]),
        (("--frames", "99"), [0, 10]),
    ],
    ids=str,
)
def test_a_part_of_the_input(
    window: tuple[str, ...], expected: list[int], cli: Cli, small_clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mkv"
    lossless = ("--codec", "ffv1", "--scale", "1", "--progress", "none")
    done = cli("upscale", small_clip, out, *MODEL, *lossless, *window)
    assert (done.code, done.err) == (0, "")
    first, end = expected
    assert len(times(out)) == end - first
    with av.open(str(out)) as container, av.open(str(small_clip)) as source:
        got = next(container.decode(video=0)).to_ndarray()[0, 0]
        wanted = [frame.to_ndarray()[0, 0] for frame in source.decode(video=0)][first]
    assert got == wanted


def test_a_configuration_by_name_a_setting_and_an_option(cli: Cli, small_clip: Path, tmp_path: Path) -> None:
    """The file goes before the defaults, --set before the file, an option before both."""
    report = tmp_path / "report.json"
    arguments = ("--config", "quality", "--set", "model=bicubic", "--set", "crf=20", "--scale", "2", "--report", report)
    assert cli("upscale", small_clip, tmp_path / "a.mp4", *arguments).code == 0
    output = json.loads(report.read_text())["output"]
    assert (output["preset"], output["crf"], output["width"]) == ("slow", 20, 128)
    assert cli("upscale", small_clip, tmp_path / "b.mp4", *arguments, "--crf", "33").code == 0
    assert json.loads(report.read_text())["output"]["crf"] == 33


@pytest.mark.parametrize("name", ["quality", "fast", "live"])
@pytest.mark.parametrize("codec", ["h264", "h265", "av1", "vp9", "prores", "ffv1"])
def test_shipped_configurations_go_with_every_codec(
    name: str, codec: str, cli: Cli, small_clip: Path, tmp_path: Path
) -> None:
    out, report = tmp_path / "out.mkv", tmp_path / "report.json"
    done = cli(
        "upscale", small_clip, out, *MODEL, "--config", name, "--codec", codec, "--frames", "2", "--report", report
    )
    assert done.code == 0, done.err
    assert json.loads(report.read_text())["output"]["codec"] == codec


@pytest.mark.parametrize("name", ["quality", "fast", "live"])
def test_shipped_configurations_load_and_hold_differences_only(name: str) -> None:
    loaded = UpscaleConfig.load(name)
    assert loaded != UpscaleConfig()
    loaded.encoding  # noqa: B018 - it must build


def test_the_defaults_named_in_the_help_are_the_defaults(cli: Cli) -> None:
    options = " ".join(cli("upscale", "--help").out.split("Options:")[1].split()).split(" --")
    defaults = UpscaleConfig()
    for name in ("model", "scale", "steps", "seed", "device"):
        (option,) = [text for text in options if text.removeprefix("--").startswith(f"{name} ")]
        assert f"[default: {getattr(defaults, name)}]" in option


def test_verbose_says_what_is_used_and_why(cli: Cli, small_clip: Path, tmp_path: Path) -> None:
    done = cli("upscale", small_clip, tmp_path / "out.mp4", *MODEL, "-v", "--progress", "none")
    lines = done.err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["input", "model", "device", "output", "memory"]
    assert "cpu in float32 by torch (" in lines[2]
    assert "frames take at most 7 x 0.0 MB in + 7 x 0.1 MB out" in lines[4]


@pytest.mark.parametrize("target", ["out.png", "out.gif", "out.m3u8"])
def test_verbose_says_it_of_pictures_and_streams_too(target: str, cli: Cli, small_clip: Path, tmp_path: Path) -> None:
    done = cli("upscale", small_clip, tmp_path / target, *MODEL, "--frames", "1", "-v", "--progress", "none")
    subjects = [line.split(":")[1].strip() for line in done.err.splitlines()]
    assert subjects[:5] == ["input", "model", "device", "output", "memory"]


def test_progress_as_json_lines(cli: Cli, small_clip: Path, tmp_path: Path) -> None:
    done = cli("upscale", small_clip, tmp_path / "out.mp4", *MODEL, "--progress", "json")
    *lines, summary = done.err.splitlines()
    last = json.loads(lines[-1])
    assert (last["frame"], last["frames"], last["done"], last["eta_s"]) == (10, 10, 1.0, 0.0)
    assert "10 frames" in summary


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gtasr_video", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_half_done_and_says_130(number: signal.Signals, tmp_path: Path) -> None:
    clip = fakes.clip(tmp_path / "in.mp4", 300, fakes.spec(320, 240))
    out = tmp_path / "out.mp4"
    process = start("upscale", clip, out, *MODEL, "--progress", "json")
    assert process.stderr is not None
    assert json.loads(process.stderr.readline())["frame"] < 300
    assert (tmp_path / "out.mp4.job").exists()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "gtasr-video: interrupted"
    assert "Traceback" not in err
    kept = tmp_path / "out.mp4.job"
    assert sorted(tmp_path.iterdir()) == ([clip, kept] if "are kept in" in err else [clip])


def test_a_job_leaves_a_file_of_the_users_alone(cli: Cli, small_clip: Path, tmp_path: Path) -> None:
    mine = tmp_path / "out.part.mp4"
    mine.write_bytes(b"part one of my film")
    done = cli("upscale", small_clip, tmp_path / "out.mp4", *MODEL)
    assert (done.code, "part" in done.err) == (0, False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "out.part.mp4"]
    assert mine.read_bytes() == b"part one of my film"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "--data", "", "--out", "x"], "--data"),
        (["train", "--data", "x", "--out", ""], "--out"),
        (["pack", "--data", "x", "--out", ""], "--out"),
        (["evaluate", ""], "an argument of evaluate"),
    ],
)
def test_an_empty_name_is_not_this_folder(cli: Cli, arguments: list[str], named: str) -> None:
    """As `--data "$CLIPS"` gives it where the variable is not set."""
    done = cli(*arguments)
    assert (done.code, done.out) == (2, "")
    assert f"error: {named} is empty, as an unset variable of a shell is" in done.err


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = start("--help")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


def test_info_about_this_machine(cli: Cli) -> None:
    done = cli("info")
    assert (done.code, done.err) == (0, "")
    facts = dict(line.split("  ", 1) for line in done.out.splitlines())
    wanted = {"gtasr-video", "Python", "packages", "extras", "device", "cores", "encode h264", "ffmpeg", "weights"}
    assert wanted <= set(facts)
    assert "libx264" in facts["encode h264"]
    assert "not libx264" not in facts["encode h264"]
    assert f"{len(os.sched_getaffinity(0))};" in facts["cores"]


def test_info_about_a_file(cli: Cli, small_clip: Path, tmp_path: Path) -> None:
    done = cli("info", small_clip)
    assert (done.code, done.err) == (0, "")
    lines = dict(line.split("  ", 1) for line in done.out.splitlines())
    assert lines["path"].strip() == str(small_clip)
    assert "codec h264" in lines["video 0"]
    for fact in ("width 64", "height 48", "pix fmt yuv420p", "frame rate 25", "frames 10"):
        assert fact in lines["video 0"]
    missing = cli("info", tmp_path / "none.mp4")
    assert missing.code == 1
    assert missing.err == f"gtasr-video: error: no such file: {tmp_path / 'none.mp4'}\n"
    pipe = cli("info", "-")
    assert pipe.code == 2
    assert "not into pipes" in pipe.err


def test_models_lists_every_tier_with_its_budget(cli: Cli) -> None:
    done = cli("models")
    assert (done.code, done.err) == (0, "")
    rows = {line.split()[0]: line for line in done.out.splitlines() if line}
    assert {"s", "m", "l", "bicubic"} <= set(rows)
    assert re.search(r"0\.\d+ M +1 M ", rows["s"])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, cli: Cli) -> None:
    done = cli(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: gtasr-video {name}")
    assert COMMANDS[name].help in cli("--help").out


def test_alone_it_says_what_there_is(cli: Cli) -> None:
    done = cli()
    assert done.code == 2
    assert "Usage: gtasr-video" in done.err
    assert done.out == ""


def test_train_needs_data_and_a_folder(cli: Cli, tmp_path: Path) -> None:
    assert cli("train").err == "gtasr-video: error: no training data given; name folders with --data DIR...\n"
    outcome = cli("train", "--data", tmp_path)
    assert (outcome.code, outcome.err) == (
        2,
        "gtasr-video: error: no folder for the run given; name one with --out DIR\n",
    )
    outcome = cli("train", "--data", tmp_path, "--out", tmp_path / "run", "--set", "tire=s")
    assert outcome.code == 2
    assert "unknown key 'tire' (did you mean 'tier'?)" in outcome.err


def test_train_hands_on_what_it_was_given(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gtasr_video.training import loop

    given: dict[str, object] = {}

    def train(settings, data, out, *, device, init, resume, on_step):
        given.update(settings=settings, data=data, out=out, device=device.name, init=init, resume=resume)
        on_step({"step": 1, "stage": 1, "phase": 0, "loss": 0.5, "loss/ct": 0.5})
        return out / "best.safetensors"

    monkeypatch.setattr(loop, "train", train)
    out = tmp_path / "run"
    arguments = (
        "--config",
        "train/smoke",
        "--set",
        "seed=9",
        "--data",
        "a",
        "b",
        "--data",
        "c",
        "--out",
        out,
        "--init",
        "w.safetensors",
        "--resume",
    )
    done = cli("train", *arguments, "--device", "cpu")
    assert done.code == 0, done.err
    assert f"weights are in {out / 'best.safetensors'}" in done.err.splitlines()[-1]
    assert given.pop("settings").seed == 9  # type: ignore[attr-defined]
    assert sorted(map(str, given.pop("data"))) == ["a", "b", "c"]  # type: ignore[call-overload]
    assert given == {"out": out, "device": "cpu", "init": Path("w.safetensors"), "resume": True}


def test_the_module_runs_like_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gtasr_video", "--version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout.startswith("gtasr-video ")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights for x1, x2 and x4 of a tiny network."""
    path = tmp_path_factory.mktemp("own") / "own.safetensors"
    save_model(path, tiny(scales=(4, 2, 1)))
    return path


@pytest.mark.parametrize(("options", "times_as_wide"), [(("1",), 1), (("2", "--steps", "2"), 2), (("8",), 8)], ids=str)
def test_scales_that_restore_and_that_are_composed(
    options: tuple[str, ...],
    times_as_wide: int,
    own: Path,
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What 8 bits cost is not asked here.
    monkeypatch.setattr(openvino, "shots", lambda: [shot[:2, :, :64, :96] for shot in shots()[:1]])
    source, out = fakes.clip(tmp_path / "in.mp4", 3, fakes.spec(50, 34)), tmp_path / "out.mp4"
    done = cli("upscale", source, out, "--model", own, "--device", "cpu", "--progress", "none", "--scale", *options)
    assert (done.code, done.err) == (0, "")
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (50 * times_as_wide, 34 * times_as_wide)
        assert len(list(container.decode(video=0))) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--scale", "5"), "own.safetensors: no weights for scale 5 (it has 1, 2, 3, 4, 8)"),
        (("--scale", "0"), "own.safetensors: no weights for scale 0 (it has 1, 2, 3, 4, 8)"),
        (("--steps", "9"), "own.safetensors: a path of 4 steps allows 1 to 4 of them at inference, not 9"),
        (("--model", "bicubic", "--steps", "2"), "bicubic has no path to take 2 steps on; leave out --steps"),
    ],
    ids=str,
)
def test_scales_and_steps_that_a_network_does_not_have(
    options: tuple[str, ...], said: str, own: Path, cli: Cli, small_clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    done = cli("upscale", small_clip, out, "--model", own, "--progress", "none", *options)
    assert done.code == 2
    assert done.err.strip().endswith(said)
    assert len(done.err.splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "closed", "code", "said"),
    [
        (("upscale", "{in}", "{out}", "--model", "bicubic"), "0<&- 1>&- 2>&-", 0, ""),
        (("models",), "1>&-", 0, ""),
        (("upscale", "{in}", "-", "--model", "bicubic"), "1>&-", 2, "standard output is closed; name an output file"),
        (("upscale", "-", "{out}", "--model", "bicubic"), "0<&-", 2, "standard input is closed; name an input file"),
    ],
    ids=["all", "out", "wanted out", "wanted in"],
)
def test_standard_streams_that_are_closed(
    arguments: tuple[str, ...], closed: str, code: int, said: str, small_clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    words = [word.format_map({"in": str(small_clip), "out": str(out)}) for word in arguments]
    command = shlex.join([sys.executable, "-m", "gtasr_video", *words])
    done = subprocess.run(["bash", "-c", f"{command} {closed}"], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr
    assert out.exists() == ("{in}" in arguments and "{out}" in arguments)
