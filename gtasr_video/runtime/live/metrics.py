"""Figures for Prometheus: read when they are asked for, so serving them costs a run nothing in between."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gtasr_video.errors import UsageError
from gtasr_video.runtime.live.config import address_of
from gtasr_video.runtime.live.status import LiveMonitor

if TYPE_CHECKING:
    from prometheus_client import Metric

log = logging.getLogger("gtasr_video")

PREFIX = "gtasr_video"
# Upper bounds of the latency's classes, in seconds: from a fraction of a frame's duration to what nobody waits for.
BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)


@contextmanager
def serving(monitor: LiveMonitor, address: str | None) -> Iterator[int | None]:
    """Serve the figures of `monitor` at ``http://ADDRESS/metrics`` while the block runs; yields the port.

    address  as in `LiveConfig.metrics`; port 0 takes a free one, None serves nothing
    Raises UsageError if the address is not free, or prometheus_client (the extra ``live``) is not installed.
    """
    if address is None:
        yield None
        return
    host, port = address_of(address)
    try:
        from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
    except ImportError as error:
        raise UsageError("--metrics needs prometheus_client; install it: pip install 'gtasr-video[live]'") from error
    registry = CollectorRegistry()
    registry.register(Figures(monitor))
    ProcessCollector(registry=registry)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise UsageError(f"--metrics {address}: cannot listen there ({error.strerror or error})") from error
    try:
        log.info("metrics: http://%s:%d/metrics", host, server.server_port)
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Figures:
    """A collector for a Prometheus registry."""

    def __init__(self, monitor: LiveMonitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterator[Metric]:
        """Yield every figure as it is now."""
        yield from self._frames()
        yield from self._state()
        yield self._latency()

    def _frames(self) -> Iterator[Metric]:
        monitor, traffic = self._monitor, self._monitor.traffic
        yield _counter("frames_in", "Frames decoded.", monitor.frames_in)
        yield _counter("frames_out", "Frames encoded.", monitor.frames_out)
        yield _counter("stopgap_frames", "Frames made by bicubic because time was short.", traffic.stopgaps)
        yield _counter("overdue_frames", "Frames that were ready only after their budget.", traffic.overdue)
        yield _labelled("made_frames", "Frames by the network that made them.", "network", monitor.made())
        reasons = {"queue": traffic.lost, "late": traffic.late, "rate": traffic.skipped}
        yield _labelled("dropped_frames", "Frames left out, and why.", "reason", reasons)
        yield _counter("media_seconds", "Playing time written.", monitor.media_seconds)

    def _state(self) -> Iterator[Metric]:
        monitor, vitals = self._monitor, self._monitor.vitals()
        yield _counter("reconnects", "Times an input or output connected anew.", vitals.get("reconnects", 0))
        yield _counter("lost_packets", "Packets that the network lost on their way here.", vitals.get("lost", 0))
        yield _counter("output_dropped", "What outputs gave up for slow receivers.", vitals.get("dropped", 0))
        yield _counter("ladder_changes", "Steps up and down the ladder.", monitor.changed)
        busy = "Seconds each stage was at work, and those spent waiting for the source or for playback speed."
        yield _labelled("busy_seconds", busy, "stage", monitor.busy())
        queues = monitor.queues() | vitals.get("queues", {})
        yield _labelled("queue_length", "Items that wait, by queue.", "queue", queues, gauge=True)
        yield _labelled("tier", "What frames are made by now.", "tier", {monitor.tier: 1}, gauge=True)
        if "av_offset_s" in vitals:
            yield _gauge("av_offset_seconds", "By how much sound is ahead of the picture.", vitals["av_offset_s"])
        if "bitrate_bps" in vitals:
            yield _gauge("output_bits_per_second", "Bit rate of the output.", vitals["bitrate_bps"])

    def _latency(self) -> Metric:
        from prometheus_client.core import HistogramMetricFamily

        latencies = self._monitor.traffic.latencies
        *counts, total = latencies.at_most(BOUNDS_S)
        buckets = [(str(bound), float(count)) for bound, count in zip(BOUNDS_S, counts, strict=True)]
        text = "Seconds from a frame's arrival to its encoding."
        return HistogramMetricFamily(
            f"{PREFIX}_latency_seconds", text, [*buckets, ("+Inf", float(total))], sum_value=latencies.total_s
        )


def _counter(name: str, text: str, value: float) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(f"{PREFIX}_{name}", text, value)


def _gauge(name: str, text: str, value: float) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, float], *, gauge: bool = False) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    family = (GaugeMetricFamily if gauge else CounterMetricFamily)(f"{PREFIX}_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
