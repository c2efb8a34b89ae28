"""What docs/settings.md, docs/reference.md and docs/troubleshooting.md say is what the code has, whole and no more."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import shlex
import tomllib
import types
import typing
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import click
import pytest

import gtasr_video
from gtasr_video import errors
from gtasr_video.api import UpscaleConfig
from gtasr_video.cli import COMMANDS, group
from gtasr_video.config import config_root, load_config
from gtasr_video.evaluation.suite import EvaluateConfig
from gtasr_video.frames import VideoSpec
from gtasr_video.media import Encoding, Reader, Writer
from gtasr_video.media.codecs import ALIASES, CODECS, CONTAINERS, GOALS
from gtasr_video.media.encoding import plan
from gtasr_video.media.hardware_encoders import HARDWARE
from gtasr_video.media.planes import LAYOUTS
from gtasr_video.runtime.live.status import LiveMonitor
from gtasr_video.runtime.report import Report, Stages
from gtasr_video.training.settings import TrainSettings

ROOT = Path(__file__).parent.parent
SETTINGS, REFERENCE, TROUBLES = (ROOT / "docs" / f"{name}.md" for name in ("settings", "reference", "troubleshooting"))
PAGES = pytest.mark.parametrize("page", [SETTINGS, REFERENCE, TROUBLES], ids=lambda page: page.name)
# What each command takes from a file, and the heading under which it stands.
CLASSES: dict[str, type[Any]] = {"upscale": UpscaleConfig, "train": TrainSettings, "evaluate": EvaluateConfig}
COMMAND = pytest.mark.parametrize("command", CLASSES)
# Codecs that only pipes carry, and that nobody asks for by name in a file.
OF_PIPES = {"rawvideo"}
WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def section(page: Path, title: str) -> str:
    """Return what stands below the heading `title`, headings below it included."""
    lines = text_of(page).splitlines(keepends=True)
    levels = heading_levels(lines)
    begin = next((n for n in levels if lines[n].lstrip("#").strip() == title), None)
    assert begin is not None, f"{page.name} has no heading '{title}'"
    end = next((n for n in levels if n > begin and levels[n] <= levels[begin]), None)
    return "".join(lines[begin + 1 : end])


def heading_levels(lines: list[str]) -> dict[int, int]:
    """Return the level of each heading by the number of its line; comments in blocks of code are none."""
    levels, in_code = {}, False
    for number, line in enumerate(lines):
        in_code ^= line.startswith("```")
        if not in_code and (found := re.match(r"#+ ", line)):
            levels[number] = len(found[0]) - 1
    return levels


def above_headings(text: str) -> str:
    """Return `text` up to the first heading below it."""
    lines = text.splitlines(keepends=True)
    return "".join(lines[: next(iter(heading_levels(lines)), None)])


def tables(text: str) -> Iterator[list[dict[str, str]]]:
    """Yield the tables in `text`, each as rows by column."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, rule, *rows = (
            [cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()
        )
        assert set("".join(rule)) == {"-"}
        assert all(len(row) == len(head) for row in rows), block
        yield [dict(zip(head, row, strict=True)) for row in rows]


def rows_of(text: str) -> list[dict[str, str]]:
    return [row for table in tables(text) for row in table]


