"""Train the method and its ablations, each with several seeds, and measure them on held-out clips.

benchmarks/ablations.py --data DIR --eval DIR --vgg FILE --out DIR

Prints a markdown table: mean over the seeds and, after it, half of the range they span; then the difference to the full
method at the same seed. What is done is kept in --out: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

FULL = "ablation"
CONFIGS = (FULL, "no_ta", "no_drsr", "no_temporal", "plain_consistency")
METRICS = {"psnr": ("PSNR dB", 2), "ssim": ("SSIM", 4), "vgg": ("VGG16", 3), "jitter": ("jitter", 3)}
Scores = dict[str, float]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="what to train on")
    parser.add_argument("--eval", type=Path, required=True, help="held-out clips; never a part of --data")
    parser.add_argument("--vgg", type=Path, required=True, help="VGG16 weights, for the loss and for the measure")
    parser.add_argument("--out", type=Path, required=True, help="where runs and results are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=CONFIGS, default=CONFIGS, help="these of them")
    parser.add_argument("--degradation", default="web")
    parser.add_argument("--limit-frames", type=int, default=8)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting of every run")
    args = parser.parse_args()
    found: dict[str, list[Scores]] = {}
    # Seed by seed, so that a table of what is there is a comparison at any time.
    for seed in args.seeds:
        for name in args.only:
            bicubic, ours = scores(args, name, seed)
            found.setdefault("bicubic", [bicubic])
            found.setdefault(name, []).append(ours)
    print(table(found, args))


def scores(args: argparse.Namespace, name: str, seed: int) -> tuple[Scores, Scores]:
    """Return the scores of bicubic and of one run, which is trained and measured as far as that is still to be done."""
    run = args.out / f"{name}-{seed}"
    weights, results = run / "last.safetensors", run / "evaluation" / "results.json"
    if not weights.exists():
        has_checkpoint = any((run / "checkpoints").glob("step-*.safetensors"))
        resume = ["--resume"] if has_checkpoint else []
        if not has_checkpoint and run.exists():
            (run / "metrics.jsonl").unlink(missing_ok=True)  # stopped before its first checkpoint
        settings = [f"seed={seed}", f"data.cache={args.out / 'cache'}", *args.set]
        given = ["--config", f"train/{name}", "--vgg", args.vgg, "--out", run, *resume]
        command("train", *given, *_each("--data", args.data), *_each("--set", settings))
    if not results.exists():
        chosen = [
            "--degradation",
            args.degradation,
            "--limit-frames",
            args.limit_frames,
            "--set",
            "peers=[]",
            "--set",
            "vgg_every=2",
        ]
        command("evaluate", args.eval, "--model", weights, "--vgg", args.vgg, "--out", results.parent, *chosen)
    means: list[dict[str, Any]] = json.loads(results.read_text(encoding="utf-8"))["means"]
    bicubic, ours = ({name: mean[name] for name in METRICS} for mean in means)
    return bicubic, ours


def command(*words: object) -> None:
    """Run one of the package's commands, its output on stderr; end where it fails."""
    done = subprocess.run([sys.executable, "-m", "gtasr_video", *map(str, words)], stdout=sys.stderr, check=False)
    if done.returncode:
        sys.exit(f"ablations: gtasr-video {words[0]} failed; the same command goes on from here")


def _each(option: str, values: list[Any]) -> list[object]:
    return [word for value in values for word in (option, value)]


def table(found: dict[str, list[Scores]], args: argparse.Namespace) -> str:
    """Return the results as two tables in markdown."""
    heads = " | ".join(
        f"{heading} {'↑' if name in ('psnr', 'ssim') else '↓'}" for name, (heading, _) in METRICS.items()
    )
    clips = f"`{args.degradation}`, first {args.limit_frames} frames"
    lines = [f"{clips}; mean of {len(args.seeds)} seeds ± half their range", "", f"| | {heads} |", _rule()]
    for name, runs in found.items():
        cells = [_cell([run[metric] for run in runs], digits) for metric, (_, digits) in METRICS.items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if FULL in found:
        lines += ["", f"Difference to `{FULL}` at the same seed", "", f"| | {heads} |", _rule()]
        for name in [name for name in found if name not in (FULL, "bicubic")]:
            pairs = list(zip(found[name], found[FULL], strict=True))
            cells = [
                _cell([run[metric] - full[metric] for run, full in pairs], digits, sign="+")
                for metric, (_, digits) in METRICS.items()
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _rule() -> str:
    return "|---|" + "---|" * len(METRICS)


def _cell(values: list[float], digits: int, sign: str = "") -> str:
    mean = f"{fmean(values):{sign}.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {(max(values) - min(values)) / 2:.{digits}f}"


if __name__ == "__main__":
    main()
