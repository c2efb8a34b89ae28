"""Results as a table in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gtasr_video.evaluation.scores import METRICS, Metric, Scores
from gtasr_video.evaluation.suite import Results

RATIOS: dict[str, Metric] = {
    "psnr_gain": Metric("PSNR gain", "higher", 2),
    "vgg_ratio": Metric("VGG16 ratio", "lower", 3),
    "jitter_ratio": Metric("jitter ratio", "lower", 3),
}
COLUMNS = METRICS | RATIOS


def columns(results: Results) -> dict[str, Metric]:
    """Return the columns in which anything was measured."""
    means = list(all_means(results))
    return {
        name: metric for name, metric in COLUMNS.items() if any(scores.get(name) is not None for _, _, scores in means)
    }


def all_means(results: Results) -> Iterator[tuple[str, str, Scores]]:
    """Yield (degradation, method, mean scores) in order."""
    for degradation in results.names("degradation"):
        for method in results.names("method"):
            yield degradation, method, results.mean(degradation, method)


def best(metric: str, group: list[Scores]) -> float | None:
    """Return the best value of `metric` in a group of methods, as it is shown; None where it has no value."""
    known = [value for scores in group if (value := scores.get(metric)) is not None]
    if not known:
        return None
    return max(known) if COLUMNS[metric].better == "higher" else min(known)


def show(value: float | None, metric: str) -> str:
    """Return a score as text; a dash where it does not apply."""
    if value is None:
        return "–"
    sign = "+" if metric == "psnr_gain" else ""
    return f"{value:{sign}.{COLUMNS[metric].digits}f}"


def print_tables(results: Results, console: Console, *, clips: bool = True) -> None:
    """Print the means over clips, one table a degradation, then the notes; `clips` adds a table of every clip."""
    shown = columns(results)
    count = len(results.names("clip"))
    for degradation in results.names("degradation"):
        rows = [(m, results.mean(degradation, m)) for m in results.names("method")]
        title = f"{degradation}: mean of {count} clip{'s' if count != 1 else ''}"
        console.print(_table(title, "method", rows, shown))
    if clips and count > 1:
        for degradation in results.names("degradation"):
            each = [(f"{r.clip}  {r.method}", r.scores) for r in results.rows if r.degradation == degradation]
            console.print(_table(f"{degradation}: each clip", "clip and method", each, shown, mark=False))
    for note in results.notes:
        console.print(f"note: {note}", markup=False)


def _table(
    title: str,
    head: str,
    rows: list[tuple[str, Scores]],
    shown: dict[str, Metric],
    *,
    mark: bool = True,
) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column(head, no_wrap=True)
    here = {n: m for n, m in shown.items() if any(s.get(n) is not None for _, s in rows)}
    for metric in here.values():
        arrow = "↑" if metric.better == "higher" else "↓"
        table.add_column(f"{metric.heading} {arrow}", justify="right")
    group = [scores for _, scores in rows]
    for label, scores in rows:
        cells = []
        for name in here:
            text = show(scores.get(name), name)
            winner = mark and show(best(name, group), name) == text != "–"
            cells.append(f"[bold]{text}[/bold]" if winner else text)
        table.add_row(escape(label), *cells)  # brackets in a file's name are no markup
    return table
