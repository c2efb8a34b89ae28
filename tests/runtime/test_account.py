"""The audit of outputs that are not read again: pictures, animations, pipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import gtasr_video
from gtasr_video.audit import AuditError
from gtasr_video.frames import ColorSpec, Frame, PixelLayout, VideoSpec
from gtasr_video.media.streams.config import StreamConfig
from gtasr_video.models.facts import State
from gtasr_video.ops.brightness import brightness
from gtasr_video.runtime.account import Account
from tests import fakes
from tests.clips import make_clip

SPEC = fakes.spec()
Y4M = gtasr_video.UpscaleConfig(stream=StreamConfig(output_format="y4m"))


class Glares(fakes.Nearest):
    """Makes the third frame far too bright."""

    def step(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Tensor, State]:
        y, state = super().step(x, state, seed=seed)
        return (torch.ones_like(y) if len(self.seen) == 3 else y), state


def grey(pts: int, code: int = 120) -> Frame:
    return Frame((torch.full((SPEC.height, SPEC.width), code, dtype=torch.uint8),), pts)


def account(decoded: list[Frame], written: list[Frame]) -> Account:
    made = Account(SPEC, SPEC)
    for frame in decoded:
        made.decoded(frame)
    for frame in written:
        made.written(frame)
    return made


def test_frames_that_were_given_up_and_counted_are_no_fault() -> None:
    frames = [grey(n) for n in range(6)]
    made = account(frames, [frames[0], frames[3], frames[5]])
    assert made.audit(3, 3, 3).to_json() == {
        "passed": True,
        "frames_decoded": 6,
        "frames_dropped": 3,
        "frames": 3,
        "faults": [],
        "notes": [],
    }


@pytest.mark.parametrize(
    ("written", "counts", "fault"),
    [
        (
            [0, 1, 3],
            (3, 0, 3),
            "4 frames were decoded and 0 given up, but 3 enlarged, 3 written",
        ),
        ([0, 1, 2, 3], (4, 0, 3), "4 written, and 3 are in the output"),
        ([0, 2, 1, 3], (4, 0, 4), "1 frames came out of order (at 0.001 s)"),
        ([0, 1, 2, 7], (4, 0, 4), "1 frames came from nowhere (at 0.007 s)"),
    ],
)
def test_what_is_wrong_is_found(written: list[int], counts: tuple[int, int, int], fault: str) -> None:
    made = account([grey(n) for n in range(4)], [grey(n) for n in written])
    (found,) = made.audit(*counts).faults
    assert fault in found


def test_a_black_frame_is_told_from_one_that_was_black_before() -> None:
    made = account([grey(0), grey(1, 16), grey(2)], [grey(0), grey(1, 16), grey(2, 16)])
    assert made.audit(3, 0, None).faults == ["1 frames lost their picture (at 0.002 s)"]


@pytest.mark.parametrize("color", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)])
def test_saturated_colours_are_as_bright_in_rgb_as_in_luma(color: tuple[int, int, int]) -> None:
    red, green, blue = color
    rgb = VideoSpec(4, 4, SPEC.time_base, PixelLayout("gbrp", 8, 0, 0), ColorSpec("rgb", full_range=True))
    there = brightness(Frame(tuple(torch.full((4, 4), c, dtype=torch.uint8) for c in (green, blue, red)), 0), rgb)
    for weights in ((0.299, 0.587, 0.114), (0.2126, 0.7152, 0.0722)):
        luma = sum(w * c for w, c in zip(weights, color, strict=True)) / 255
        assert there == pytest.approx(luma, abs=0.08)


@pytest.mark.parametrize("output", ["out.gif", "out/%02d.png", "out.webp", "-"])
def test_every_output_is_accounted_for(tmp_path: Path, output: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=5, size=(32, 32))
    target = output if output == "-" else tmp_path / output
    options: dict[str, Any] = {"config": Y4M, "device": "cpu"}
    report = gtasr_video.upscale(source, target, model=fakes.Nearest(2), **options)
    assert report.audit["passed"]
    assert (report.audit["frames_decoded"], report.audit["frames"]) == (5, 5)
    with pytest.raises(AuditError, match=r"1 frames lost their picture \(at 0.080 s\)"):
        gtasr_video.upscale(source, target, model=Glares(2), overwrite=True, **options)
    capfdbinary.readouterr()
    if output == "out.gif":
        with pytest.raises(AuditError, match=r"kept as out\.suspect-1\.gif"):
            gtasr_video.upscale(source, target, model=Glares(2), overwrite=True, **options)
        assert (tmp_path / "out.suspect.gif").exists() and (tmp_path / "out.suspect-1.gif").exists()
        assert not (tmp_path / "out.gif").exists()
