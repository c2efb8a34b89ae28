"""The one-call door: `upscale` wires reader, upscaler and writer together."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from gtasr_video.config import load_config
from gtasr_video.device import Device, all_devices, choose
from gtasr_video.errors import UsageError
from gtasr_video.media import Encoding, Reader, Writer
from gtasr_video.media.audit import Audit
from gtasr_video.media.encoding import plan
from gtasr_video.media.hardware import Door, Nvdec
from gtasr_video.media.streams.config import StreamConfig
from gtasr_video.media.verify import verify as compare_files
from gtasr_video.models import VideoModel, load_model
from gtasr_video.runtime.job import Job, help_job, run_job
from gtasr_video.runtime.job.workers import Helper, hire
from gtasr_video.runtime.live.config import LiveConfig
from gtasr_video.runtime.pictures import PictureJob, concerns_pictures, upscale_pictures
from gtasr_video.runtime.progress import Mode
from gtasr_video.runtime.report import Report
from gtasr_video.runtime.session import memory
from gtasr_video.runtime.streaming import Limits, check_streams, is_stream, upscale_stream
from gtasr_video.runtime.upscaler import Upscaler

log = logging.getLogger("gtasr_video")

Seconds = float | str | Fraction


@dataclass(frozen=True, slots=True)
class UpscaleConfig:
    """How to upscale, with every default; a file named with ``--config`` holds only differences.

    model    s, m, l, bicubic, or the path of a .safetensors file
    scale    2, 3, 4 or 8 times as wide and high, or 1 to restore without enlarging, as far as the model has it
    steps    how often each frame is read along the path of the method; 1 is what the networks are made for
    device   auto, cpu, cuda or cuda:N
    dtype    what the network computes in; auto is the fastest that keeps the picture on the device
    backend  auto, torch, cuda-graph, openvino or openvino-int8: who does the arithmetic; auto is the fastest there is
    seed     of the network's noise; the same input, seed, device and backend give the same bytes
    decoder  auto or software; auto takes that of the NVIDIA GPU the network runs on, where it opens
    codec, crf, preset, pix_fmt   as in `Encoding`; None leaves it to the codec
    deinterlace    auto makes whole pictures of fields where the source has them; always, never
    bake_rotation  turn the picture itself, instead of telling players to
    stream   how pipes and addresses are read and written, as in `StreamConfig`
    live     how streams are kept up with, as in `LiveConfig`

    Example::

        >>> from gtasr_video import UpscaleConfig
        >>> UpscaleConfig(model="bicubic", crf=20).scale
        4
    """

    model: str = "s"
    scale: int = 4
    steps: int = 1
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    backend: Literal["auto", "torch", "cuda-graph", "openvino", "openvino-int8"] = "auto"
    seed: int = 0
    decoder: Literal["auto", "software"] = "auto"
    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    deinterlace: Literal["auto", "always", "never"] = "auto"
    bake_rotation: bool = False
    stream: StreamConfig = field(default_factory=StreamConfig)
    live: LiveConfig = field(default_factory=LiveConfig)

    @staticmethod
    def load(name: str | None = None, overrides: Iterable[str] = ()) -> UpscaleConfig:
        """Return the defaults, changed by the configuration `name` (shipped, or a .toml file) and ``KEY=VALUE`` texts.

        Raises ConfigError for what it does not know, naming the nearest.
        """
        return load_config(UpscaleConfig, name, overrides, section="upscale")

    @property
    def encoding(self) -> Encoding:
        """The part that concerns the encoder."""
        return Encoding(self.codec, self.crf, self.preset, self.pix_fmt)

    def door(self, device: Device) -> Door | None:
        """Return the way to a hardware decoder worth trying: one whose frames are then where they are needed."""
        on_cuda = device.torch_device.type == "cuda"
        return Nvdec(device.torch_device.index or 0) if on_cuda and self.decoder == "auto" else None

    def choose_device(self) -> Device:
        """Return the device and type to compute with. Raises DeviceError if the device is not there."""
        return choose(self.device, None if self.dtype == "auto" else getattr(torch, self.dtype))


def upscale(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    config: UpscaleConfig | str | None = None,
    model: VideoModel | str | None = None,
    scale: int | None = None,
    steps: int | None = None,
    device: str | None = None,
    seed: int | None = None,
    codec: str | None = None,
    crf: int | None = None,
    preset: str | None = None,
    pix_fmt: str | None = None,
    deinterlace: Literal["auto", "always", "never"] | None = None,
    bake_rotation: bool | None = None,
    start: Seconds | None = None,
    duration: Seconds | None = None,
    frames: int | None = None,
    video_stream: int | None = None,
    drop_unsupported: bool = False,
    overwrite: bool = False,
    restart: bool = False,
    wait_for_space: bool = False,
    workers: int = 1,
    progress: Mode = "none",
) -> Report:
    """Upscale the video file `source` into `output`, with its sound, its times and its tags.

    Either may be ``-`` for standard input or output, or an address (rtmp, rtsp, srt, http, udp, tcp), and `output` an
    HLS or DASH list (.m3u8, .mpd); what is not a file is read and written as ``config.stream`` says,
    from its beginning to its end.

    config     an `UpscaleConfig`, the name of a shipped one (``fast``), or the path of a .toml file
    model      a tier, a path, or any `VideoModel` (whose own scale and steps then count)
    scale, steps, device, seed, codec, crf, preset, pix_fmt, deinterlace, bake_rotation   go before what `config` says
    start, duration   seconds (``90``, ``"1:30"``, ``"0:01:30.500"``) of `source`; frames: at most so many
    video_stream  index of the video stream to enlarge, where there are several; the others are copied
    drop_unsupported   leave out what `output` cannot hold (streams, transparency), instead of refusing
    overwrite  replace `output` if it exists; progress: what to show on stderr
    restart    begin anew, throwing away what an earlier run that did not end has kept in ``OUTPUT.job``
    wait_for_space  where the disk is full, wait for room instead of failing
    workers    processes that share the file, one for each GPU where there are several; each part of the file begins
               with a network that has seen only a few frames before it

    Nothing is left under the name `output` unless all went well; what is finished of it is kept in ``OUTPUT.job``, and
    the same call goes on from there and makes the same bytes (`Report.frames_resumed`).
    Warnings go to the logger ``gtasr_video``.
    Raises UsageError, InputError, OutputError, ModelError or DeviceError, all of them GTASRVideoError; the message is
    one line and the notes say at which frame. KeyboardInterrupt ends the run cleanly.

    Example::

        >>> import gtasr_video
        >>> report = gtasr_video.upscale("in.mp4", "out.mp4", model="bicubic", scale=2)
        >>> report.frames_out, report.output["width"]
        (10, 128)
    """
    changes = {"scale": scale, "steps": steps, "device": device, "seed": seed}
    changes |= {"codec": codec, "crf": crf, "preset": preset, "pix_fmt": pix_fmt}
    changes |= {"deinterlace": deinterlace, "bake_rotation": bake_rotation}
    settings = config if isinstance(config, UpscaleConfig) else UpscaleConfig.load(config)
    settings = replace(settings, **{key: value for key, value in changes.items() if value is not None})  # type: ignore[arg-type]
    if isinstance(model, str):
        settings, model = replace(settings, model=model), None
    window = _window(start, duration, frames)
    _check_paths(source, output)
    if is_stream(os.fspath(source)) or is_stream(os.fspath(output)):
        upscaler = _upscaler(settings, model, settings.choose_device())
        names, limits = (os.fspath(source), os.fspath(output)), Limits(*window, frames)
        return upscale_stream(
            *names,
            upscaler,
            settings.encoding,
            settings.stream,
            limits,
            settings.live,
            overwrite=overwrite,
            progress=progress,
        )
    if concerns_pictures(Path(source), Path(output)):
        pictures = PictureJob(
            Path(source),
            Path(output),
            settings.encoding,
            settings.stream.rate or "",
            *window,
            frames,
            bake_rotation=settings.bake_rotation,
            deinterlace=settings.deinterlace,
            drop_unsupported=drop_unsupported,
            overwrite=overwrite,
        )
        return upscale_pictures(pictures, _upscaler(settings, model, settings.choose_device()), progress=progress)
    request = _Request(
        Path(source),
        Path(output),
        settings,
        {
            "start": window[0],
            "duration": window[1],
            "frames": frames,
            "video_stream": video_stream,
            "deinterlace": settings.deinterlace,
        },
        {"overwrite": overwrite, "drop_unsupported": drop_unsupported},
        {"restart": restart, "wait_for_space": wait_for_space, "workers": workers},
    )
    if workers < 1 or (workers > 1 and model is not None):
        raise UsageError("several workers need the network by its name or file" if model else "workers: at least 1")
    with _opened(request, model) as job:
        return run_job(job, progress=progress, announce=lambda writer: _log_plan(job.reader, job.upscaler, writer))


@dataclass(frozen=True, slots=True)
class _Request:
    """All that makes a job of two files, so that another process can make the same: options by who takes them."""

    source: Path
    output: Path
    settings: UpscaleConfig
    reading: dict[str, Any]
    writing: dict[str, Any]
    working: dict[str, Any]


@contextmanager
def _opened(request: _Request, model: VideoModel | None = None, device: str | None = None) -> Iterator[Job]:
    """Open the source and the network for a job."""
    settings, output = request.settings, request.output
    chosen = replace(settings, device=device or settings.device).choose_device()
    with Reader(request.source, **request.reading, door=settings.door(chosen)) as reader:
        upscaler = _upscaler(settings, model, chosen)
        enlarged = reader.spec.scaled(upscaler.scale)
        if settings.bake_rotation:
            enlarged = enlarged.upright()

        def open_writer() -> Writer:
            return Writer(output, enlarged, settings.encoding, source=reader, **request.writing)

        asked: dict[str, Any] = {name: str(value) for name, value in request.reading.items()}
        asked |= {"steps": settings.steps, "drop_unsupported": request.writing["drop_unsupported"]}
        asked |= {"bake_rotation": settings.bake_rotation}
        planned = plan(output, settings.encoding, enlarged)
        hired = partial(_hire, request)
        yield Job(reader, upscaler, output, planned, open_writer, asked, hire=hired, **request.working)


def _hire(request: _Request, number: int) -> Helper:
    """Start worker `number`: on a device of its own where there are several, else with its share of the cores."""
    devices = all_devices(request.settings.device)
    share = max(1, torch.get_num_threads() // request.working["workers"]) if devices == ["cpu"] else 1
    return hire(_help, request, devices[number % len(devices)], threads=share)


def _help(request: _Request, device: str) -> None:
    with _opened(request, device=device) as job:
        help_job(job)


def verify(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    start: Seconds | None = None,
    duration: Seconds | None = None,
    frames: int | None = None,
) -> Audit:
    """Compare the video `output` with the `source` it was made of, by whatever program; both are decoded whole.

    start, duration, frames   what part of `source` went into it, as `upscale` takes them
    Returns an `Audit`: ``passed``, ``faults`` (a line each) and ``facts``. Raises UsageError or InputError.

    Example::

        >>> import gtasr_video
        >>> gtasr_video.upscale("in.mp4", "out.mp4", model="bicubic").audit["passed"]
        True
        >>> gtasr_video.verify("in.mp4", "out.mp4").passed
        True
    """
    window = _window(start, duration, frames)
    return compare_files(source, output, start=window[0], duration=window[1], frames=frames)


def _upscaler(settings: UpscaleConfig, model: VideoModel | None, device: Device) -> Upscaler:
    network = model or load_model(settings.model, scale=settings.scale, steps=settings.steps)
    # Who names a type wants torch's own arithmetic in it.
    typed = settings.dtype != "auto" and device.torch_device.type == "cpu"
    backend = "torch" if settings.backend == "auto" and typed else settings.backend
    return Upscaler(network, device=device, seed=settings.seed, backend=backend)


def parse_seconds(value: Seconds, name: str = "time") -> Fraction:
    """Return ``90``, ``"90.5"``, ``"1:30.5"`` or ``"0:01:30.5"`` as exact seconds. Raises UsageError."""
    parts = str(value).strip().split(":")
    try:
        numbers = [Fraction(part) for part in parts]
    except (ValueError, ZeroDivisionError) as error:
        raise _bad_time(value, name) from error
    whole_before = all(part.isdigit() for part in parts[:-1])
    fits = all(number < 60 for number in numbers[1:])
    if len(parts) > 3 or not whole_before or not fits or "-" in str(value):
        raise _bad_time(value, name)
    total = Fraction(0)
    for number in numbers:
        total = total * 60 + number
    return total


def _bad_time(value: Seconds, name: str) -> UsageError:
    return UsageError(f"{name} '{value}' is not a time; use seconds (90.5), mm:ss (1:30.5) or hh:mm:ss")


def _window(
    start: Seconds | None, duration: Seconds | None, frames: int | None
) -> tuple[Fraction | None, Fraction | None]:
    if frames is not None and frames < 1:
        raise UsageError(f"frames must be at least 1, not {frames}")
    if frames is not None and duration is not None:
        raise UsageError("give either a duration or a number of frames, not both")
    length = None if duration is None else parse_seconds(duration, "duration")
    if length == 0:
        raise UsageError("a duration of 0 leaves nothing to upscale")
    return None if start is None else parse_seconds(start, "start"), length


def _check_paths(source: str | os.PathLike[str], output: str | os.PathLike[str]) -> None:
    """Refuse, before anything is opened, what can be told from the names alone."""
    check_streams(os.fspath(source), os.fspath(output))
    if Path(source).is_dir():
        raise UsageError(f"{source} is a folder; give one video file, or use upscale_folder")


def _log_plan(reader: Reader, upscaler: Upscaler, writer: Writer) -> None:
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
    log.info("memory: %s", memory(spec, writer.spec))
