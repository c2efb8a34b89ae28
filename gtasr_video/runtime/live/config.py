"""What can be asked of a live run, with every default."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from gtasr_video.errors import UsageError

Late = Literal["bicubic", "drop"]

# For streams of the network, which do not wait: enough for a hiccup of the machine, little enough to talk across.
USUAL_S = 1.0


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """How a stream is kept up with.

    latency  what a frame may take from its arrival to its encoding: ``500ms``, ``2s``; ``none`` never leaves anything
             out; ``auto`` is 1 s for addresses and none for pipes, files and films over http(s), which wait
    late     what becomes of a frame that cannot be enhanced in time: shown enlarged by ``bicubic``, or ``drop``
    metrics  where figures are served for Prometheus: ``:9100`` on this machine alone, ``0.0.0.0:9100`` for others too

    Raises UsageError for a latency that is no time, and for metrics that are no address.

    Example::

        >>> LiveConfig(latency="500ms").budget_s(waits=True)
        0.5
        >>> LiveConfig().budget_s(waits=True) is None
        True
    """

    latency: str = "auto"
    late: Late = "bicubic"
    metrics: str | None = None

    def __post_init__(self) -> None:
        self.budget_s(waits=False)
        if self.metrics is not None:
            address_of(self.metrics)

    def budget_s(self, *, waits: bool) -> float | None:
        """Return the budget in seconds for a source that `waits` for us or does not; None: none."""
        if self.latency == "none" or (self.latency == "auto" and waits):
            return None
        return USUAL_S if self.latency == "auto" else _seconds(self.latency)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(ms|s|)", text.strip())
    seconds = float(found[1]) / (1000 if found[2] == "ms" else 1) if found else 0.0
    if not 0 < seconds <= 3600:
        raise UsageError(f"--latency '{text}' is not a time such as 500ms or 2s, nor none or auto")
    return seconds


def address_of(metrics: str) -> tuple[str, int]:
    """Return (host, port) of ``:9100`` or ``HOST:9100``; without a host this machine alone. Raises UsageError."""
    host, colon, port = metrics.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--metrics '{metrics}' is not an address such as :9100 or 0.0.0.0:9100")
    return host.strip("[]") or "127.0.0.1", int(port)
