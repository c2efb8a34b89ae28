"""Every command in README.md is run here, or is shown to be one that CI runs; so is its Python."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.clips import Sound, make_clip
from tests.conftest import Outcome

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

# What a test adds to a command so that it takes seconds. Everything else runs as it stands.
SHORTENED = {
    "gtasr-video train": [
        "--set",
        "phases=[{clips=4, batch=2, weights={perceptual=0.0}}]",
        "--set",
        "validation_clips=1",
    ]
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def ours() -> list[list[str]]:
    return [words for words in commands() if words[0] == "gtasr-video"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: in.mp4 with sound, and a few videos to learn from. It is the current one."""
    make_clip(tmp_path / "in.mp4", frames=40, sound=[Sound()])
    (tmp_path / "my_videos").mkdir()
    make_clip(tmp_path / "my_videos" / "one.mp4", frames=24, size=(320, 240))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_has_its_parts() -> None:
    assert ["make", "demo"] in commands()
    assert ["make", "test"] in commands()
    assert len(ours()) >= 5


@pytest.mark.parametrize("words", commands(), ids=shlex.join)
def test_every_command_is_of_a_kind_that_is_run(words: list[str]) -> None:
    """Ours are run below; what installs is a target that CI runs, or what those targets run."""
    if words[0] == "make":
        steps = subprocess.run(
            ["make", "--dry-run", "--always-make", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert steps.returncode == 0, steps.stderr
        assert shlex.join(words) in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    else:
        assert words[0] == "gtasr-video" or words == ["pip", "install", "."]


@pytest.mark.parametrize("words", ours(), ids=shlex.join)
def test_our_commands_do_what_they_say(words: list[str], folder: Path, cli: Callable[..., Outcome]) -> None:
    extra = SHORTENED.get(" ".join(words[:2]), [])
    if words[1] == "verify":
        assert cli("upscale", *words[2:], "--model", "bicubic").code == 0
    outcome = cli(*words[1:], *extra)
    assert outcome.code == 0, outcome.err
    if words[1] == "upscale":
        assert (folder / words[3]).stat().st_size > 0
    elif words[1] == "train":
        assert (folder / words[words.index("--out") + 1] / "best.safetensors").is_file()
    else:
        assert outcome.out


def test_the_python_in_it_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert blocks("python")
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r'src="([^"]+)"', README)
    local = [link for link in links if "://" not in link]
    assert local
    assert [link for link in local if not (ROOT / link).exists()] == []


def test_its_figures_of_what_is_kept_are_those_of_the_table() -> None:
    table = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    cells = [cell.strip() for line in table.splitlines() if line.startswith("| ") for cell in line.split("|")[2:-1]]
    counts = [f"{cells.count(what)} {what}" for what in ("kept", "converted", "refused", "told")]
    assert f"{sum(int(count.split()[0]) for count in counts)} combinations" in README
    assert ", ".join(counts) in README


def test_its_tree_names_what_is_there() -> None:
    """Every folder and file named in the tree exists, and every part of the package is in it."""
    (tree,) = [block for block in blocks("text") if "gtasr_video/" in block]
    names = [line.split()[0] for line in tree.splitlines() if line.strip()]
    top = ROOT
    for line, name in zip(tree.splitlines(), names, strict=True):
        top = ROOT / "gtasr_video" if line.startswith("  ") else ROOT
        assert list(top.glob(name.rstrip("/") + "*")), f"{name} is not there"
    parts = {p.stem for p in (ROOT / "gtasr_video").iterdir() if not p.stem.startswith("__")}
    assert parts <= {name.rstrip("/") for name in names}


def _demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", ROOT / "pipelines" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_demo_writes_the_video_and_a_picture_of_both_sides(tmp_path: Path) -> None:
    demo = _demo()
    report, picture = demo.demo("bicubic", tmp_path / "new", frames=3)
    assert (report.frames_out, report.output["width"], report.output["height"]) == (3, 1280, 544)
    from PIL import Image

    with Image.open(picture) as image:
        assert image.size == (2 * demo.WINDOW["w"] + 4, demo.WINDOW["h"])


def test_the_demo_compares_sound_packet_for_packet(tmp_path: Path) -> None:
    demo = _demo()
    one, other = (make_clip(tmp_path / f"{tone}.mp4", sound=[Sound(tone=tone)]) for tone in (440.0, 441.0))
    copy = tmp_path / "copy.mkv"
    demo.ffmpeg.input(str(one)).output(str(copy), codec="copy").run(cmd=demo.FFMPEG, quiet=True)
    assert demo.sound(one) == demo.sound(copy)
    assert demo.sound(one) != demo.sound(other)


def test_the_sample_is_what_its_page_says() -> None:
    from gtasr_video import Reader

    sample = ROOT / "samples" / "sintel_320x136.mp4"
    page = (ROOT / "samples" / "README.md").read_text(encoding="utf-8")
    with Reader(sample) as reader:
        frames = sum(1 for _ in reader)
        spec = reader.spec
    assert f"{frames} frames" in page
    assert f"{spec.width}x{spec.height}" in page
    assert f"{sample.stat().st_size:,} bytes" in page
    assert sample.stat().st_size <= 400_000
