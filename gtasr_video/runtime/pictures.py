"""Runs that read or write pictures rather than a video: single ones, numbered ones, animations."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gtasr_video.errors import UsageError
from gtasr_video.media import Encoding, Reader, Writer
from gtasr_video.media.codecs import ANIMATIONS, CONTAINERS
from gtasr_video.media.left_out import NOTHING, LeftOut, all_but
from gtasr_video.media.numbers import check_rate
from gtasr_video.media.sequence import USUAL_RATE, PictureWriter, SequenceReader, is_pattern
from gtasr_video.media.stills import FORMS, NO_LABELS, Labels
from gtasr_video.media.window import WHOLE, Window
from gtasr_video.runtime.account import settled
from gtasr_video.runtime.announce import log_plan
from gtasr_video.runtime.progress import Mode, Monitor, showing
from gtasr_video.runtime.report import Report
from gtasr_video.runtime.session import run
from gtasr_video.runtime.upscaler import Upscaler

log = logging.getLogger("gtasr_video")

_ANIMATIONS = tuple(suffix for suffix, form in CONTAINERS.items() if form.muxer in ANIMATIONS)
_STILLS = {*FORMS, ".avif", ".ppm", ".pgm", ".jxl", ".qoi", ".dpx"}


@dataclass(frozen=True, slots=True)
class PictureJob:
    """From `source` to `output`, of which one at least is no video file.

    rate   pictures a second of numbered ones, as text; "" for 25
    video_stream   index of the picture's stream in a video; None takes the first that is no still
    """

    source: Path
    output: Path
    encoding: Encoding
    rate: str = ""
    window: Window = WHOLE
    video_stream: int | None = None
    bake_rotation: bool = False
    deinterlace: Any = "auto"
    drop_unsupported: bool = False
    overwrite: bool = False


def concerns_pictures(source: Path, output: Path) -> bool:
    """Return whether this is a run of `upscale_pictures`."""
    return is_pattern(source) or output.suffix.lower() in {*FORMS, *_ANIMATIONS}


def upscale_pictures(job: PictureJob, upscaler: Upscaler, *, progress: Mode = "none") -> Report:
    """Do `job` and report. Raises what readers, writers and `run` raise."""
    with _reader(job) as reader, _writer(job, reader, upscaler.scale) as writer:
        log_plan(reader, upscaler, writer)
        monitor = Monitor(reader.frame_count_estimate, reader.duration)
        with showing(monitor, progress):
            report = run(reader, upscaler, writer, monitor=monitor)
    for warning in (*reader.warnings(), *writer.warnings()):
        log.warning("%s", warning)
    return settled(report, job.output)


def _reader(job: PictureJob) -> Reader | SequenceReader:
    if not is_pattern(job.source):
        return Reader(job.source, **asdict(job.window), video_stream=job.video_stream, deinterlace=job.deinterlace)
    if job.video_stream is not None:
        raise UsageError(f"{job.source}: numbered pictures have no streams to choose from; leave --video-stream out")
    if job.deinterlace == "always":
        raise UsageError(f"{job.source}: numbered pictures are taken as they are; leave --deinterlace always out")
    return SequenceReader(job.source, check_rate(job.rate) if job.rate else USUAL_RATE, job.window)


def _writer(job: PictureJob, reader: Reader | SequenceReader, scale: int) -> PictureWriter | Writer:
    spec = reader.spec.scaled(scale)
    output, suffix = job.output, job.output.suffix.lower()
    is_still = job.source.suffix.lower() in _STILLS
    many = is_pattern(output)
    if suffix not in FORMS or (suffix == ".webp" and not many and not (is_still and _is_single(reader))):
        source = reader if isinstance(reader, Reader) else None
        return Writer(
            output,
            spec.upright() if job.bake_rotation or suffix in _ANIMATIONS else spec,
            job.encoding,
            source=source,
            overwrite=job.overwrite,
            drop_unsupported=job.drop_unsupported,
        )
    if any((job.encoding.codec, job.encoding.crf, job.encoding.preset, job.encoding.pix_fmt)):
        raise UsageError(f"{output} is a picture: it takes no codec, crf, preset or pixel format")
    keeps_turn = is_still and not many and FORMS[suffix].exif and not job.bake_rotation
    return PictureWriter(
        output,
        spec if keeps_turn else spec.upright(),
        labels=Labels.of(job.source) if is_still and isinstance(reader, Reader) else NO_LABELS,
        first=reader.first if isinstance(reader, SequenceReader) else 1,
        inputs=(job.source,) if isinstance(reader, Reader) else (),
        left_out=_left_out(job, reader, FORMS[suffix].name),
        overwrite=job.overwrite,
        drop_unsupported=job.drop_unsupported,
    )


def _left_out(job: PictureJob, reader: Reader | SequenceReader, form: str) -> LeftOut:
    if not isinstance(reader, Reader) or job.source.suffix.lower() in _STILLS:
        return NOTHING
    return all_but(job.source, reader.stream_index, form, drop_unsupported=job.drop_unsupported)


def _is_single(reader: Reader | SequenceReader) -> bool:
    return isinstance(reader, Reader) and reader.facts()["container"].endswith("_pipe")
