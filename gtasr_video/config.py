"""Configuration: frozen dataclasses hold the defaults, TOML files hold only the differences.

A configuration is found by name (``live``, ``train/smoke``) among the files that ship with the package,
or by path. An unknown key is an error that names the nearest known one, the file and the line.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from gtasr_video.errors import ConfigError

T = TypeVar("T")


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

    Raises ConfigError naming the nearest shipped configuration.
    """
    path = Path(name)
    if path.suffix == ".toml":
        if path.is_file():
            return path
        raise ConfigError(f"no configuration file {name}")
    root = config_root()
    for candidate in (root / f"{name}.toml", root / section / f"{name}.toml"):
        if candidate.is_file() and candidate.resolve().is_relative_to(root.resolve()):
            return candidate
    shipped = sorted(str(p.relative_to(root).with_suffix("")) for p in root.rglob("*.toml"))
    hint = nearest(name, shipped) or nearest(f"{section}/{name}", shipped)
    raise ConfigError(f"no configuration named '{name}'{hint}; shipped: {', '.join(shipped)}")


def load_config(
    cls: type[T], name: str | None = None, overrides: Iterable[str] = (), *, section: str = ""
) -> T:
    """Build the dataclass `cls` from its defaults, the file `name`, then ``KEY=VALUE`` overrides.

    Keys may be dotted to reach nested dataclasses; a file may start from another with ``extends = "name"``.
    Raises ConfigError for unknown keys, values of the wrong type, and files that are not TOML.
    """
    values: dict[str, Any] = {}
    where: dict[str, str] = {}
    if name is not None:
        _read_file(find_config(name, section), section, values, where, seen=())
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals:
            raise ConfigError(f"--set {item}: expected KEY=VALUE")
        _merge(values, _nest(key.strip(), _parse_value(text.strip())))
        where[key.strip()] = f"--set {key.strip()}"
    return _build(cls, values, where, prefix="")


def _read_file(
    path: Path, section: str, values: dict[str, Any], where: dict[str, str], seen: tuple[Path, ...]
) -> None:
    if path in seen:
        raise ConfigError(f"{path}: 'extends' leads back to itself")
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML ({error})") from error
    base = data.pop("extends", None)
    if base is not None:
        _read_file(find_config(str(base), section), section, values, where, (*seen, path))
    _merge(values, data)
    for key in _flat(data):
        where[key] = f"{path}:{_line_of(text, key)}"


def _line_of(text: str, key: str) -> int:
    """Line of `key` in a TOML text, good enough for a message: the table header, then the last part."""
    table, _, leaf = key.rpartition(".")
    inside = not table
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            inside = stripped.strip("[] ") == table
        head = stripped.split("=")[0].strip()
        if (inside and head == leaf) or head == key:
            return number
    return 1


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in data.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
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
    known = [f.name for f in dataclasses.fields(cls) if f.init]  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        full = f"{prefix}{key}"
        place = where.get(full, full)
        if key not in known:
            raise ConfigError(f"{place}: unknown key '{full}'{nearest(key, known)}")
        hint = hints[key]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{place}: '{full}' is a table of settings, not {value!r}")
            arguments[key] = _build(hint, value, where, f"{full}.")
        else:
            arguments[key] = _convert(value, hint, full, place)
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where.get(prefix.rstrip('.'), 'configuration')}: {error}") from error


def _convert(value: Any, hint: Any, key: str, place: str) -> Any:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value in ("none", "None", "") and type(None) in options:
            return None
        for option in options:
            if option is not type(None):
                try:
                    return _convert(value, option, key, place)
                except ConfigError:
                    continue
    elif origin is typing.Literal:
        if value in options:
            return value
        names = ", ".join(map(str, options))
        hint_text = nearest(str(value), map(str, options))
        raise ConfigError(f"{place}: '{key}' must be one of {names}, not {value!r}{hint_text}")
    elif origin is tuple and isinstance(value, list | tuple):
        if len(options) == 2 and options[1] is Ellipsis:
            return tuple(_convert(v, options[0], f"{key}[{n}]", place) for n, v in enumerate(value))
        if len(options) == len(value):
            return tuple(_convert(v, o, key, place) for v, o in zip(value, options, strict=True))
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return _build(hint, value, {f"{key}.{k}": place for k in value}, f"{key}.")
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif hint in (int, bool) and type(value) is hint:
        return value
    elif hint is str and not isinstance(value, dict | list):
        return str(value)
    elif hint is Path and isinstance(value, str):
        return Path(value)
    kind = getattr(hint, "__name__", str(hint))
    raise ConfigError(f"{place}: '{key}' must be {kind}, not {value!r}")
