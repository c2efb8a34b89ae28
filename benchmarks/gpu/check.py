"""Job 1: is the machine as expected, does what trains and upscales run without PyAV, do the GPU tests pass?

python benchmarks/gpu/check.py --pack DIR --out DIR [--rehearse]

Writes check.jsonl and, of the tests, tests.txt. Exit code 1 if anything failed. `--rehearse` runs it all on the CPU,
but collects the GPU tests only.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lines import Lines, machine

ROOT = Path(__file__).resolve().parents[2]
TESTS_S = 240
WANTED = ("numpy", "safetensors", "cv2", "PIL", "triton", "pytest")
NOT_NEEDED = ("av", "decord", "torchaudio", "ffmpeg", "imageio_ffmpeg", "rich", "click")
NEEDED_PARTS = ("config", "models", "ops.codec_model", "runtime.session", "runtime.lanes.cuda", "training.step")


def checks(pack: Path, device: torch.device, out: Path, rehearse: bool) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield (name, what to do); what is done returns facts, or raises."""
    yield "packages", packages
    yield "imports", lambda: [importlib.import_module(f"gtasr_video.{part}").__name__ for part in NEEDED_PARTS]
    yield "pack", lambda: material(pack, device)
    yield "tests", lambda: gpu_tests(out, rehearse)


def packages() -> dict[str, Any]:
    """Return the versions of packages that are used, and which of those that need not be there are."""
    found = {name: getattr(importlib.import_module(name), "__version__", "?") for name in WANTED if spec(name)}
    return {"found": found, "missing": [n for n in WANTED if n not in found], "beside": list(filter(spec, NOT_NEEDED))}


def spec(name: str) -> bool:
    """Return whether a package is installed."""
    return importlib.util.find_spec(name) is not None


def material(pack: Path, device: torch.device) -> dict[str, Any]:
    """Load a pack onto the device and make clips there."""
    from gtasr_video.training.clips import ClipSource, DataSettings

    source = ClipSource([pack], DataSettings(crop=16, frames=3, codec="model"), 0, device)
    batch = source.batch(range(8))
    assert batch.lr.device.type == device.type and batch.lr.shape == (8, 3, 3, 16, 16)
    return {"summary": source.summary(), "skipped": len(source.library.skipped), "flow": int(batch.has_flow.sum())}


def gpu_tests(out: Path, rehearse: bool) -> str:
    """Run the tests marked ``gpu``, or collect them; return the last line of pytest."""
    marked = {f: f.read_text() for f in sorted((ROOT / "tests").rglob("test_*.py"))}
    # What decodes needs PyAV, which need not be there.
    needs_av = re.compile(r"^import av$", re.MULTILINE)
    files = [str(f) for f, text in marked.items() if "pytest.mark.gpu" in text and not needs_av.search(text)]
    options = ["-m", "gpu", "-q", "-c", str(Path(__file__).with_name("pytest.ini")), f"--rootdir={ROOT}"]
    options += ["-p", "no:cacheprovider", "-o", "faulthandler_timeout=60", *(["--collect-only"] if rehearse else [])]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | ({} if rehearse else {"GTASR_REQUIRE_GPU": "1"})
    command = [sys.executable, "-m", "pytest", *options, *files]
    # Into the file as it comes: a test that hangs leaves what was said before it, and the line it hangs at.
    with (out / "tests.txt").open("w", encoding="utf-8") as said:
        try:
            code = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT, timeout=TESTS_S
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"pytest was not done after {TESTS_S} s; see tests.txt") from error
    last = ((out / "tests.txt").read_text(encoding="utf-8").strip().splitlines() or ["pytest said nothing"])[-1]
    if code:
        raise AssertionError(f"pytest ended with {code}: {last}")
    return last


def main() -> int:
    """Run every check, each on its own: one that fails hides no other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rehearse", action="store_true")
    chosen = parser.parse_args()
    device = torch.device("cpu" if chosen.rehearse else "cuda")
    lines, failed = Lines(chosen.out, "check"), 0
    lines.write(check="machine", **machine(device))
    for name, work in checks(chosen.pack, device, chosen.out, chosen.rehearse):
        try:
            lines.write(check=name, ok=True, found=work())
        except Exception as error:
            failed += 1
            lines.write(check=name, ok=False, error=f"{type(error).__name__}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
