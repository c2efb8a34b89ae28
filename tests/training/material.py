"""Small pictures and videos to train on, with something to see at every place and scale."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def texture(height: int, width: int, seed: int = 0) -> Tensor:
    """Return a picture (3, H, W) uint8: noise of several sizes, smooth enough to be sampled between pixels."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(1, 3, height, width)
    for cell, strength in ((64, 60.0), (16, 40.0), (6, 25.0)):
        coarse = torch.randn(1, 3, height // cell + 3, width // cell + 3, generator=generator)
        total += strength * F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
    return (total[0] + 128).clamp(0, 255).to(torch.uint8)


def save_picture(path: Path, picture: Tensor) -> Path:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(path)
    return path


def panning(frames: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Return a clip (T, 3, H, W) uint8 that pans over a texture by (2, 1) pixels a frame."""
    whole = texture(height + frames, width + 2 * frames, seed)
    return torch.stack([whole[:, k : k + height, 2 * k : 2 * k + width] for k in range(frames)])


def save_video(path: Path, clip: Tensor, codec: str = "libx264", pixel_format: str = "yuv420p", **options: str) -> Path:
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(25), options=options)
        stream.height, stream.width = clip.shape[-2:]
        stream.pix_fmt = pixel_format
        for picture in clip.permute(0, 2, 3, 1).contiguous().numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode(None))
    return path
