"""Video super-resolution that streams.

One call (`upscale`), an object (`Upscaler`), or by hand: `Reader`, `Upscaler.push`, `Writer`. Names are loaded when
first used, so that importing the package is quick and has no side effects.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gtasr_video.api import UpscaleConfig, upscale, verify
    from gtasr_video.batch import upscale_folder
    from gtasr_video.errors import GTASRVideoError
    from gtasr_video.frames import ColorSpec, Frame, PixelLayout, VideoSpec
    from gtasr_video.media import Encoding, Reader, Writer, probe
    from gtasr_video.models import VideoModel, load_model
    from gtasr_video.runtime.report import Report
    from gtasr_video.runtime.upscaler import Upscaler

_HOMES = {
    "ColorSpec": "frames",
    "Encoding": "media",
    "Frame": "frames",
    "GTASRVideoError": "errors",
    "PixelLayout": "frames",
    "Reader": "media",
    "Report": "runtime.report",
    "UpscaleConfig": "api",
    "Upscaler": "runtime.upscaler",
    "VideoModel": "models",
    "VideoSpec": "frames",
    "Writer": "media",
    "load_model": "models",
    "probe": "media",
    "upscale": "api",
    "upscale_folder": "batch",
    "verify": "api",
}

__all__ = [
    "ColorSpec",
    "Encoding",
    "Frame",
    "GTASRVideoError",
    "PixelLayout",
    "Reader",
    "Report",
    "UpscaleConfig",
    "Upscaler",
    "VideoModel",
    "VideoSpec",
    "Writer",
    "load_model",
    "probe",
    "upscale",
    "upscale_folder",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gtasr_video' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"gtasr_video.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
