"""Configuration: frozen dataclasses hold the defaults, TOML files hold only the differences.

A configuration is found by name (``live``, ``train/smoke``) among the files that ship with the package,
or by path. An unknown key is an error that names the nearest known one, the file and the line.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from gtasr_video.errors import ConfigError

T = TypeVar("T")


class _UnknownKey(ConfigError):  # noqa: N818
    """A table of settings has no such `key`; `near` names one that it has."""

    def __init__(self, message: str, key: str, near: str) -> None:
        super().__init__(f"{message}{near}")
        self.message, self.key, self.near = message, key, near


class BadValue(ValueError):  # noqa: N818
    """A value that the setting `key` cannot have, which must be `must`."""

    def __init__(self, key: str, must: str, value: object) -> None:
        super().__init__(f"'{key}' must be {must}, not {value}")
        self.key, self.must, self.value = key, must, value


def at_least(least: float, settings: object, *keys: str) -> None:
    """Raise BadValue for the first of the fields `keys` that is no finite number of `least` or more."""
    for key in keys:
        value = getattr(settings, key)
        if not (value >= least and math.isfinite(value)):
            raise BadValue(key, f"at least {least:g}", value)


def rising(settings: object, *keys: str) -> None:
    """Raise BadValue for the first of the fields `keys` that is no range: two numbers, the smaller first."""
    for key in keys:
        low, high = getattr(settings, key)
        if not low <= high:
            raise BadValue(key, "two numbers, the smaller first", [low, high])


def check_types(settings: object) -> None:
    """Raise ConfigError for the first field of the dataclass `settings`, or of one in it, that its type cannot be.

    What files and ``--set`` give is converted; what a program gives is checked here, or would be misread in silence.
    """
    hints = typing.get_type_hints(type(settings))
    for found in dataclasses.fields(typing.cast(Any, settings)):
        value, hint = getattr(settings, found.name), hints[found.name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, hint):
            check_types(value)
        elif _convert(value, hint, found.name, {}) != value:
            raise ConfigError(f"'{found.name}' cannot be {_shown(value)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known name closest to `name`, or an empty string."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{found[0]}'?)" if found else ""


def config_root() -> Path:
    """Return the folder of shipped configurations: inside an installed package, or beside a source tree."""
    package = Path(__file__).resolve().parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def find_config(name: str, section: str) -> Path:
    """Return the file for `name`: a path, ``section/name``, or a bare name within `section`.

    Raises ConfigError naming those that ship for `section`, the nearest first.
    """
    path = Path(name)
    if path.suffix == ".toml":
        if path.is_file():
            return path
        raise ConfigError(f"no configuration file {name}")
    if path.is_dir() or (path.is_file() and path.suffix):
        raise ConfigError(f"{name} is no configuration; give a .toml file, or one of {', '.join(_shipped(section))}")
    root = config_root()
    for candidate in (root / f"{name}.toml", root / section / f"{name}.toml"):
        if candidate.is_file() and candidate.resolve().is_relative_to(root.resolve()):
            return candidate
    shipped = _shipped(section)
    hint = nearest(name.removeprefix(f"{section}/"), shipped)
    raise ConfigError(f"no configuration named '{name}'{hint}; shipped: {', '.join(shipped)}")


def _shipped(section: str) -> list[str]:
    """Return the names of the shipped configurations of `section`."""
    folder = config_root() / section
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.toml"))


def load_config(
    cls: type[T],
    name: str | None = None,
    overrides: Iterable[str] = (),
    *,
    section: str = "",
    begin: Mapping[str, Any] | None = None,
) -> T:
    """Build the dataclass `cls` from its defaults, `begin`, the file `name`, then ``KEY=VALUE`` overrides.

    Keys may be dotted to reach nested dataclasses, and elements of arrays by number: ``phases.0.batch=4``. A file
    may start from another with ``extends = "name"``, a path counting from the folder it lies in.
    Raises ConfigError for unknown keys, values of the wrong type, and files that are not TOML.
    """
    values: dict[str, Any] = dict(begin or {})
    where: dict[str, str] = {}
    if name is not None:
        _read_file(find_config(name, section), section, values, where, seen=())
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals:
            raise ConfigError(f"--set {item}: expected KEY=VALUE")
        key = key.strip()
        where[_numbered(key)] = where[_replaced(values, key)] = f"--set {key}"
        _merge(values, _nest(key, _parse_value(text.strip())), where)
    try:
        return _build(cls, values, where, prefix="")
    except _UnknownKey as error:
        # Another table may have a key of just this name.
        same = [name for name in _keys(cls) if name.rpartition(".")[2] == error.key]
        near = f" (did you mean '{same[0]}'?)" if len(same) == 1 else error.near
        raise ConfigError(f"{error.message}{near}") from error


def _replaced(values: Mapping[str, Any], key: str) -> str:
    """Return what of a dotted key is a plain value in `values`, which `key` makes a table of; else all of it."""
    at: Any = values
    parts = key.split(".")
    for count, part in enumerate(parts, 1):
        if isinstance(at, list):
            at = {str(number): element for number, element in enumerate(at)}
        at = at.get(part)
        if not isinstance(at, Mapping | list | None):
            return _numbered(".".join(parts[:count]))
        if at is None:
            break
    return _numbered(key)


def _read_file(path: Path, section: str, values: dict[str, Any], where: dict[str, str], seen: tuple[Path, ...]) -> None:
    if path in seen:
        raise ConfigError(f"{path}: 'extends' leads back to itself")
    try:
        text = path.read_text(encoding="utf-8-sig")
        data = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML ({error})") from error
    base = data.pop("extends", None)
    if base is not None:
        beside = path.parent / str(base)
        found = beside if beside.suffix == ".toml" and beside.is_file() else find_config(str(base), section)
        _read_file(found, section, values, where, (*seen, path))
    lines = _lines(text)
    for key in _flat(data):
        where[_numbered(key)] = f"{path}:{lines.get(key, 1)}"
    _merge(values, data, where)


def _numbered(key: str) -> str:
    """Return a dotted key with the numbers of elements as ``[0]``."""
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", key)


def _lines(text: str) -> dict[str, int]:
    """Return the line of each dotted key of a TOML text, good enough for messages: headers and plain keys."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    prefix = ""
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]", line):
            prefix = _header(match[2].replace('"', ""), match[1] == "[[", counts)
            lines.setdefault(prefix, number)
        elif match := re.match(r"\s*([\w.\"-]+)\s*=", line):
            key = match[1].replace('"', "")
            lines.setdefault(f"{prefix}.{key}" if prefix else key, number)
    return lines


