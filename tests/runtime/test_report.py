from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gtasr_video.errors import OutputError
from gtasr_video.runtime.report import Report, Stage, limiting

REPORT = Report(
    frames_in=3,
    frames_out=3,
    frames_dropped=0,
    corrupt_packets=1,
    seconds=0.5,
    media_seconds=0.12,
    fps=6.0,
    model="s",
    scale=4,
    seed=0,
    device="cpu",
    dtype="bfloat16",
    backend="torch",
    tiles="1x1",
    frames_redone=0,
    input={"path": "in.mp4"},
    output={"path": "out.mp4", "width": 64, "height": 48},
    stages={name: {"busy_s": 0.1, "wait_s": 0.2} for name in ("decode", "upload", "compute", "download", "encode")},
    limited_by="compute",
    peak_rss_bytes=1,
)


def test_json_has_the_keys_that_scripts_rely_on(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    REPORT.write(path)
    data = json.loads(path.read_text())
    assert {
        *("frames_in", "frames_out", "frames_dropped", "seconds", "fps", "model", "scale", "device", "dtype"),
        *("backend", "input", "output", "stages", "peak_rss_bytes", "corrupt_packets"),
    } <= set(data)
    assert data["stages"]["encode"] == {"busy_s": 0.1, "wait_s": 0.2}
    assert list(tmp_path.iterdir()) == [path]


def test_a_report_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"none/r\.json: the report cannot be written \(No such file or directory\)"):
        REPORT.write(tmp_path / "none" / "r.json")


def test_a_link_is_followed_and_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    link, pipe = tmp_path / "link.json", tmp_path / "pipe"
    link.symlink_to("report.json")
    REPORT.write(link)
    assert link.is_symlink() and json.loads((tmp_path / "report.json").read_text())["frames_in"] == 3
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        REPORT.write(pipe)
        assert json.loads(os.read(reading, 2**16))["frames_in"] == 3
    finally:
        os.close(reading)
    assert pipe.is_fifo()


def test_a_report_on_standard_output_goes_behind_what_is_there(tmp_path: Path) -> None:
    script = (
        "import sys; from tests.runtime.test_report import REPORT\n"
        "print('table', flush=True); REPORT.write('/dev/stdout')"
    )
    out = tmp_path / "out.txt"
    with out.open("w") as file:
        subprocess.run([sys.executable, "-c", script], stdout=file, check=True)
    assert out.read_text().startswith("table\n{")


@pytest.mark.parametrize("name", ["new\nline.mp4", "esc\x1b[31mred.mp4", "back\rto.mp4"])
def test_the_line_for_people_is_one_whatever_the_file_is_called(name: str) -> None:
    line = replace(REPORT, output={**REPORT.output, "path": name}).summary()
    assert line.isprintable() and ".mp4: 3 frames" in line


def test_one_line_for_people() -> None:
    line = "out.mp4: 3 frames of 64x48 in 0.5 s, 6.0 fps (0.24x real time, limited by compute)"
    assert REPORT.summary() == line
    assert "1 frame of" in replace(REPORT, frames_out=1).summary()
    joined = replace(REPORT, seconds=0.0, fps=0.0, frames_resumed=3)
    assert joined.summary() == "out.mp4: 3 frames (3 made before) of 64x48, joined"
    missed = replace(REPORT, frames_dropped=2, live={"stopgaps": 5})
    assert missed.summary() == f"{line}, 5 by bicubic for want of time, 2 dropped"


def test_a_stage_counts_work_and_waiting_also_when_it_fails() -> None:
    stage = Stage()
    with pytest.raises(ValueError, match="broken"), stage.busy():
        raise ValueError("broken")
    with stage.waiting():
        pass
    assert stage.busy_s > 0
    assert stage.wait_s > 0


def test_the_limiting_stage_is_the_busiest_and_unknown_at_first() -> None:
    assert limiting({"decode": 0.1, "encode": 0.3}) == "encode"
    assert limiting({"decode": 0.0, "encode": 0.0}) is None
