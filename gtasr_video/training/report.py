"""``report.html``: how a run goes, on one page: pictures, curves of every term and of validation, settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from gtasr_video import pages
from gtasr_video.training.charts import chart
from gtasr_video.training.looks import COLUMNS

_STYLE = """
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); gap: 1rem 1.5rem; }
.charts figure { min-width: 0; }
.charts svg { width: 100%; height: auto; display: block; }
.charts text { font: 11px system-ui, sans-serif; fill: currentColor; opacity: .75; }
.strip { margin: 0 0 1.25rem; overflow-x: auto; }
.strip img, .strip div { width: max(100%, 720px); max-width: 1200px; }
.strip div { display: grid; grid-template-columns: repeat(4, 1fr); }
td { white-space: normal; text-align: left; }
"""

_MEANING = {
    "loss": "weighted sum",
    "loss/ct": "consistency",
    "loss/ta": "Trajectory Alignment",
    "loss/guide": "maps of the high-frequency guide",
    "loss/dtm": "distribution-trajectory matching, stabilisation",
    "loss/rect": "rectification",
    "loss/tta": "temporal Trajectory Alignment",
    "loss/trect": "temporal rectification",
    "loss/ssim": "1 - SSIM",
    "loss/color": "difference of mean colours of output and input",
    "loss/distil": "distance to the teacher",
    "loss/adversarial": "how made it looks to the discriminator",
    "loss/discriminator": "error of the discriminator, 0 to 2 where it tells nothing apart",
    "validation/psnr_gain": "dB over bicubic, higher is better",
    "validation/vgg_ratio": "VGG16 distance against bicubic's, lower is better",
    "validation/jitter_ratio": "jitter against bicubic's, lower is better",
    "validation/score": "chooses the best weights, lower is better",
    "gradient": "norm before clipping",
    "perf/clips_per_second": "clips a second",
}


def render(facts: dict[str, Any], metrics: Sequence[dict[str, Any]], looks: Sequence[bytes]) -> str:
    """Return the page.

    facts    what ``run.json`` holds
    metrics  the lines of ``metrics.jsonl``
    looks    WebP files of the validation clips as they look now
    """
    last = metrics[-1]
    body = [f"<h1>Training run, tier {escape(str(facts['settings']['tier']))}</h1>", _summary(facts, metrics)]
    if looks:
        body.append(f"<h2>Validation clips at step {last['step']}</h2>{_strips(looks)}")
    ends = _phase_ends(metrics)
    for title, prefix in (("Loss", "loss"), ("Validation", "validation/"), ("Learning", "")):
        charts = "".join(
            chart(name, _series(metrics, name), ends, _MEANING.get(name, "")) for name in _names(metrics, prefix)
        )
        body.append(f'<h2>{title}</h2><div class="charts">{charts}</div>')
    body.append(f"<h2>Settings</h2>{_settings(facts)}")
    return pages.page("Training run", "".join(body), _STYLE)


def _summary(facts: dict[str, Any], metrics: Sequence[dict[str, Any]]) -> str:
    last = metrics[-1]
    validated = [line for line in metrics if "validation/score" in line]
    lines = [f"step {last['step']}, stage {last['stage']}", f"data: {facts['found']}", f"device: {facts['reason']}"]
    if validated:
        best = min(validated, key=lambda line: float(line["validation/score"]))
        lines.append(
            f"best weights so far: step {best['step']}, {best['validation/psnr_gain']:+.2f} dB against bicubic"
        )
    lines.append(
        "Validation clips are other crops and degradations of the training material: they show whether a run gets "
        "better, not how good it is. gtasr-video evaluate shows that."
    )
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _strips(looks: Sequence[bytes]) -> str:
    heads = f"<div>{''.join(f'<span>{name}</span>' for name in COLUMNS)}</div>"
    text = "one clip: " + ", ".join(COLUMNS)
    return "".join(f'<figure class="strip">{heads}{pages.image(data, "image/webp", text)}</figure>' for data in looks)


def _names(metrics: Sequence[dict[str, Any]], prefix: str) -> list[str]:
    if not prefix:
        return ["learning_rate", "gradient", "perf/clips_per_second"]
    return [name for name in dict.fromkeys(n for line in metrics for n in line) if name.startswith(prefix)]


def _series(metrics: Sequence[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    return [(line["step"], float(line[name])) for line in metrics if name in line]


def _phase_ends(metrics: Sequence[dict[str, Any]]) -> list[int]:
    return [a["step"] for a, b in pairwise(metrics) if a["phase"] != b["phase"]]


def _settings(facts: dict[str, Any]) -> str:
    rows = [("data", ", ".join(facts["data"])), *_flat(facts["settings"])]
    cells = "".join(f"<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>" for key, value in rows)
    return f'<details open><summary>all of them</summary><div class="scroll"><table>{cells}</table></div></details>'


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted keys and values, as --set takes them."""
    for key, value in settings.items():
        items = enumerate(value) if isinstance(value, list) and value and isinstance(value[0], dict) else None
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif items is not None:
            for number, item in items:
                yield from _flat(item, f"{prefix}{key}.{number}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)