def _header(name: str, is_element: bool, counts: dict[str, int]) -> str:
    """Return a table header as a dotted key in which each array of tables has the number of its last element."""
    full, parts = "", name.split(".")
    for index, part in enumerate(parts):
        full = f"{full}.{part.strip()}" if full else part.strip()
        if is_element and index == len(parts) - 1:
            counts[full] = counts.get(full, -1) + 1
        if full in counts:
            full = f"{full}[{counts[full]}]"
    return full


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of everything in `data`; elements of arrays as ``key[0]``."""
    for key, value in data.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, Mapping):
                    yield f"{prefix}{key}[{index}]"
                    yield from _flat(item, f"{prefix}{key}[{index}].")


def _merge(into: dict[str, Any], other: Mapping[str, Any], where: Mapping[str, str], prefix: str = "") -> None:
    for key, value in other.items():
        old, full = into.get(key), f"{prefix}{key}"
        if isinstance(value, Mapping) and isinstance(old, list):
            elements = {str(number): element for number, element in enumerate(old)}
            if unknown := [number for number in value if number not in elements]:
                wrong = _numbered(f"{full}.{unknown[0]}")
                place = next((place for at, place in where.items() if at.startswith(wrong)), full)
                raise ConfigError(f"{place}: '{full}' has elements 0 to {len(old) - 1}, not '{unknown[0]}'")
            _merge(elements, value, where, f"{full}.")
            into[key] = list(elements.values())
        elif isinstance(value, Mapping) and isinstance(old, dict):
            _merge(old, value, where, f"{full}.")
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _nest(dotted: str, value: Any) -> dict[str, Any]:
    head, _, rest = dotted.partition(".")
    return {head: _nest(rest, value) if rest else value}


def _parse_value(text: str) -> Any:
    """Read `text` as a TOML value; anything that is not one is a plain string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _build(cls: type[T], values: Mapping[str, Any], where: Mapping[str, str], prefix: str) -> T:
    hints = typing.get_type_hints(cls)
    defaults = {f.name: f.default for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    known = list(defaults)
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        full = f"{prefix}{key}"
        if key not in known:
            raise _UnknownKey(f"{_given_at(full, where)}: unknown key '{full}'", key, nearest(key, _keys(cls)))
        value = _with_elements(value, defaults[key], key, where, prefix)
        arguments[key] = _convert(value, hints[key], full, where)
    try:
        return cls(**arguments)
    except BadValue as error:
        full = f"{prefix}{error.key}"
        raise ConfigError(f"{_given_at(full, where)}: '{full}' must be {error.must}, not {error.value}") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{_place(values, where, prefix)}: {error}") from error


def _keys(cls: type, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of `cls` and of the tables in it."""
    hints = typing.get_type_hints(cls)
    for found in dataclasses.fields(cls):
        if found.init:
            yield f"{prefix}{found.name}"
            if dataclasses.is_dataclass(inner := hints[found.name]):
                yield from _keys(typing.cast(type, inner), f"{prefix}{found.name}.")


def _with_elements(value: Any, default: Any, key: str, where: Mapping[str, str], prefix: str) -> Any:
    """Return `value`, or where it changes elements of a default array by number, that array changed."""
    is_array = isinstance(default, tuple) and default and all(map(dataclasses.is_dataclass, default))
    if not (is_array and isinstance(value, Mapping)):
        return value
    whole: dict[str, Any] = {key: [dataclasses.asdict(element) for element in default]}
    _merge(whole, {key: value}, where, prefix)
    return whole[key]


def _given_at(key: str, where: Mapping[str, str]) -> str:
    """Return where `key`, or the table or array it lies in, was given."""
    place = key
    while place and place not in where:
        place = place[: max(place.rfind("."), place.rfind("["), 0)]
    return where.get(place, key)


def _place(values: Mapping[str, Any], where: Mapping[str, str], prefix: str) -> str:
    """Return where a group of values that do not go together was given: the last of them that was."""
    given = [where[f"{prefix}{key}"] for key in values if f"{prefix}{key}" in where]
    return given[-1] if given else _given_at(prefix.rstrip("."), where) or "configuration"


def _convert(value: Any, hint: Any, key: str, where: Mapping[str, str]) -> Any:
    """Return `value` as the type `hint`. Raises ConfigError saying where it was given and what it must be."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, Mapping):
            return _build(hint, value, where, f"{key}.")
        raise ConfigError(f"{_given_at(key, where)}: '{key}' is a table of settings, not {_shown(value)}")
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, options, key, where)
    if origin is typing.Literal:
        return _convert_choice(value, options, key, where)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [options[0]] * len(value) if options[-1] is Ellipsis else list(options)
        if len(kinds) == len(value):
            places = [f"{key}[{index}]" for index in range(len(value))]
            return tuple(_convert(v, k, p, where) for v, k, p in zip(value, kinds, places, strict=True))
    return _convert_scalar(value, hint, key, where)


def _convert_union(value: Any, options: tuple[Any, ...], key: str, where: Mapping[str, str]) -> Any:
    others = [option for option in options if option is not type(None)]
    if len(others) < len(options) and value in (None, "none", "None", ""):
        return None
    for option in others[:-1]:
        with contextlib.suppress(ConfigError):
            return _convert(value, option, key, where)
    return _convert(value, others[-1], key, where)


def _convert_choice(value: Any, options: tuple[Any, ...], key: str, where: Mapping[str, str]) -> Any:
    for option in options:
        if value == option or (isinstance(value, str) and value == str(option)):
            return option
    names = ", ".join(map(str, options))
    hint = nearest(str(value), map(str, options))
    raise ConfigError(f"{_given_at(key, where)}: '{key}' must be one of {names}, not {_shown(value)}{hint}")


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}


def _convert_scalar(value: Any, hint: Any, key: str, where: Mapping[str, str]) -> Any:
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint in (int, bool) and type(value) is hint:
        return value
    if hint is str and not isinstance(value, Mapping | list):
        return str(value)
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    kind = _NAMES.get(hint) or str(hint).replace("typing.", "")
    if typing.get_origin(hint) is tuple and typing.get_args(hint)[-1] is Ellipsis:
        kind = "a list in square brackets"
    elif typing.get_origin(hint) is tuple:
        kind = f"a list of {len(typing.get_args(hint))} in square brackets"
    raise ConfigError(f"{_given_at(key, where)}: '{key}' must be {kind}, not {_shown(value)}")


def _shown(value: Any) -> str:
    """Return `value` for a message; an address may hold a key, and is not repeated."""
    return "an address" if "://" in str(value) else repr(value)