def codes(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


# Settings


@dataclasses.dataclass(frozen=True)
class Setting:
    """A field of a settings dataclass: its key, its type, and its default, which a group has not."""

    key: str
    hint: Any
    default: Any = None
    is_group: bool = False


def settings_of(cls: type[Any], prefix: str = "") -> Iterator[Setting]:
    """Yield every field, and those of tables within; the number of an element of a list of tables is N."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint, key = hints[field.name], f"{prefix}{field.name}"
        inner, inner_prefix = hint, f"{key}."
        if typing.get_origin(hint) is tuple and dataclasses.is_dataclass(typing.get_args(hint)[0]):
            inner, inner_prefix = typing.get_args(hint)[0], f"{key}.N."
        if dataclasses.is_dataclass(inner):
            yield Setting(key, hint, is_group=True)
            yield from settings_of(inner, inner_prefix)
        else:
            yield Setting(key, hint, getattr(cls(), field.name))


def kind(hint: Any) -> str:
    """Return what the page calls a type."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        (one,) = (option for option in options if option is not type(None))
        return f"{kind(one)}, or `none`"
    if origin is Literal:
        *most, last = (f"`{option}`" for option in options)
        return f"{', '.join(most)} or {last}"
    if origin is not tuple:
        return "table" if dataclasses.is_dataclass(hint) else WORDS[hint]
    if options[-1] is not Ellipsis:
        assert set(options) == {options[0]}
        return f"list of {len(options)} {kind(options[0])}s"
    if typing.get_origin(options[0]) is Literal:
        return f"list of {kind(options[0])}".replace(" or `", " and `")
    return f"list of {kind(options[0])}s"


def plain(value: Any) -> Any:
    """Return a default as TOML would have it."""
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def read(cell: str) -> Any:
    """Return the value that a cell of a table shows."""
    (shown,) = codes(cell)
    return None if shown == "none" else tomllib.loads(f"value = {shown}")["value"]


def setting_rows(command: str) -> dict[str, dict[str, str]]:
    rows: dict[str, dict[str, str]] = {}
    for row in rows_of(section(SETTINGS, command)):
        (key,) = codes(row["key"])
        assert key not in rows, f"{key} stands there twice"
        rows[key] = row
    return rows


@COMMAND
def test_every_setting_is_described_and_no_other(command: str) -> None:
    assert set(setting_rows(command)) == {setting.key for setting in settings_of(CLASSES[command])}


@COMMAND
def test_settings_have_the_types_and_defaults_of_the_code(command: str) -> None:
    rows = setting_rows(command)
    wrong: list[str] = []
    for setting in settings_of(CLASSES[command]):
        row = rows[setting.key]
        assert row["meaning"], setting.key
        if row["type"] != kind(setting.hint):
            wrong.append(f"{setting.key} is: {kind(setting.hint)}")
        found = row["default"] if setting.is_group else read(row["default"])
        wanted = "below" if setting.is_group else plain(setting.default)
        if found != wanted or type(found) is not type(wanted):
            wrong.append(f"{setting.key} is {wanted!r} by default, not {found!r}")
    assert wrong == []


@COMMAND
def test_options_named_beside_settings_are_options_of_the_command(command: str) -> None:
    there = options_of(command)
    for key, row in setting_rows(command).items():
        if "option" in row:
            named, usual_name = set(codes(row["option"])), f"--{key.split('.')[-1].replace('_', '-')}"
            assert named <= there, key
            assert usual_name not in there - named, key


def test_keys_named_in_passing_exist() -> None:
    keys = {"phases.N", *(setting.key for cls in CLASSES.values() for setting in settings_of(cls))}
    groups = {key.partition(".")[0] for key in keys if "." in key}
    named = [code for page in (SETTINGS, REFERENCE, TROUBLES) for code in codes(prose(page))]
    dotted = {word for code in named for word in re.findall(r"[\w.]+", code) if word.partition(".")[0] in groups}
    assert {word for word in dotted if re.sub(r"\.\d+(?=\.|$)", ".N", word) not in keys} == set()


def prose(page: Path) -> str:
    """Return the text of a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)


@COMMAND
def test_the_configurations_in_it_load(command: str, tmp_path: Path) -> None:
    examples = blocks(section(SETTINGS, command), "toml")
    assert examples
    for example in examples:
        file = tmp_path / "example.toml"
        file.write_text(example, encoding="utf-8")
        assert load_config(CLASSES[command], str(file), section=command) != CLASSES[command]()


def test_every_shipped_configuration_is_named_and_no_other() -> None:
    shipped = {str(file.relative_to(config_root()).with_suffix("")) for file in config_root().rglob("*.toml")}
    rows = rows_of(section(SETTINGS, "Shipped configurations"))
    named = [name for row in rows for name in codes(row["name"])]
    assert sorted(named) == sorted(shipped)


# Commands


def options_of(name: str) -> set[str]:
    command = group.get_command(click.Context(group), name)
    assert command is not None, f"there is no command {name}"
    own = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    return {option for option in own if option.startswith("-")} | {"-h", "--help"}


def commands(page: Path) -> list[list[str]]:
    """Return the commands of this program in the blocks of `page`, as words."""
    lines = "\n".join(blocks(text_of(page), "sh")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line[:1] == ["gtasr-video"]]


@PAGES
def test_commands_have_only_options_and_settings_that_there_are(page: Path) -> None:
    for _, name, *arguments in commands(page):
        assert {word for word in arguments if re.match(r"--?[a-z]", word)} <= options_of(name)
        if name in CLASSES:
            given = [word for option, word in pairwise(arguments) if option == "--set"]
            load_config(CLASSES[name], dict(pairwise(arguments)).get("--config"), given, section=name)


@PAGES
def test_options_named_in_passing_exist(page: Path) -> None:
    there = {option for name in COMMANDS for option in options_of(name)}
    named = {word for code in codes(prose(page)) for word in re.findall(r"(?<!\S)--[a-z][\w-]*", code)}
    assert named - there == set()


@PAGES
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", text_of(page)):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", text_of(target), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, link


# Reference


def test_the_exit_codes() -> None:
    shown = {int(row["code"]) for row in rows_of(section(REFERENCE, "Exit codes"))}
    assert shown == {0, errors.GTASRVideoError.exit_code, errors.UsageError.exit_code, 130}


def test_every_variable_of_ours_is_described_and_no_other() -> None:
    files = [ROOT / "Makefile", ROOT / ".ci" / "run", *(ROOT / "pipelines").iterdir()]
    files += [file for folder in ("gtasr_video", "tests", "benchmarks") for file in (ROOT / folder).rglob("*.py")]
    used = {
        name
        for file in files
        if file.is_file()
        for name in re.findall(r"\bGTASR_[A-Z]+(?:_[A-Z]+)*\b", file.read_text("utf-8"))
    }
    described = {code for code in codes(section(REFERENCE, "Environment variables")) if code.startswith("GTASR_")}
    assert described == used


def test_every_error_is_named_with_its_exit_code() -> None:
    (table,) = (table for table in tables(section(REFERENCE, "Python")) if "error" in table[0])
    classes = [cls for cls in vars(errors).values() if inspect.isclass(cls) and cls.__module__ == errors.__name__]
    wanted = {cls.__name__: str(cls.exit_code) for cls in classes if cls is not errors.GTASRVideoError}
    assert {codes(row["error"])[0]: row["code"] for row in table} == wanted


def codec_rows() -> dict[str, dict[str, str]]:
    (table,) = tables(section(REFERENCE, "Codecs and containers"))
    return {codes(row["codec"])[0]: row for row in table}


def usual(crf: int | None, preset: str | None) -> str:
    """Return crf and preset as the page shows them."""
    return ", ".join(str(value) for value in (crf, preset) if value is not None) or "none"


def chosen(suffix: str, layout: str, encoding: Encoding) -> str:
    spec = VideoSpec(64, 48, Fraction(1, 25), LAYOUTS[layout])
    planned = plan(Path(f"out{suffix}"), encoding, spec)
    return usual(planned.crf, planned.preset)


def test_every_codec_has_its_line() -> None:
    assert set(codec_rows()) == {*CODECS, *HARDWARE} - OF_PIPES


@pytest.mark.parametrize("name", [name for name in CODECS if name not in OF_PIPES])
def test_codecs_are_asked_for_what_the_page_says_in_the_files_it_says(name: str) -> None:
    row, codec = codec_rows()[name], CODECS[name]
    files = [suffix for suffix, container in CONTAINERS.items() if name in container.codecs]
    assert row["encoder"] == codec.encoder
    assert row["crf"] == (f"{codec.crf[0]} to {codec.crf[1]}" if codec.crf else "none")
    assert row["files"].split() == files
    for goal in GOALS:
        for suffix in files:
            assert row[f"`{goal}`"] == chosen(suffix, "yuv420p", Encoding(codec=name, goal=goal)), goal


@pytest.mark.parametrize("name", HARDWARE)
def test_hardware_is_asked_for_what_the_page_says(name: str) -> None:
    row, codec = codec_rows()[name], HARDWARE[name]
    assert (row["encoder"], row["files"]) == (codec.encoder, f"as {codec.name}")
    assert codec.crf is not None
    assert row["crf"] == f"{codec.crf[0]} to {codec.crf[1]}"
    assert {goal: row[f"`{goal}`"] for goal in GOALS} == {goal: usual(*codec.usual(goal)) for goal in GOALS}


def test_what_is_said_of_codecs_besides() -> None:
    text = " ".join(section(REFERENCE, "Codecs and containers").split())
    assert chosen(".mov", "yuv444p", Encoding(codec="prores")) == "4444"
    assert "`prores` is `4444` where" in text
    assert f"WebP animations have quality {CODECS['webp'].options['quality']}" in text
    aliases = re.search(r"\* (`hevc`[^*]*)", text)
    assert aliases is not None
    said = re.findall(r"((?:`[\w-]+`(?:, | and )?)+) (?:is|are) `(\w+)`", aliases[1])
    assert {alias: name for names, name in said for alias in codes(names)} == ALIASES


def fields_in(title: str) -> list[str]:
    """Return the fields that the first table below a heading describes."""
    table = next(tables(above_headings(section(REFERENCE, title))))
    return [name for row in table for name in codes(row["field"])]


def test_every_field_of_the_report_is_described_and_no_other() -> None:
    assert sorted(fields_in("The report")) == sorted(field.name for field in dataclasses.fields(Report))
    (stages,) = (row["what"] for row in rows_of(section(REFERENCE, "The report")) if row["field"] == "`stages`")
    assert codes(stages) == ["busy_s", "wait_s", *(field.name for field in dataclasses.fields(Stages))]


def test_every_field_of_a_live_report_is_described_and_no_other() -> None:
    report = LiveMonitor().report()
    assert sorted(fields_in("live")) == sorted(report)
    (dropped,) = (row["what"] for row in rows_of(section(REFERENCE, "live")) if row["field"] == "`dropped`")
    assert codes(dropped) == list(report["dropped"])


def test_every_fact_of_both_ends_is_described_and_no_other(small_clip: Path, tmp_path: Path) -> None:
    with Reader(small_clip) as reader:
        writer = Writer(tmp_path / "out.mp4", reader.spec, source=reader)
        writer.abort()
        assert sorted(fields_in("input")) == sorted(reader.facts())
        assert sorted(fields_in("output")) == sorted(writer.facts())


def test_every_public_name_is_described() -> None:
    (table,) = (table for table in tables(section(REFERENCE, "Python")) if "name" in table[0])
    assert sorted(name for row in table for name in codes(row["name"])) == sorted(gtasr_video.__all__)


@pytest.mark.parametrize("name", ["upscale", "upscale_folder", "verify", "probe"])
def test_every_parameter_is_named(name: str) -> None:
    named = codes(above_headings(section(REFERENCE, "Python")))
    parameters = inspect.signature(getattr(gtasr_video, name)).parameters.values()
    assert {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - set(named) == set()


# The Python in it


class Names(ast.NodeVisitor):
    """Goes through a snippet and notes what this package does not have: names, keywords of calls, attributes."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}  # what a name stands for: the module, or one of its names
        self.types: dict[str, Any] = {}  # the class of what a name holds, as far as it can be told
        self.wrong: list[str] = []
        self.checked = 0

    def visit_Import(self, node: ast.Import) -> None:
        assert [alias.name for alias in node.names] == ["gtasr_video"]
        self.known["gtasr_video"] = gtasr_video

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.module == "gtasr_video"
        for alias in node.names:
            self._note(alias.name in gtasr_video.__all__, alias.name)
            self.known[alias.name] = getattr(gtasr_video, alias.name, None)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        self._hold(node.targets[0], self._type(node.value))

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            self.visit(item.context_expr)
            self._hold(item.optional_vars, self._type(item.context_expr))
        for inner in node.body:
            self.visit(inner)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name and node.type is not None:
            self.types[node.name] = self._value(node.type)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        whole = self._type(node.iter)
        self._hold(node.target, typing.get_args(whole)[0] if typing.get_origin(whole) is list else None)
        for inner in node.body:
            self.visit(inner)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        value = self._value(node.value)
        if value is gtasr_video:
            self._note(node.attr in gtasr_video.__all__, f"gtasr_video.{node.attr}")
        elif (owner := value if inspect.isclass(value) else self._type(node.value)) is not None:
            self._note(_has(owner, node.attr), f"{owner.__name__}.{node.attr}")

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        called = self._value(node.func)
        if called is None or called is gtasr_video:
            return
        allowed = set(inspect.signature(called).parameters)
        if called is gtasr_video.upscale_folder:
            allowed |= set(inspect.signature(gtasr_video.upscale).parameters)
        for keyword in node.keywords:
            self._note(keyword.arg in allowed, f"{called.__name__}({keyword.arg}=)")

    def _note(self, there: bool, name: str) -> None:
        self.checked += 1
        if not there:
            self.wrong.append(name)

    def _hold(self, target: ast.expr | None, kind: Any) -> None:
        if isinstance(target, ast.Name):
            self.types[target.id] = kind

    def _value(self, node: ast.expr) -> Any:
        """Return what of this package an expression names, or None."""
        if isinstance(node, ast.Name):
            return self.known.get(node.id)
        if isinstance(node, ast.Attribute) and self._value(node.value) is not None:
            return getattr(self._value(node.value), node.attr, None)
        return None

    def _type(self, node: ast.expr) -> Any:
        """Return the class of what an expression gives, as far as it can be told."""
        if isinstance(node, ast.Name):
            return self.types.get(node.id)
        if isinstance(node, ast.Call) and (called := self._value(node.func)) is not None:
            return called if inspect.isclass(called) else _returned(called)
        return None


def _returned(called: Callable[..., Any]) -> Any:
    given = typing.get_type_hints(called).get("return")
    return given if inspect.isclass(given) or typing.get_origin(given) is list else None


def _has(owner: Any, name: str) -> bool:
    fields = {field.name for field in dataclasses.fields(owner)} if dataclasses.is_dataclass(owner) else set()
    return name in fields or hasattr(owner, name)


def looked_at(code: str) -> Names:
    names = Names()
    names.visit(ast.parse(code))
    return names


def test_the_python_in_it_compiles_and_has_only_names_that_there_are() -> None:
    (code,) = blocks(text_of(REFERENCE), "python")
    compile(code, REFERENCE.name, "exec")
    found = looked_at(code)
    assert found.wrong == []
    assert found.checked > 20


def test_looking_at_python_finds_what_is_not_there() -> None:
    code = """
import gtasr_video
from gtasr_video import Reeder, UpscaleConfig
report = gtasr_video.upscale("a", "b", crv=1)
report.sumary()
gtasr_video.upscal("a", "b")
UpscaleConfig.lood("fast")
for outcome in gtasr_video.upscale_folder("a", "b", crf=1):
    outcome.reportt
"""
    wrong = ["Reeder", "upscale(crv=)", "Report.sumary", "gtasr_video.upscal", "UpscaleConfig.lood", "Outcome.reportt"]
    assert looked_at(code).wrong == wrong


# Troubles

# What is quoted of messages, without the figures and names that they are filled with.
QUOTED = (
    *("no CUDA GPU found", "not enough memory on", "this fits when tried", "exists; use -y to replace it"),
    *("--drop-unsupported to go on without", "frames that are done", "was begun with another source"),
    *("is being made by another process", "without a base picture (profile 5)", "knows no times", "got colour as"),
    *("keeping up:", "frames missed", "nothing came", "its certificate is not trusted", "lost, and not had again"),
    *("a publisher with a wrong key was turned away", "has no weights yet", "no weights for scale"),
    *("not a weights file of gtasr-video", "its weights do not fit its header"),
)


def test_every_message_quoted_is_one_of_the_program() -> None:
    source = " ".join(" ".join(file.read_text("utf-8").split()) for file in (ROOT / "gtasr_video").rglob("*.py"))
    page = " ".join(text_of(TROUBLES).split())
    assert [words for words in QUOTED if words not in page or words not in source] == []
