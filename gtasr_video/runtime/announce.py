"""What a run uses and why, told before it begins to those who ask for it."""

from __future__ import annotations

import logging

from gtasr_video.frames import FrameReader, FrameWriter
from gtasr_video.runtime.session import QUEUE, memory
from gtasr_video.runtime.upscaler import Upscaler

log = logging.getLogger("gtasr_video")


def log_plan(reader: FrameReader, upscaler: Upscaler, writer: FrameWriter, queue: int = QUEUE) -> None:
    """Say what is read, what enlarges it and where, what is written, and what memory `queue` frames a queue take."""
    spec, device, output = reader.spec, upscaler.device, writer.facts()
    facts = upscaler.model.facts
    log.info("input: %dx%d %s, %s", spec.width, spec.height, spec.layout.name, spec.color.matrix)
    log.info("model: %s x%d, seed %d", facts.name, facts.scale, upscaler.seed)
    dtype = str(device.dtype).removeprefix("torch.")
    log.info("device: %s in %s by %s (%s)", device.name, dtype, upscaler.backend, device.reason)
    log.info(
        "output: %dx%d %s, %s crf %s preset %s",
        *(output[k] for k in ("width", "height", "pix_fmt", "encoder", "crf", "preset")),
    )
    log.info("memory: %s", memory(spec, writer.spec, queue))
