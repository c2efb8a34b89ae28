"""What is upscaled: a video that is given, or one that is made."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.errors import InputError
from gtasr_video.frames import ColorSpec, Frame, PixelLayout, VideoSpec
from gtasr_video.media import Encoding, Reader, Writer
from gtasr_video.ops.color import rgb_to_yuv


def make_clip(path: Path, width: int, height: int, frames: int) -> None:
    """Write an H.264 video of a camera that moves over a texture with detail at every scale."""
    spec = VideoSpec(width, height, Fraction(1, 25), PixelLayout("yuv420p"), ColorSpec(), Fraction(25))
    with Writer(path, spec, Encoding(codec="h264", crf=20)) as writer:
        for number, picture in enumerate(_pan(width, height, frames)):
            writer.write(Frame(rgb_to_yuv(picture, spec.layout, spec.color), number, 1, number == 0))
        writer.finish()


def _pan(width: int, height: int, frames: int) -> Iterator[Tensor]:
    """Yield (1, 3, height, width) in [0, 1], each two pixels to the right of and one below the one before."""
    tall, wide = height + frames, width + 2 * frames
    generator = torch.Generator().manual_seed(0)
    texture = torch.zeros(1, 3, tall, wide)
    for side in (4, 8, 16, 32, 64):
        noise = torch.randn(1, 3, tall // side + 2, wide // side + 2, generator=generator)
        texture += side**0.5 * F.interpolate(noise, size=(tall, wide), mode="bicubic", align_corners=True)
    texture = (0.5 + texture / 50).clamp(0, 1)
    for k in range(frames):
        yield texture[..., k : k + height, 2 * k : 2 * k + width]


def first_frames(path: Path, count: int) -> tuple[VideoSpec, list[Frame]]:
    """Return what the frames of `path` look like, and at most `count` of them. Raises InputError for fewer than 4."""
    with Reader(path, frames=count) as reader:
        frames = list(reader)
        if len(frames) < 4:
            raise InputError(f"{path}: has {len(frames)} frames; at least 4 are needed to measure on")
        return reader.spec, frames
