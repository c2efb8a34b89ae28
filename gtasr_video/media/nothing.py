"""Why a file gives not one frame, as one line."""

from __future__ import annotations

from pathlib import Path

from gtasr_video.media.decoder import Decoder
from gtasr_video.media.source import MAX_PIXELS
from gtasr_video.media.window import Window


def why_nothing(path: Path, decoder: Decoder, window: Window) -> str:
    """Return why `decoder`, at its end, has given no frame of `path` that lies in `window`."""
    total = decoder.facts.length
    if window.start and total is not None and window.start >= total:
        return f"{path}: start {float(window.start):g} s is past its end ({float(total):.3f} s)"
    if window.start or window.duration is not None:
        return f"{path}: no frame lies between the start and the end asked for"
    if decoder.facts.codec == "webp" and _is_animated(path):
        return f"{path} is an animated WebP, which FFmpeg cannot read yet; make a GIF or numbered pictures of it"
    if not decoder.has_size:
        most = MAX_PIXELS // 10**6
        return f"{path}: its pictures have no size, or one beyond {most} million pixels, the most that is decoded"
    broken = decoder.corrupt or decoder.broken
    return f"{path}: not one frame of its video can be decoded" + (
        " (it is damaged)" if broken else " (it holds no pictures)"
    )


def _is_animated(webp: Path) -> bool:
    with webp.open("rb") as file:
        return b"ANIM" in file.read(64)
