"""Pictures as tensors, by Pillow or OpenCV, whichever is installed."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gtasr_video.errors import InputError, TrainingError
from gtasr_video.ops.resize import bicubic

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".ppm"})


def read_picture(path: Path, short_side: int = 0) -> Tensor:
    """Return the picture as uint8 RGB (3, H, W), turned as its EXIF data says.

    short_side   shrink what is larger to this many pixels along its short side (0: never)
    Raises InputError naming the file if it cannot be decoded, TrainingError if no decoder is installed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return shrink_to(decode_picture(data, str(path)), short_side)


def decode_picture(data: bytes, name: str) -> Tensor:
    """Return an encoded picture as uint8 RGB (3, H, W); `name` is for messages. Raises as `read_picture` does."""
    if importlib.util.find_spec("PIL"):
        array = _decode_by_pillow(data, name)
    elif importlib.util.find_spec("cv2"):
        array = _decode_by_opencv(data, name)
    else:
        raise TrainingError("reading pictures needs Pillow or OpenCV: pip install 'gtasr-video[train]'")
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


def _decode_by_pillow(data: bytes, name: str) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.mode in ("I", "F"):
                raise InputError(
                    f"{name}: its pixels have 32 bits, and what is white is not known; save it with 8 or 16"
                )
            return np.asarray(ImageOps.exif_transpose(_to_8_bit(picture)).convert("RGB"))
    except InputError:
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on a damaged file
        raise InputError(f"{name}: cannot be decoded ({type(error).__name__})") from error


def _to_8_bit(picture: "Image.Image") -> "Image.Image":  # type: ignore[name-defined]  # noqa: F821, UP037
    """Bring 16-bit grey down to 8: Pillow's own conversion cuts off instead of scaling."""
    if picture.mode.startswith("I;16"):
        known = picture if picture.mode == "I;16" else picture.convert("I")  # Pillow cannot divide big-endian ones
        return known.point(lambda value: value / 256).convert("L")
    return picture


def _decode_by_opencv(data: bytes, name: str) -> np.ndarray:
    import cv2

    picture = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR) if data else None
    if picture is None:
        raise InputError(f"{name}: cannot be decoded")
    return np.ascontiguousarray(picture[:, :, ::-1])


def shrink_to(picture: Tensor, short_side: int) -> Tensor:
    """Return `picture` (3, H, W) uint8 with its short side at most `short_side` (0: as it is), antialiased."""
    height, width = picture.shape[-2:]
    if not short_side or min(height, width) <= short_side:
        return picture
    factor = short_side / min(height, width)
    smaller = bicubic(picture[None].float(), (round(height * factor), round(width * factor)))[0]
    return smaller.round_().clamp_(0, 255).to(torch.uint8)
