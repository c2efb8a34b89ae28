"""Real frames to measure ranges on, shipped with the package: eight shots of four frames (NOTICE says whose).

They are small and compressed, as what is upscaled is. ``benchmarks/calibration_clip.py`` makes the clip.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from gtasr_video.media import Reader
from gtasr_video.ops.color import yuv_to_rgb

CLIP = Path(__file__).resolve().parent / "calibration.mp4"
FRAMES = 4  # of each shot


def shots() -> list[Tensor]:
    """Return clips (4, 3, 112, 192) in [-1, 1]."""
    with Reader(CLIP) as reader:
        spec = reader.spec
        frames = [yuv_to_rgb(frame.planes, spec.layout, spec.color).mul_(2).sub_(1) for frame in reader]
    return list(torch.split(torch.cat(frames), FRAMES))
