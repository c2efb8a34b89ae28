"""The one-call door: `upscale` wires reader, upscaler and writer together."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from gtasr_video.api.arguments import SETTINGS, check_options, check_path, settle
from gtasr_video.api.config import UpscaleConfig
from gtasr_video.api.request import Request, upscale_file
from gtasr_video.api.times import Seconds, parse_seconds, window_of
from gtasr_video.audit import Audit
from gtasr_video.errors import UsageError
from gtasr_video.media.source import refuse_empty, refuse_pipe
from gtasr_video.media.verify import verify as compare_files
from gtasr_video.models import VideoModel
from gtasr_video.runtime.pictures import PictureJob, concerns_pictures, upscale_pictures
from gtasr_video.runtime.progress import Mode
from gtasr_video.runtime.report import Report
from gtasr_video.runtime.streaming import check_streams, is_stream, upscale_stream

__all__ = ["Seconds", "UpscaleConfig", "parse_seconds", "upscale", "verify"]


def upscale(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    config: UpscaleConfig | str | None = None,
    model: VideoModel | str | os.PathLike[str] | None = None,
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
    video_stream  index of the video stream to enlarge, where there are several; files get copies of the others
    drop_unsupported   leave out what `output` cannot hold (streams, transparency), instead of refusing
    overwrite  replace `output` if it exists (of a link, what it leads to; of a list, its segments, too)
    progress   what to show on stderr
    restart    begin anew, throwing away what an earlier run that did not end has kept in ``OUTPUT.job``
    wait_for_space  where the disk is full, wait for room instead of failing; of video files
    workers    processes that share a video file, one for each GPU where there are several; each part of the file begins
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
    given = locals()
    check_options(given)
    settings, model = settle(config, model, {name: given[name] for name in SETTINGS})
    window = window_of(start, duration, frames)
    _check_paths(source, output, settings.stream.also)
    output = _behind_link(output)
    if is_stream(os.fspath(source)) or is_stream(os.fspath(output)):
        _refuse_for("streams", workers, wait_for_space)
        return upscale_stream(
            os.fspath(source),
            os.fspath(output),
            settings.open_upscaler(model, settings.choose_device()),
            settings.encoding,
            settings.stream,
            window,
            settings.live,
            video_stream=video_stream,
            deinterlace=settings.deinterlace,
            asked=[name for name in ("crf", "preset") if given[name] is not None],
            drop_unsupported=drop_unsupported,
            overwrite=overwrite,
            progress=progress,
        )
    if concerns_pictures(Path(source), Path(output)):
        _refuse_for("pictures", workers, wait_for_space)
        pictures = PictureJob(
            Path(source),
            Path(output),
            settings.encoding,
            settings.stream.rate or "",
            window,
            video_stream=video_stream,
            bake_rotation=settings.bake_rotation,
            deinterlace=settings.deinterlace,
            drop_unsupported=drop_unsupported,
            overwrite=overwrite,
        )
        return upscale_pictures(pictures, settings.open_upscaler(model, settings.choose_device()), progress=progress)
    request = Request(
        Path(source),
        Path(output),
        settings,
        {**asdict(window), "video_stream": video_stream, "deinterlace": settings.deinterlace},
        {"overwrite": overwrite, "drop_unsupported": drop_unsupported},
        {"restart": restart, "wait_for_space": wait_for_space, "workers": workers},
    )
    return upscale_file(request, model, progress=progress)


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
    check_path("source", source)
    check_path("output", output)
    return compare_files(source, output, window_of(start, duration, frames))


def _behind_link(output: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Return where a link leads: somebody has put the output there, perhaps as there is room. Else `output`.

    A list follows its own.
    """
    name = os.fspath(output)
    return os.path.realpath(name) if not is_stream(name) and Path(name).is_symlink() else output


def _check_paths(source: str | os.PathLike[str], output: str | os.PathLike[str], also: tuple[str, ...]) -> None:
    """Refuse, before anything is opened, what can be told from the names alone."""
    check_path("source", source)
    check_path("output", output)
    refuse_empty(source, "INPUT")
    refuse_empty(output, "OUTPUT")
    check_streams(os.fspath(source), os.fspath(output), also)
    if not is_stream(os.fspath(output)):
        refuse_pipe(Path(output))  # by the name that was given: behind /dev/stdout there is another
    if Path(source).is_dir():
        raise UsageError(f"{source} is a folder; give one video file, or use upscale_folder")


def _refuse_for(kind: str, workers: int, wait_for_space: bool) -> None:
    """Refuse what only a job of two video files does."""
    for option, given in (("--workers", workers != 1), ("--wait-for-space", wait_for_space)):
        if given:
            raise UsageError(f"{option} is for video files, not for {kind}; leave it out")
