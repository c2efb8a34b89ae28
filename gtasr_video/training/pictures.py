"""Pictures as tensors, by Pillow or OpenCV, whichever is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gtasr_video.errors import InputError, TrainingError

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".ppm"})


def read_picture(path: Path) -> Tensor:
    """Return the picture as uint8 RGB (3, H, W), turned as its EXIF data says.

    Raises InputError naming the file if it cannot be decoded, TrainingError if no decoder is installed.
    """
    try:
        array = _read_by_pillow(path)
    except ImportError:
        array = _read_by_opencv(path)
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


def _read_by_pillow(path: Path) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    # Pillow's plugins raise nearly anything on a damaged file.
    except Exception as error:
        raise InputError(f"{path}: cannot be decoded ({error})") from error


def _read_by_opencv(path: Path) -> np.ndarray:
    try:
        import cv2
    except ImportError as error:
        raise TrainingError("reading pictures needs Pillow or OpenCV: pip install 'gtasr-video[train]'") from error
    data = np.fromfile(path, dtype=np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if picture is None:
        raise InputError(f"{path}: cannot be decoded")
    return np.ascontiguousarray(picture[:, :, ::-1])
