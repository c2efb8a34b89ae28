"""VMAF, Netflix's fusion of video quality measures, by the libvmaf in the bundled ffmpeg (model vmaf_v0.6.1)."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import ffmpeg

from gtasr_video.errors import EvaluationError
from gtasr_video.evaluation.streams import RATE, SCALE_FLAGS, run_ffmpeg


def vmaf(result: Path, truth: Path) -> float:
    """Return the mean VMAF of the video `result` against `truth`, 0 to 100, frame by frame in order.

    Both are read as 4:2:0, 8 bit. Raises EvaluationError if ffmpeg fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "vmaf.json"
        graph = ffmpeg.filter(
            # The extra filter keeps the two branches apart where both are one file.
            [_planes(_video(result)), _planes(_video(truth).filter("null"))],
            "libvmaf",
            log_fmt="json",
            log_path=str(log),
            n_threads=2,
            shortest=1,
        )
        run_ffmpeg(ffmpeg.output(graph, "-", format="null"), f"{result}: VMAF cannot be measured")
        try:
            return float(json.loads(log.read_text(encoding="utf-8"))["pooled_metrics"]["vmaf"]["mean"])
        except (OSError, ValueError, KeyError) as error:
            raise EvaluationError(f"{result}: VMAF cannot be measured ({error!r})") from error


def _video(path: Path) -> Any:
    return ffmpeg.input(f"file:{path}").video


def _planes(video: Any) -> Any:
    # Frames are paired by number, whatever time stamps a peer wrote.
    numbered = video.filter("settb", f"1/{RATE}").filter("setpts", "N")
    sized = numbered.filter("scale", flags=SCALE_FLAGS, out_color_matrix="bt709", out_range="tv")
    return sized.filter("format", "yuv420p")
