"""The wheel holds what the program needs and nothing else, works where no checkout is, and tells the truth."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

BASE = {
    "torch",
    "torchaudio",
    "av",
    "numpy",
    "pillow",
    "ffmpeg-python",
    "decord",
    "rich",
    "click",
    "safetensors",
    "imageio-ffmpeg",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an installation of the wheel, far from the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    _pip("install", "--no-deps", "--no-compile", "--target", str(folder), str(wheel))
    return folder


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments, "--no-index"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _run(installed: Path, *arguments: str) -> str:
    """Run Python in the installation's parent, with the installation alone on the path."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=installed.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_holds_the_package_and_the_configurations_and_nothing_else(wheel: Path) -> None:
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    package = {
        str(p.relative_to(ROOT))
        for p in (ROOT / "gtasr_video").rglob("*")
        if p.is_file() and "__pycache__" not in p.parts and p.suffix != ".part"
    }
    configs = {f"gtasr_video/{p.relative_to(ROOT)}" for p in (ROOT / "configs").rglob("*.toml")}
    assert configs
    assert names == package | configs


def test_every_weights_file_ships_with_a_card(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    weights = [n for n in names if n.endswith(".safetensors")]
    assert "gtasr_video/weights/s.safetensors" in weights
    for name in weights:
        assert str(Path(name).with_suffix(".md")) in names, f"{name} has no model card"
    assert not [n for n in names if n.endswith((".pt", ".pth", ".pkl", ".npz"))]


def test_metadata_names_the_base_install_and_the_licences(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (path,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
    facts = email.message_from_bytes(archive.read(path))
    required = [r for r in facts.get_all("Requires-Dist", []) if "extra ==" not in r]
    assert {re.split(r"[<>=!~ ;\[]", r)[0] for r in required} == BASE
    assert any(re.fullmatch(r"torch(<2\.14,>=2\.11|>=2\.11,<2\.14)", r) for r in required)
    assert facts["Requires-Python"] == ">=3.11"
    assert facts["License-Expression"] == "Apache-2.0"
    assert set(facts.get_all("License-File", [])) == {"LICENSE", "NOTICE"}


def test_installed_elsewhere_it_is_complete(installed: Path) -> None:
    """It imports itself and not the checkout, and every shipped configuration is found by name."""
    script = """
import pathlib, sys
import gtasr_video
from gtasr_video.config import config_root, find_config
root = config_root()
found = [str(p.relative_to(root).with_suffix("")) for p in root.rglob("*.toml")]
assert found
for name in found:
    find_config(name, "")
assert not {"torchaudio", "decord"} & set(sys.modules)
print(pathlib.Path(gtasr_video.__file__).parent, root, sep="\\n")
"""
    package, root = _run(installed, "-c", script).splitlines()
    assert Path(package) == installed / "gtasr_video"
    assert Path(root) == installed / "gtasr_video" / "configs"


def test_installed_elsewhere_its_weights_load(installed: Path) -> None:
    script = "from gtasr_video.models import load_model, weights_path; load_model('s'); print(weights_path('s'))"
    assert _run(installed, "-c", script).strip() == str(installed / "gtasr_video" / "weights" / "s.safetensors")


def test_installed_elsewhere_its_command_knows_its_version(installed: Path) -> None:
    said = _run(installed, str(installed / "bin" / "gtasr-video"), "--version").split()[-1]
    assert (installed / f"gtasr_video-{said}.dist-info").is_dir()


def _tracked_texts() -> list[tuple[str, str]]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        paths = [ROOT / n for n in done.stdout.split("\0") if n]
    else:
        paths = [p for p in ROOT.rglob("*") if p.is_file() and not {".venv", ".git"} & set(p.parts)]
    texts = []
    for path in paths:
        try:
            texts.append((str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")))
        except (UnicodeDecodeError, FileNotFoundError):
            continue
    return texts


# Written in pieces, so that this file passes its own test.
PRIVATE = re.compile(
    "|".join(
        [
            r"(?<![\w.])/" + r"work\b",
            r"(?<![\w.])/" + r"(root|home/\w+)/",
            r"\bshared" + r"/",
            r"pypi" + r"\.org",
            r"pythonhosted" + r"\.org",
            r"download\.pytorch" + r"\.org",
            r"(extra-)?index-" + r"url",
            r"find-" + r"links",
        ]
    )
)


def test_no_tracked_text_refers_to_one_machine_or_one_registry() -> None:
    texts = _tracked_texts()
    assert len(texts) > 20
    found = [f"{name}: {match.group()}" for name, text in texts if (match := PRIVATE.search(text)) is not None]
    assert found == []


def test_no_tracked_file_is_huge_but_the_weights() -> None:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    paths = [ROOT / n for n in done.stdout.split("\0") if n]
    large = [p.name for p in paths if p.is_file() and p.suffix != ".safetensors" and p.stat().st_size > 1 << 20]
    assert large == []
