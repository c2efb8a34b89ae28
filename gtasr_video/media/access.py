"""Whole videos as tensors, for training: every frame exact, decoded once."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from gtasr_video.errors import InputError


def read_clip(path: Path, limit: int = 0) -> Tensor:
    """Return the frames of the first video stream as uint8 RGB (T, 3, H, W); at most `limit` unless 0.

    Raises InputError naming the file if it holds no decodable video.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path}: no video stream")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            frames = []
            for frame in container.decode(stream):
                frames.append(frame.to_ndarray(format="rgb24"))
                if len(frames) == limit:
                    break
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be decoded ({error})") from error
    if not frames:
        raise InputError(f"{path}: holds no frame")
    return torch.from_numpy(np.ascontiguousarray(np.stack(frames).transpose(0, 3, 1, 2)))
