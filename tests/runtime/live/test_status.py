"""What an operator sees: the line of JSON, the panel, the figures for Prometheus."""

from __future__ import annotations

import dataclasses
import io
import json
import urllib.request

import pytest

from gtasr_video.errors import UsageError
from gtasr_video.frames import Frame, Vitals
from gtasr_video.media import MemoryReader, MemoryWriter
from gtasr_video.runtime.live.config import LiveConfig, address_of
from gtasr_video.runtime.live.ladder import Ladder
from gtasr_video.runtime.live.metrics import serving
from gtasr_video.runtime.live.panel import LivePanel
from gtasr_video.runtime.live.status import LiveMonitor, LiveStatus, together
from gtasr_video.runtime.live.traffic import CLASS, Latencies, Traffic
from gtasr_video.runtime.progress import JsonDisplay
from gtasr_video.runtime.report import Stages
from gtasr_video.runtime.upscaler import Upscaler
from tests import fakes
from tests.runtime.live.simulation import Clock, Costly


class Told(MemoryWriter):
    def vitals(self) -> Vitals:
        return Vitals(dropped=2, reconnects=1, av_offset_s=0.012, bitrate_bps=2.5e6, queues={"rtmp": 7})


class Waited(MemoryReader):
    def vitals(self) -> Vitals:
        return Vitals(waited_s=1.5, lost=17)


@pytest.fixture
def monitor() -> LiveMonitor:
    """A run of ten frames at 10 fps, half of which bicubic made, 0.2 s each, and one frame lost."""
    clock = Clock()
    monitor, traffic = LiveMonitor(clock=clock), Traffic(clock, 0.5)
    networks = [Costly(name, 0.05, clock, lambda now: 1.0) for name in ("s", "bicubic")]
    ladder = Ladder(networks, traffic, Stages(), 0.5, clock=clock)  # type: ignore[arg-type]
    ladder.start(fakes.spec(), fakes.spec())
    ends = Waited([], fakes.spec()), Told(fakes.spec())
    monitor.follow(traffic, ladder, networks, ends)  # type: ignore[arg-type]
    for number in range(11):
        frame = Frame((), number, 1)
        monitor.decoded()
        traffic.arrive(frame)
        clock.now += 0.1
        if number == 5:
            traffic.lose(number)
            continue
        traffic.make(traffic.begin(number), number % 2, stopgap=number % 2 == 1)
        clock.now += 0.1
        traffic.end(number)
        monitor.written((number + 1) / 10)
    return monitor


def test_the_line_of_json_has_what_an_operator_asks_for(monitor: LiveMonitor) -> None:
    out = io.StringIO()
    assert monitor.status() is not None
    monitor._clock.now += 1  # type: ignore[attr-defined]
    status = monitor.status()
    assert status is not None
    JsonDisplay(out).show(status)
    line = json.loads(out.getvalue())
    assert set(line) == {f.name for f in dataclasses.fields(LiveStatus)}
    assert line["fps"] == pytest.approx(10 / 3.1, abs=0.01)
    assert line["latency_p50_ms"] == line["latency_p99_ms"] == pytest.approx(200)
    told: dict[str, object] = {
        "tier": "s",
        "stopgaps": 4,
        "dropped": 1,
        "output_dropped": 2,
        "reconnects": 1,
        "lost_packets": 17,
        "av_offset_ms": 12.0,
    }
    assert {key: line[key] for key in told} == told
    assert line["bitrate_kbps"] == 2500
    assert line["queues"] == {"rtmp": 7}


def test_a_source_that_is_waited_for_longest_is_what_limits() -> None:
    class Slow(MemoryReader):
        waited_s = 0.0

        def vitals(self) -> Vitals:
            return Vitals(waited_s=self.waited_s)

    clock, stages, reader = Clock(), Stages(), Slow([], fakes.spec())
    monitor = LiveMonitor(clock=clock)
    monitor.watch(stages, {})
    monitor.follow(
        Traffic(clock), None, [Upscaler(fakes.Nearest(2), device="cpu")], (reader, MemoryWriter(fakes.spec()))
    )
    monitor.decoded()
    limits = []
    for waited, worked in ((0.9, 0.1), (0.2, 0.8)):
        reader.waited_s, stages.encode.busy_s = reader.waited_s + waited, stages.encode.busy_s + worked
        clock.now += 6
        status = monitor.status()
        assert status is not None
        limits.append(status.limiting)
    assert limits == ["source", "encode"]


def test_rates_are_those_of_the_last_seconds() -> None:
    clock = Clock()
    monitor = LiveMonitor(clock=clock)
    for _ in range(100):
        monitor.decoded()
        clock.now += 0.04
    monitor.status()
    for _ in range(200):
        monitor.decoded()
        clock.now += 0.02
        if not round(clock.now * 50) % 50:
            monitor.status()
    status = monitor.status()
    assert status is not None
    assert status.fps_in == pytest.approx(50, rel=0.25)


