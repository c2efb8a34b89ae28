"""``gtasr-video evaluate``."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gtasr_video.config import load_config
from gtasr_video.device import Device, choose
from gtasr_video.errors import EvaluationError, UsageError
from gtasr_video.evaluation import methods as ways
from gtasr_video.evaluation.cache import Cache, default_folder
from gtasr_video.evaluation.methods import Method
from gtasr_video.evaluation.page import Section, write_page
from gtasr_video.evaluation.scores import Scorer
from gtasr_video.evaluation.sheets import Panel, panels, save_sheet
from gtasr_video.evaluation.suite import (
    YARDSTICK,
    EvaluateConfig,
    Results,
    Row,
    count_steps,
    evaluate,
    facts,
)
from gtasr_video.evaluation.tables import print_tables, show
from gtasr_video.evaluation.truth import DEGRADATIONS, Degraded

EXTRA = {"cv2": "opencv-python-headless", "scipy": "scipy", "PIL": "pillow"}


@click.command("evaluate", short_help="Measure models and peers against full-size truth.")
@click.argument("truth", nargs=-1, type=click.Path(path_type=Path))
@click.option("--model", "models", multiple=True, metavar="s|m|l|FILE", help="A network; may be repeated.")
@click.option(
    "--steps", type=int, multiple=True, metavar="N", help="Steps of the networks; may be repeated.  [default: 1]"
)
@click.option("--without-memory", is_flag=True, default=None, help="Measure networks frame by frame, too.")
@click.option("--peer", "peers", multiple=True, metavar="NAME|FILE.param", help="bicubic, lanczos or an ncnn model.")
@click.option("--peer-command", "peer_commands", multiple=True, metavar="'PROG {input} {output}'", help="Any program.")
@click.option("--scale", type=int, help="How many times larger the result is.  [default: 4]")
@click.option("--degradation", "degradations", multiple=True, metavar="NAME", help=f"Of {', '.join(DEGRADATIONS)}.")
@click.option("--limit-frames", type=int, metavar="N", help="Only the first N frames of each clip.")
@click.option("--vgg", metavar="FILE|none", envvar="GTASR_VGG", help="VGG16 weights (or $GTASR_VGG).")
@click.option("--niqe", metavar="FILE|none", envvar="GTASR_NIQE", help="NIQE's .mat (or $GTASR_NIQE).")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for results.json, report.html and sheets/.")
@click.option(
    "--cache", "cache_folder", type=click.Path(path_type=Path), help="Folder of kept inputs and peers' results."
)
@click.option("--no-cache", is_flag=True, help="Make everything anew and keep nothing.")
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N.  [default: auto]")
@click.option("--seed", type=int, help="Seed of noise in degradations and models.  [default: 0]")
@click.option("--config", "config_name", metavar="NAME|FILE", help="Settings by name (quick) or path.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="One setting.")
def command(
    truth: tuple[Path, ...],
    out: Path | None,
    cache_folder: Path | None,
    no_cache: bool,
    device: str,
    config_name: str | None,
    overrides: tuple[str, ...],
    **options: Any,
) -> None:
    """Measure models and peers against TRUTH: videos and pictures at full size, or folders of them.

    Each is shrunk and compressed in fixed, seeded ways, enlarged by every method, and compared with the
    original. Bicubic is always among them, as targets are ratios to it. Weights of metrics are given by
    path; what lacks them is left out, and the table says so.
    """
    if not truth:
        raise UsageError("no truth given; name a folder of videos or pictures at full size")
    _need_extras()
    config = _with_options(load_config(EvaluateConfig, config_name, overrides, section="evaluate"), options)
    chosen = choose(device)
    if out is not None:
        _folder(out)
    kept = None if no_cache else cache_folder or default_folder()
    report = _Report(config, chosen, out)
    with closing(Cache(kept)) as cache:
        scorer = Scorer(config.vgg, config.niqe, chosen, config.vgg_every)
        measured = name_methods(_methods(config, chosen))
        try:
            results = _run(list(truth), measured, config, scorer, cache, report)
        except BaseException:
            report.end_early()
            raise
    if results.rows:
        report.show(results)
    if left_out := results.left_out:
        raise EvaluationError(f"{len(left_out)} of the truth left out; the first: {left_out[0]}")


def name_methods(methods: Iterable[Method]) -> dict[str, Method]:
    """Return the methods by name; a name that comes again gets a number."""
    named: dict[str, Method] = {}
    for method in methods:
        name, count = method.name, 1
        while name in named:
            count += 1
            name = f"{method.name} #{count}"
        named[name] = method
    return named


class _Report:
    """Shows what was measured; into a folder, if there is one, with crops and slices taken while a clip's results are
    there. Figures are written after each clip, and all that was measured is shown where an error ends the rest."""

    def __init__(self, config: EvaluateConfig, device: Device, out: Path | None) -> None:
        self.config, self.out = config, out
        self.sections: list[Section] = []
        self._facts = facts(config, device)
        self._results: Results | None = None

    def clip(self, results: Results) -> None:
        """Take in the results when a clip is whole."""
        self._results = results
        results.facts.update(self._facts)
        if self.out is not None:
            _write_figures(self.out, results)

    def show(self, results: Results) -> None:
        """Print the tables, and write the folder."""
        print_tables(results, Console(width=None if Console().is_terminal else 200))
        if self.out is not None:
            _write(self.out, results, self.sections)

    def end_early(self) -> None:
        """Show the clips that are whole, if there are any."""
        if self._results is not None:
            self._results.notes.append("ended early: what came after is not measured")
            self.show(self._results)

    def rendered(self, degraded: Degraded, files: dict[str, Path], rows: list[Row]) -> None:
        """Take crops and slices of one clip under one degradation."""
        if self.out is None:
            return
        clip = degraded.clip
        columns = panels(clip.path, degraded.path, files, self.config.scale, size=self.config.crop)
        noted = [_noted(panel, rows) for panel in columns]
        self.sections.append(Section(clip.name, degraded.name, noted))
        file = self.out / "sheets" / f"{clip.name.replace('/', '-')}-{degraded.name}.jpg"
        with _writing(self.out):
            save_sheet(file, noted, title=f"{clip.name}, {degraded.name}, x{self.config.scale}")


def _noted(panel: Panel, rows: list[Row]) -> Panel:
    scores = next((row.scores for row in rows if row.method == panel.label), {})
    shown = {"psnr": "{} dB", "vgg": "VGG16 {}", "jitter": "jitter {}"}
    parts = [text.format(show(scores[name], name)) for name, text in shown.items() if scores.get(name) is not None]
    return replace(panel, note="  ".join(parts))


def _run(
    truth: list[Path],
    methods: dict[str, Method],
    config: EvaluateConfig,
    scorer: Scorer,
    cache: Cache,
    report: _Report,
) -> Results:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=count_steps(truth, methods, config))

        def step(text: str) -> None:
            progress.update(task, description=text)
            progress.advance(task)

        return evaluate(
            truth, methods, config, scorer, cache, on_rendered=report.rendered, on_clip=report.clip, on_step=step
        )


def _methods(config: EvaluateConfig, device: Device) -> list[Method]:
    names = dict.fromkeys((YARDSTICK, *config.peers))
    return [
        *(ways.peer(name, config.scale) for name in names),
        *(ways.Program(line) for line in config.peer_commands),
        *(
            ways.model(name, config.scale, device, config.seed, n, memory=memory)
            for name in config.models
            for n in config.steps
            for memory in ((True, False) if config.without_memory else (True,))
        ),
    ]


def _with_options(config: EvaluateConfig, options: dict[str, Any]) -> EvaluateConfig:
    given = {name: value for name, value in options.items() if value not in (None, ())}
    for name in ("vgg", "niqe"):
        if name in given:
            given[name] = None if given[name] == "none" else Path(given[name])
    try:
        return replace(config, **given)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _need_extras() -> None:
    missing = [package for module, package in EXTRA.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise EvaluationError(f"evaluate needs {', '.join(missing)}; pip install 'gtasr-video[evaluate]'")


def _folder(out: Path) -> None:
    """Make the folder now: an hour of measuring is too long to learn that it cannot be written."""
    with _writing(out):
        (out / "sheets").mkdir(parents=True, exist_ok=True)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EvaluationError(f"{out}: cannot be written ({error.strerror or error})") from error


def _write_figures(out: Path, results: Results) -> None:
    with _writing(out):
        part = out / "results.json.part"
        part.write_text(json.dumps(results.as_json(), indent=1, default=str) + "\n", encoding="utf-8")
        part.replace(out / "results.json")


def _write(out: Path, results: Results, sections: list[Section]) -> None:
    _write_figures(out, results)
    with _writing(out):
        write_page(out / "report.html", results, sections)
    click.echo(f"written: {out / 'results.json'}, {out / 'report.html'}", err=True)
