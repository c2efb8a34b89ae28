"""The options of ``upscale`` about keeping up with a stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gtasr_video.errors import UsageError

if TYPE_CHECKING:
    from gtasr_video.api import UpscaleConfig

C = TypeVar("C", bound=Callable[..., Any])

# Named like the fields of LiveConfig, where their defaults are.
_LATENCY = (
    "What a frame of a stream may take, such as 500ms: cheaper networks and fewer frames keep it; none never drops.  "
    "[default: 1s for addresses, none for pipes and for films over http]"
)
_LATE = "What becomes of a frame that cannot be enhanced in time.  [default: bicubic]"
_METRICS = "Serve figures for Prometheus, such as :9100; on this machine alone unless a host is given."


def live_options(command: C) -> C:
    """Add the options about keeping up to `command`."""
    command = click.option("--metrics", metavar="[HOST]:PORT", help=_METRICS)(command)
    command = click.option("--late", type=click.Choice(["bicubic", "drop"]), help=_LATE)(command)
    return click.option("--latency", metavar="T|none", help=_LATENCY)(command)


def with_live(config: UpscaleConfig, options: dict[str, Any], names: tuple[str, str]) -> UpscaleConfig:
    """Take these options out of `options` and return `config` with those that were given.

    Raises UsageError if some were and would do nothing: neither input nor output, `names`, is a stream.
    """
    from gtasr_video.runtime.streaming import is_address, is_stream

    given = {name: options.pop(name) for name in ("latency", "late", "metrics")}
    given = {name: value for name, value in given.items() if value is not None}
    if given and not any(map(is_stream, names)):
        raise UsageError(f"--{next(iter(given))} is for streams; files wait until they are done")
    live = replace(config.live, **given)
    if "late" in given and live.budget_s(waits=not is_address(names[0])) is None:
        raise UsageError("--late is for frames that may be late; give --latency too")
    return replace(config, live=live)
