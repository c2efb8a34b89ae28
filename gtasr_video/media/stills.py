"""One picture as the bytes of a file: PNG, JPEG, WebP, TIFF or BMP, with its EXIF data and colour profile."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from gtasr_video.errors import InputError, UsageError
from gtasr_video.frames import ColorSpec, Frame, PixelLayout, VideoSpec
from gtasr_video.media.planes import LAYOUTS, with_alpha

_ORIENTATION: Final = 0x0112
_EXIF_IFD, _WIDTH, _HEIGHT = 0x8769, 0xA002, 0xA003
# Tags by which a TIFF says where its pixels lie: its EXIF data and those are one list.
_STRUCTURE: Final = {254, 256, 257, 258, 259, 262, 273, 277, 278, 279, 282, 283, 284, 296, 317, 320, 338, 339, 34675}
_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}


@dataclass(frozen=True, slots=True)
class Form:
    """A picture format: Pillow's name, whether it holds alpha, EXIF data and 16 bits a sample."""

    name: str
    alpha: bool = False
    exif: bool = True
    deep: bool = False


FORMS: Final = {
    ".png": Form("PNG", alpha=True, deep=True),
    ".jpg": Form("JPEG"),
    ".jpeg": Form("JPEG"),
    ".webp": Form("WEBP", alpha=True),
    ".tif": Form("TIFF", alpha=True),
    ".tiff": Form("TIFF", alpha=True),
    ".bmp": Form("BMP", exif=False),
}


@dataclass(frozen=True, slots=True)
class Labels:
    """What a picture file says beside its pixels, as bytes; empty where it says nothing."""

    exif: bytes = b""
    icc: bytes = b""

    @staticmethod
    def of(path: Path) -> Labels:
        """Read them from the picture `path`; a file that is none has none. Raises InputError for one that is broken."""
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as image:
                # A profile of inks means nothing for the RGB that such pictures are decoded to.
                icc = b"" if image.mode == "CMYK" else image.info.get("icc_profile") or b""
                exif = image.getexif()
                for tag in _STRUCTURE.intersection(exif):
                    del exif[tag]
                return Labels(exif.tobytes() if exif else b"", icc)
        except UnidentifiedImageError:
            return Labels()
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"{path}: its EXIF data cannot be read ({error})") from error

    def sized(self, width: int, height: int, *, upright: bool) -> Labels:
        """Return them for a picture of another size; `upright`: its pixels are turned already."""
        if not self.exif:
            return self
        from PIL import Image

        exif = Image.Exif()
        exif.load(self.exif)
        inner = exif.get_ifd(_EXIF_IFD)
        if inner:
            inner[_WIDTH], inner[_HEIGHT] = width, height
        if upright and _ORIENTATION in exif:
            exif[_ORIENTATION] = 1
        return replace(self, exif=exif.tobytes())


NO_LABELS: Final = Labels()


# EXIF's eight orientations as degrees counter-clockwise, after mirroring left to right or not.
_ORIENTATIONS: Final = {
    1: (0, False),
    2: (0, True),
    3: (180, False),
    4: (180, True),
    5: (90, True),
    6: (270, False),
    7: (270, True),
    8: (90, False),
}


def orientation_of(path: Path) -> tuple[int, bool]:
    """Return (degrees counter-clockwise, mirrored before that) by which viewers turn the picture `path`."""
    exif = Labels.of(path).exif
    if not exif:
        return 0, False
    from PIL import Image

    read = Image.Exif()
    read.load(exif)
    return _ORIENTATIONS.get(read.get(_ORIENTATION, 1), (0, False))


def form_of(path: Path) -> Form:
    """Return the format that the extension of `path` names. Raises UsageError."""
    suffix = path.suffix.lower()
    if suffix not in FORMS:
        raise UsageError(f"{path}: pictures are written as {', '.join(FORMS)}, not '{suffix}'")
    return FORMS[suffix]


def spec_for(form: Form, spec: VideoSpec, *, drop_alpha: bool = False) -> VideoSpec:
    """Return what frames like `spec` must look like for `form`: RGB or grey, of 8 bits or, where it can, 16.

    Raises UsageError for transparency that it cannot hold, unless `drop_alpha`.
    """
    layout = spec.layout
    if layout.alpha and not form.alpha and not drop_alpha:
        able = ", ".join(suffix for suffix, other in FORMS.items() if other.alpha)
        raise UsageError(
            f"the picture has transparency, which {form.name} cannot hold; use {able}, or --drop-unsupported"
        )
    family = "gray" if layout.planes == 1 else with_alpha("gbrp") if layout.alpha and form.alpha else "gbrp"
    suffix = "16le" if layout.bits > 8 and form.deep else ""
    color = replace(spec.color, matrix="rgb", full_range=True, matrix_code=2)
    if family == "gray":
        color = ColorSpec(spec.color.matrix if spec.color.matrix != "rgb" else "bt709", full_range=True)
    return replace(spec, layout=LAYOUTS[family + suffix], color=color)


def encoded(frame: Frame, layout: PixelLayout, form: Form, labels: Labels) -> bytes:
    """Return the file of `frame`, whose planes are in `layout` as `spec_for` has it."""
    planes = [plane.cpu() for plane in frame.planes]
    ordered = planes if layout.planes == 1 else [planes[i] for i in (2, 0, 1, *range(3, len(planes)))]
    pixels = torch.stack(ordered, dim=-1)
    return _deep_png(pixels, labels) if layout.bits > 8 else _by_pillow(pixels, form, labels)


def _by_pillow(pixels: Tensor, form: Form, labels: Labels) -> bytes:
    from PIL import Image

    flat = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    image = Image.fromarray(flat.contiguous().numpy())
    out = io.BytesIO()
    options: dict[str, Any] = dict(_OPTIONS.get(form.name, {}))
    if labels.exif and form.exif:
        options["exif"] = labels.exif
        options.pop("compression", None)  # with it Pillow cannot write EXIF data
    if labels.icc and form.exif:
        options["icc_profile"] = labels.icc
    image.save(out, form.name, **options)
    return out.getvalue()


def _deep_png(pixels: Tensor, labels: Labels) -> bytes:
    """Return a PNG of 16 bits a sample (h, w, channels), which Pillow cannot write in colour (W3C PNG, 3rd edition)."""
    height, width, channels = pixels.shape
    kind = {1: 0, 3: 2, 4: 6}[channels]
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, kind, 0, 0, 0])
    codes = pixels.to(torch.int32)
    lines = torch.stack([codes >> 8, codes & 255], dim=-1).to(torch.uint8).view(height, -1)
    # Filter 2, "up": each line as its difference from the one above, which packs far better.
    above = torch.cat([torch.zeros_like(lines[:1]), lines[:-1]])
    filtered = torch.cat([lines.new_full((height, 1), 2), lines - above], dim=1)
    chunks = [(b"IHDR", header)]
    if labels.icc:
        chunks.append((b"iCCP", b"ICC\0\0" + zlib.compress(labels.icc)))
    if labels.exif:
        chunks.append((b"eXIf", labels.exif.removeprefix(b"Exif\0\0")))
    chunks += [(b"IDAT", zlib.compress(filtered.contiguous().numpy().tobytes(), 6)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")
