"""Validation clips to look at: input, bicubic, the network now, and the truth, side by side."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtasr_video.ops.resize import enlarge

COLUMNS = ("input", "bicubic", "now", "truth")
_GAP = 4
_FRAME_MS = 120


@dataclass(frozen=True, slots=True)
class Look:
    """One clip as a strip of the four `COLUMNS`, uint8 (T, H, W, 3), with a white gap between them."""

    strip: NDArray[np.uint8]

    def webp(self) -> bytes:
        """Return the strip as a WebP file: a picture, or a moving one where there are more frames."""
        import PIL.Image

        first, *others = (PIL.Image.fromarray(frame) for frame in self.strip)
        data = io.BytesIO()
        first.save(
            data, "WEBP", quality=92, method=4, save_all=bool(others), append_images=others, duration=_FRAME_MS, loop=0
        )
        return data.getvalue()


def look(y: Tensor, now: Tensor, truth: Tensor) -> Look:
    """Return the strip of one clip: y (T, 3, h, w), now and truth (T, 3, H, W), all in [-1, 1]."""
    scale = truth.shape[-1] // y.shape[-1]
    squares = y.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    gap = torch.ones_like(truth[..., :_GAP])
    parts = [squares, gap, enlarge(y, scale), gap, now, gap, truth]
    strip = torch.cat([p.clamp(-1, 1) for p in parts], dim=3)
    pixels = ((strip + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    return Look(pixels.cpu().contiguous().numpy())
