"""Who may import whom, and what importing must not load: read from the source, so that no import escapes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gtasr_video"

# cli -> api -> runtime, training, evaluation -> media, models -> ops -> frames, errors, device, config
LAYERS = {
    "__main__": 6,
    "cli": 5,
    "batch": 4,
    "api": 4,
    "runtime": 3,
    "training": 3,
    "evaluation": 3,
    "media": 2,
    "models": 2,
    "ops": 1,
    "frames": 0,
    "errors": 0,
    "masking": 0,
    "audit": 0,
    "device": 0,
    "config": 0,
    "ending": 0,
    "pages": 0,
    "weights": 0,
}
# A folder may use itself; these may also use another of their own layer. Evaluation runs what it measures.
BESIDE = {
    ("errors", "masking"),
    ("frames", "errors"),
    ("device", "errors"),
    ("config", "errors"),
    ("audit", "errors"),
    ("evaluation", "runtime"),
    ("batch", "api"),
}


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.stem != "__init__")


def part_of(path: Path) -> str:
    """Return the layer a file belongs to: its folder, or its own name at the top."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted name of every module a file imports, wherever in it."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            yield node.module or ""
            yield from (f"{node.module}.{name.name}" for name in node.names)


def own(path: Path) -> set[str]:
    """Return the parts of this package that a file imports."""
    names = (name.split(".") for name in imported(path))
    return {name[1] for name in names if name[0] == "gtasr_video" and len(name) > 1 and name[1] in LAYERS}


def outside(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_data_flows_one_way(path: Path) -> None:
    here = part_of(path)
    for there in own(path) - {here}:
        lower = LAYERS[there] < LAYERS[here]
        assert lower or (here, there) in BESIDE, f"{path.relative_to(ROOT)}: {here} must not import {there}"


def test_every_part_has_a_layer() -> None:
    parts = {part_of(path) for path in modules()}
    assert parts <= set(LAYERS)


def test_only_media_imports_av() -> None:
    users = {part_of(path) for path in modules() if "av" in outside(path)}
    assert users == {"media"}


def test_only_lanes_and_device_say_torch_cuda() -> None:
    allowed = {PACKAGE / "device.py", *(PACKAGE / "runtime" / "lanes").glob("*.py")}
    for path in modules():
        said = any(
            isinstance(node, ast.Attribute)
            and node.attr == "cuda"
            and isinstance(node.value, ast.Name)
            and node.value.id == "torch"
            for node in ast.walk(tree_of(path))
        )
        said = said or any(name.startswith("torch.cuda") for name in imported(path))
        assert not said or path in allowed, f"{path.relative_to(ROOT)} says torch.cuda"


@pytest.mark.parametrize("folder", ["models", "ops"])
def test_networks_and_operators_know_no_threads_and_no_files(folder: str) -> None:
    banned = {"threading", "queue", "concurrent", "multiprocessing", "asyncio", "subprocess"}
    for path in (PACKAGE / folder).rglob("*.py"):
        assert not outside(path) & banned, path
        if path.name not in ("checkpoint.py", "vgg.py"):
            assert not outside(path) & {"pathlib", "os", "io", "shutil", "safetensors"}, path


def test_nothing_is_pickled() -> None:
    for path in modules():
        assert not outside(path) & {"pickle", "shelve", "marshal", "joblib", "dill"}, path
        calls = [
            node.func.attr
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "torch"
        ]
        assert not {"load", "save"} & set(calls), path


def test_pipelines_use_public_names_only_and_are_short() -> None:
    import gtasr_video

    for path in (ROOT / "pipelines").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 60, path
        for name in imported(path):
            if name.startswith("gtasr_video."):
                assert name.split(".")[1] in gtasr_video.__all__, f"{path.name} imports {name}"


# Loaded modules by name, however deep; a stand-in that raises where the real one does.
PROBE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {banned!r}:
            raise OSError(f"{{name}} does not import here")
sys.meta_path.insert(0, Refuse())
{code}
loaded = sorted({{name.split(".")[0] for name in sys.modules}} & {watched!r})
print(",".join(loaded))
"""


def loaded_by(code: str, *, banned: set[str], watched: set[str]) -> set[str]:
    script = PROBE.format(code=code, banned=banned, watched=watched)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split(",")) - {""}


OPTIONAL = {"torchaudio", "decord"}
HEAVY = {"torch", "av", "numpy", "torchaudio", "decord", "rich", "cv2", "scipy"}


def help_of(*arguments: str) -> str:
    return f"from gtasr_video.cli import invoke\nassert invoke([*{arguments!r}, '--help']) == 0"


@pytest.mark.parametrize(
    "code",
    [
        "import gtasr_video",
        help_of(),
        help_of("upscale"),
        help_of("train"),
        help_of("info"),
        help_of("models"),
        help_of("pack"),
        help_of("bench"),
        help_of("export"),
        "from gtasr_video.cli import invoke\nassert invoke(['--version']) == 0",
        "from gtasr_video.cli import invoke\nassert invoke(['upscal']) == 2",
    ],
)
def test_importing_and_asking_for_help_load_nothing_heavy(code: str) -> None:
    assert loaded_by(code, banned=set(), watched=HEAVY) == set()


def test_all_help_and_the_whole_way_work_where_torchaudio_and_decord_do_not_import(
    small_clip: Path, tmp_path: Path
) -> None:
    from gtasr_video.cli import COMMANDS

    arguments = ["upscale", str(small_clip), str(tmp_path / "out.mp4"), "--model", "bicubic", "--scale", "2"]
    code = "\n".join([*(help_of(name) for name in COMMANDS), f"assert invoke({arguments!r}) == 0"])
    assert loaded_by(code, banned=OPTIONAL, watched=OPTIONAL) == set()
    assert (tmp_path / "out.mp4").is_file()