def test_the_panel_shows_it_and_goes_away(monitor: LiveMonitor) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    panel = LivePanel(out)
    status = monitor.status()
    assert status is not None
    panel.show(status)
    panel.show(dataclasses.replace(status, elapsed_s=3725.0, latency_p50_ms=None, av_offset_ms=None, bitrate_kbps=None))
    panel.close()
    drawn = out.getvalue()
    for text in ("tier", "p50 200 ms", "17 packets lost", "rtmp 7", "2500 kbit/s", "1:02:05", "p50 -"):
        assert text in drawn


def test_prometheus_can_read_it_while_it_runs(monitor: LiveMonitor) -> None:
    with serving(monitor, ":0") as port:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    wanted = {
        "gtasr_video_frames_in_total": 11,
        "gtasr_video_frames_out_total": 10,
        'gtasr_video_made_frames_total{network="s"}': 6,
        'gtasr_video_made_frames_total{network="bicubic"}': 4,
        'gtasr_video_dropped_frames_total{reason="queue"}': 1,
        'gtasr_video_dropped_frames_total{reason="rate"}': 0,
        "gtasr_video_stopgap_frames_total": 4,
        "gtasr_video_output_dropped_total": 2,
        "gtasr_video_reconnects_total": 1,
        "gtasr_video_lost_packets_total": 17,
        "gtasr_video_ladder_changes_total": 0,
        'gtasr_video_busy_seconds_total{stage="source"}': 1.5,
        'gtasr_video_tier{tier="s"}': 1,
        'gtasr_video_queue_length{queue="rtmp"}': 7,
        "gtasr_video_av_offset_seconds": 0.012,
        "gtasr_video_output_bits_per_second": 2.5e6,
        'gtasr_video_latency_seconds_bucket{le="0.15"}': 0,
        'gtasr_video_latency_seconds_bucket{le="0.3"}': 10,
        'gtasr_video_latency_seconds_bucket{le="+Inf"}': 10,
        "gtasr_video_latency_seconds_count": 10,
    }
    assert {key: float(lines[key]) for key in wanted} == wanted
    assert float(lines["gtasr_video_latency_seconds_sum"]) == pytest.approx(2.0)
    assert float(lines["process_resident_memory_bytes"]) > 0


def test_an_address_that_is_taken_is_one_line(monitor: LiveMonitor) -> None:
    with (
        serving(monitor, ":0") as port,
        pytest.raises(UsageError, match=rf"--metrics :{port}: cannot listen there \(.+\)"),
        serving(monitor, f":{port}"),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "expected"),
    [(":9100", ("127.0.0.1", 9100)), ("0.0.0.0:80", ("0.0.0.0", 80)), ("[::1]:9100", ("::1", 9100))],
)
def test_figures_are_served_on_this_machine_alone_unless_told_otherwise(text: str, expected: tuple[str, int]) -> None:
    assert address_of(text) == expected


@pytest.mark.parametrize("text", ["9100", ":", ":http", ":70000", "host:"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not an address such as :9100"):
        address_of(text)


@pytest.mark.parametrize(
    ("latency", "waits", "expected"),
    [
        ("auto", True, None),
        ("auto", False, 1.0),
        ("none", False, None),
        ("500ms", True, 0.5),
        ("2s", False, 2.0),
        ("1.5", False, 1.5),
        (" 40 ms ", False, 0.04),
    ],
)
def test_the_budget(latency: str, waits: bool, expected: float | None) -> None:
    assert LiveConfig(latency).budget_s(waits=waits) == expected


@pytest.mark.parametrize("latency", ["", "0", "-1s", "fast", "500us", "1h", "4000s", "1e3"])
def test_what_is_no_budget_is_refused(latency: str) -> None:
    with pytest.raises(UsageError, match="is not a time such as 500ms"):
        LiveConfig(latency).budget_s(waits=True)


def test_counts_of_both_ends_are_added_and_the_last_word_counts() -> None:
    one = Vitals(reconnects=2, av_offset_s=0.5, queues={"in": 1})
    other = Vitals(reconnects=1, dropped=3, av_offset_s=0.1, queues={"out": 2})
    assert together([one, other]) == Vitals(reconnects=3, dropped=3, av_offset_s=0.1, queues={"in": 1, "out": 2})
    assert together([]) == Vitals(reconnects=0, dropped=0, queues={})


def test_quantiles_of_a_whole_run_are_kept_in_little_memory() -> None:
    latencies = Latencies()
    assert latencies.overall((0.5,)) is None
    assert latencies.recent((0.5,)) is None
    for number in range(10_000):
        latencies.add(number / 100, (number % 1000 + 1) / 1000)
    assert latencies.overall((0.0, 0.5, 0.95, 1.0)) == pytest.approx((0.001, 0.5, 0.95, 1.0), rel=CLASS - 1)
    assert latencies.recent((0.5,)) == pytest.approx((0.75,), abs=0.01)
    assert latencies.at_most((0.25, 2.0)) == (pytest.approx(2500, rel=0.05), 10_000, 10_000)
    assert len(latencies._recent) <= 502
    assert len(latencies._classes) < 400
