"""What a program hands over, checked before any work: of a wrong type it would fail far from here, or be misread."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, get_args

from gtasr_video.api.config import UpscaleConfig
from gtasr_video.errors import UsageError
from gtasr_video.models import VideoModel
from gtasr_video.runtime.progress import Mode

# Keywords of `upscale` that go before what its `config` says.
SETTINGS: Final = (
    *("scale", "steps", "device", "seed", "codec", "crf", "preset", "pix_fmt"),
    *("deinterlace", "bake_rotation"),
)
_SWITCHES: Final = ("drop_unsupported", "overwrite", "restart", "wait_for_space")


def check_path(name: str, value: object) -> None:
    """Raise UsageError unless `value`, the argument `name`, is text or a path. It may hold a key: none is repeated."""
    if not isinstance(value, str | os.PathLike):
        raise UsageError(f"{name} must be text or a path, not {type(value).__name__}")


def paths_of(name: str, value: object) -> list[str | os.PathLike[str]]:
    """Return what the argument `name` holds, one path or several. Raises UsageError."""
    is_several = isinstance(value, Iterable) and not isinstance(value, str | os.PathLike)
    found: list[Any] = [*value] if is_several else [value]  # type: ignore[misc]
    for one in found:
        check_path(name, one)
    return found


def check_options(options: Mapping[str, Any]) -> None:
    """Raise UsageError for the first of the keywords `options` of `upscale` that is not of its type."""
    for name in _SWITCHES:
        if not isinstance(options.get(name, False), bool):
            raise UsageError(f"{name} must be True or False, not {options[name]!r}")
    modes = get_args(Mode)
    if options.get("progress", "none") not in modes:
        raise UsageError(f"progress must be one of {', '.join(modes)}, not {options['progress']!r}")


def settle(
    config: UpscaleConfig | str | os.PathLike[str] | None,
    model: VideoModel | str | os.PathLike[str] | None,
    changes: Mapping[str, Any],
) -> tuple[UpscaleConfig, VideoModel | None]:
    """Return the settings with what of `changes` is not None in them, and `model` where it is a network itself.

    Raises UsageError for a config or a model that is none, ConfigError for a value that a setting cannot have.
    """
    if not isinstance(config, UpscaleConfig | str | os.PathLike | None):
        raise UsageError(
            f"config must be an UpscaleConfig, the name of one, or a .toml file, not {type(config).__name__}"
        )
    settings = config if isinstance(config, UpscaleConfig) else UpscaleConfig.load(config)
    settings = replace(settings, **{name: value for name, value in changes.items() if value is not None})
    if isinstance(model, str | os.PathLike):
        return replace(settings, model=os.fspath(model)), None
    if not (model is None or hasattr(model, "facts")):
        raise UsageError(f"model must be a tier, a file of weights or a network, not {type(model).__name__}")
    return settings, model
