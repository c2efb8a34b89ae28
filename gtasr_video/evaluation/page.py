"""Results as one HTML file that needs nothing beside it: tables, crops side by side, and time slices."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from gtasr_video import pages
from gtasr_video.evaluation.scores import Scores
from gtasr_video.evaluation.sheets import Panel, Pixels, enlarged_slice
from gtasr_video.evaluation.suite import Results
from gtasr_video.evaluation.tables import best, columns, show


@dataclass(frozen=True, slots=True)
class Section:
    """The pictures of one clip under one degradation."""

    clip: str
    degradation: str
    panels: Sequence[Panel]


def write_page(path: Path, results: Results, sections: Sequence[Section]) -> None:
    """Write the page to `path`, whole or not at all."""
    pages.write_page(path, render_page(results, sections))


def render_page(results: Results, sections: Sequence[Section]) -> str:
    """Return the page as HTML."""
    scale = results.facts.get("settings", {}).get("scale", "")
    body = [f"<h1>Evaluation, x{escape(str(scale))}</h1>", _notes(results)]
    for degradation in results.names("degradation"):
        rows = [(m, results.mean(degradation, m)) for m in results.names("method")]
        body.append(f"<h2>{escape(degradation)}</h2>{_table(results, 'mean over clips', rows)}")
        body.append(_each_clip(results, degradation))
        body += [_section(s) for s in sections if s.degradation == degradation]
    return pages.page("Evaluation", "".join(body))


def _notes(results: Results) -> str:
    lines = [*results.notes, f"device: {results.facts.get('device', 'unknown')}"]
    lines.append("In a time slice each line is one row of pixels at one frame: steady motion makes clean lines.")
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _table(results: Results, head: str, rows: list[tuple[str, Scores]], *, mark: bool = True) -> str:
    here = {n: m for n, m in columns(results).items() if any(s.get(n) is not None for _, s in rows)}
    group = [scores for _, scores in rows]
    heads = "".join(f"<th>{escape(m.heading)} {'↑' if m.better == 'higher' else '↓'}</th>" for m in here.values())
    lines = []
    for label, scores in rows:
        cells = [show(scores.get(name), name) for name in here]
        tops = [mark and show(best(name, group), name) == cell for name, cell in zip(here, cells, strict=True)]
        marked = [f"<td>{f'<b>{c}</b>' if top else c}</td>" for c, top in zip(cells, tops, strict=True)]
        lines.append(f"<tr><td>{escape(label)}</td>{''.join(marked)}</tr>")
    return f'<div class="scroll"><table><tr><th>{head}</th>{heads}</tr>{"".join(lines)}</table></div>'


def _each_clip(results: Results, degradation: str) -> str:
    rows = [(f"{r.clip}: {r.method}", r.scores) for r in results.rows if r.degradation == degradation]
    return f"<details><summary>each clip</summary>{_table(results, 'clip', rows, mark=False)}</details>"


def _section(section: Section) -> str:
    figures = "".join(_figure(panel) for panel in section.panels)
    return f'<h3>{escape(section.clip)}</h3><div class="panels">{figures}</div>'


def _figure(panel: Panel) -> str:
    pictures = [_image(panel.crop, f"{panel.label}: crop")]
    if panel.slice.shape[0] > 1:
        pictures.append(_image(enlarged_slice(panel), f"{panel.label}: time slice"))
    note = f"<small>{escape(panel.note)}</small>" if panel.note else ""
    return f"<figure><figcaption>{escape(panel.label)}{note}</figcaption>{''.join(pictures)}</figure>"


def _image(pixels: Pixels, text: str) -> str:
    import PIL.Image

    data = io.BytesIO()
    PIL.Image.fromarray(pixels).save(data, "PNG", optimize=True)
    return pages.image(data.getvalue(), "image/png", text)
