from __future__ import annotations

import base64
import dataclasses
import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from gtasr_video.device import choose
from gtasr_video.training.charts import chart, thinned
from gtasr_video.training.looks import look
from gtasr_video.training.loop import train
from gtasr_video.training.progress import Display, Pace, sparkline
from gtasr_video.training.settings import Phase, TrainSettings
from tests.training.test_loop import STAGE_ONE, settings

CPU = choose("cpu", torch.float32)


class Reader(HTMLParser):
    """Collects pictures, and whatever would be fetched from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "src" and tag == "img" and value and value.startswith("data:image/webp;base64,"):
                self.images.append(value)
            elif name in ("src", "href"):
                self.fetched.append(value or "")


def test_the_report_has_all_curves_pictures_and_settings_and_needs_no_other_file(
    material: Path, tmp_path: Path
) -> None:
    first = dataclasses.replace(STAGE_ONE, clips=4, frames=2)
    second = dataclasses.replace(first, stage=2, steps=3, power=1.0)
    seen: list[bytes] = []

    def watch(line: dict[str, Any]) -> None:
        page = tmp_path / "run" / "report.html"
        seen.append(page.read_bytes() if page.exists() else b"")

    train(settings(first, second, validate_every=2), [material], tmp_path / "run", device=CPU, on_step=watch)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    for name in ("loss", "loss/ct", "loss/ta", "loss/dtm", "loss/rect", "loss/tta", "validation/psnr_gain"):
        assert f"<b>{name}</b>" in page, name
    assert page.count("phases.1.stage") == 1
    reader = Reader()
    reader.feed(page)
    assert reader.fetched == []
    assert len(reader.images) == 4
    shown = base64.b64decode(reader.images[0].partition(",")[2])
    kept = sorted((tmp_path / "run" / "validation").iterdir())
    assert [p.name for p in kept] == [f"step-0000000{s}-{n}.webp" for s in (2, 4) for n in (1, 2, 3, 4)]
    assert kept[4].read_bytes() == shown
    with PIL.Image.open(io.BytesIO(shown)) as clip:
        assert (clip.n_frames, clip.size) == (2, (4 * 64 + 3 * 4, 64))
    # After step 3 the page is the one of step 2: it is written at validations, and replaced whole.
    assert [bool(s) for s in seen] == [False, False, True, True]
    assert b"at step 2" in seen[2]
    assert "at step 4" in page
    assert not list((tmp_path / "run").rglob("*.part"))


def test_a_strip_shows_input_bicubic_now_and_truth() -> None:
    y = torch.full((1, 3, 4, 4), -0.5)
    strip = look(y, torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)).strip
    columns = [strip[0, 8, x].tolist() for x in (8, 28, 48, 68)]
    assert columns == [[64] * 3, [64] * 3, [128] * 3, [255] * 3]
    assert strip[0, 8, 17].tolist() == [255] * 3


def test_a_curve_is_svg_within_its_frame_and_marks_phases() -> None:
    values = [(step, 1.0 + (1e6 if step == 50 else 0.01 * step)) for step in range(1, 101)]
    text = chart("loss/<ct>", values, [40])
    svg = ET.fromstring(re.search(r"<svg.*</svg>", text, re.DOTALL)[0])  # type: ignore[index]
    assert "loss/&lt;ct&gt;" in text
    line = svg.find("polyline")
    assert line is not None
    places = np.array([[float(v) for v in p.split(",")] for p in line.attrib["points"].split()])
    assert places.shape == (100, 2)
    assert (np.diff(places[:, 0]) > 0).all()
    assert places[:, 1].min() >= 6
    assert places[:, 1].max() <= 150
    # The one wild step is cut off, so that the slope of the others can be seen.
    assert places[0, 1] - places[-1, 1] > 100
    assert len(svg.findall("line")) == 1


def test_a_long_run_is_thinned_to_means_and_ranges() -> None:
    points = thinned([(k, float(k % 10)) for k in range(10_000)], 100)
    assert len(points) == 100
    assert {p.mean for p in points} == {4.5}
    assert {(p.low, p.high) for p in points} == {(0.0, 9.0)}


def test_the_sparkline_shows_the_course_of_means() -> None:
    assert sparkline([]) == ""
    assert sparkline([3.0]) == "▁"
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 2, 7, 9], width=2) == "▁█"
    assert len(sparkline(range(1000), width=32)) == 32  # type: ignore[arg-type]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_time_left_counts_frames_and_batch_of_the_phases_to_come() -> None:
    plan = TrainSettings(phases=(Phase(clips=40, batch=4), Phase(clips=20, batch=2, frames=6)))
    clock = Clock()
    pace = Pace(plan, clock)
    assert pace.eta_s is None
    for step in range(1, 6):
        clock.now += 2.0
        pace.step({"step": step, "phase": 0})
    assert pace.total == 20
    assert pace.clips_per_second == pytest.approx(2.0)
    assert pace.eta_s == pytest.approx((5 * 4 + 10 * 12) / 2.0)


def test_a_resumed_run_does_not_count_what_was_done_before() -> None:
    clock = Clock()
    pace = Pace(TrainSettings(phases=(Phase(clips=100, batch=1),)), clock)
    for step in (91, 92):
        clock.now += 1.0
        pace.step({"step": step, "phase": 0})
    assert pace.clips_per_second == pytest.approx(1.0)
    assert pace.eta_s == pytest.approx(8.0)


def test_the_display_names_terms_speed_time_left_and_validation() -> None:
    clock = Clock()
    display = Display(TrainSettings(phases=(Phase(clips=8, batch=2),)), clock)
    line = {"stage": 1, "phase": 0, "loss/ct": 0.25, "loss/ta": 0.5}
    for step, loss in ((1, 0.9), (2, 0.3)):
        clock.now += 0.5
        display.step({**line, "step": step, "loss": loss})
    display.step({**line, "step": 3, "loss": 0.5, "validation/psnr_gain": 0.123, "validation/score": 0.9})
    assert display.lines() == [
        "step 3/4  stage 1  6.0 clips/s  0:00 left",
        "loss 0.5000 █▁▃  ct 0.2500  ta 0.5000",
        "validation at step 3: +0.12 dB against bicubic",
    ]
