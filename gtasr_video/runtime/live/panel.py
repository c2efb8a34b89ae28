"""The figures of a live run as a panel in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from gtasr_video.runtime.live.status import LiveStatus
from gtasr_video.runtime.progress import Status


class LivePanel:
    """A few lines at the bottom of the terminal, drawn anew twice a second; see `LiveStatus` for what they mean."""

    interval_s = 0.5

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(file=stream), auto_refresh=False, transient=True)
        self._live.start()

    def show(self, status: Status) -> None:
        """Draw `status`."""
        from rich.table import Table

        assert isinstance(status, LiveStatus)
        table = Table.grid(padding=(0, 2))
        for name, text in rows(status):
            table.add_row(f"[bold]{name}[/]", text)
        self._live.update(table, refresh=True)

    def close(self) -> None:
        """Remove the panel."""
        self._live.stop()


def rows(status: LiveStatus) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of each line."""
    hours, rest = divmod(int(status.elapsed_s), 3600)
    minutes, seconds = divmod(rest, 60)
    rate = f"{status.fps_in:.1f} fps in, {status.fps:.1f} out, {status.ratio:.2f}x real time"
    yield "live", f"{hours}:{minutes:02}:{seconds:02}  frame {status.frame}  {rate}"
    yield "tier", f"{status.tier}{f', limited by {status.limiting}' if status.limiting else ''}"
    quantiles = {"p50": status.latency_p50_ms, "p95": status.latency_p95_ms, "p99": status.latency_p99_ms}
    yield "latency", "  ".join(f"{name} {_milliseconds(value)}" for name, value in quantiles.items())
    yield "queues", "  ".join(f"{name} {length}" for name, length in status.queues.items())
    yield "missed", f"{status.stopgaps} bicubic for want of time, {status.dropped} dropped"
    if status.lost_packets:
        yield "input", f"{status.lost_packets} packets lost on the way here"
    rate = "" if status.bitrate_kbps is None else f"{status.bitrate_kbps:.0f} kbit/s, "
    yield "output", f"{rate}{status.output_dropped} dropped, {status.reconnects} reconnects"
    if status.av_offset_ms is not None:
        yield "sound", f"{status.av_offset_ms:.0f} ms ahead of the picture"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"
