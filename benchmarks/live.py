"""What a live relay adds: latency over a bare ffmpeg relay, a soak at playback speed, and what a change of tier costs.

Frames carry their number in their picture, so the one who sends and the one who receives, both in this process, time
the very same frame by one clock. Lines of JSON.
"""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import click
import imageio_ffmpeg
import numpy as np
import torch
from numbered import frames, luma_of, number_of, offsets, send
from numpy.typing import NDArray

from gtasr_video.media import Reader
from gtasr_video.models import VideoModel, load_model
from gtasr_video.ops.color import yuv_to_rgb
from gtasr_video.ops.metrics import psnr
from gtasr_video.ops.resize import bicubic, enlarge

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
SCALE = 4
# Seconds after the first frame that came through which do not count: what piled up while a program started is left out.
WARM_UP_S = 5.0


@dataclass
class Times:
    """When each frame was sent and received, by number. `seconds` of them count, some time after the first has come."""

    seconds: float
    sent: dict[int, float] = field(default_factory=dict)
    received: dict[int, float] = field(default_factory=dict)

    @property
    def until(self) -> float:
        """When the last frame is sent."""
        return min(self.received.copy().values(), default=float("inf")) + WARM_UP_S + self.seconds

    def goes_on(self, number: int) -> bool:
        """Note that the frame `number` is sent, and return whether it is to be."""
        goes_on = time.monotonic() < self.until
        if goes_on:
            self.sent[number] = time.monotonic()
        return goes_on

    def counted(self) -> list[int]:
        """Return the numbers of the frames that count."""
        return [number for number, at in self.sent.items() if at >= self.until - self.seconds]


def receive(pipe: Any, times: Times, scale: int) -> None:
    """Decode what comes out of `pipe` as it comes."""
    options = {"probesize": "32768", "analyzeduration": "0"}
    with av.open(pipe, format="mpegts", options=options) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for frame in container.decode(video=0):
            times.received.setdefault(number_of(luma_of(frame), scale), time.monotonic())


def relay(command: Sequence[str], scale: int, size: tuple[int, int], fps: int, seconds: float) -> Times:
    """Send numbered frames through `command`, from its standard input to its standard output, and time them."""
    times = Times(seconds)
    # Unbuffered: what has come must not wait until so many bytes have.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        sender = threading.Thread(target=send, args=(process.stdin, size, fps, times.goes_on))
        sender.start()
        receive(process.stdout, times, scale)
        sender.join()
    return times


def relays(models: Sequence[str], latency: str) -> Iterator[tuple[str, list[str], int]]:
    """Yield name, command and scale of each relay."""
    low = ["-v", "error", "-probesize", "32768", "-analyzeduration", "0", "-f", "mpegts", "-i", "-"]
    out = ["-f", "mpegts", "-flush_packets", "1", "-muxdelay", "0", "-muxpreload", "0", "-pes_payload_size", "0", "-"]
    encode = ["-c:v", "libx264", "-preset", "superfast", "-crf", "23", "-tune", "zerolatency"]
    yield "ffmpeg, copied", [FFMPEG, *low, "-c", "copy", *out], 1
    enlarged = ["-vf", f"scale=iw*{SCALE}:ih*{SCALE}:flags=bicubic"]
    yield "ffmpeg, bicubic and x264", [FFMPEG, *low, *enlarged, *encode, *out], SCALE
    ours = [sys.executable, "-m", "gtasr_video", "upscale", "-", "-", "--input-format", "mpegts", "--progress", "none"]
    ours += ["--config", "live", "--latency", latency, "--scale", str(SCALE)]
    for model in models:
        yield f"gtasr-video {model}", [*ours, "--model", model], SCALE


def milliseconds(times: Times) -> NDArray[np.float64]:
    """Return the latency of every frame that arrived and counts."""
    return np.array([1000 * (times.received[n] - times.sent[n]) for n in times.counted() if n in times.received])


@click.group()
def main() -> None:
    """See the commands."""


@main.command()
@click.option("--size", type=(int, int), default=(160, 96), show_default=True)
@click.option("--fps", default=15, show_default=True)
@click.option("--seconds", default=30.0, show_default=True, help="That count.")
@click.option("--latency", default="1s", show_default=True, help="The budget of our relays.")
@click.option("--model", "models", multiple=True, default=("bicubic", "s"), show_default=True)
def latency(size: tuple[int, int], fps: int, seconds: float, latency: str, models: tuple[str, ...]) -> None:
    """Time frames from the sender's encoder to the receiver's decoder, through each relay in turn."""
    bare = 0.0
    for name, command, scale in relays(models, latency):
        times = relay(command, scale, size, fps, seconds)
        taken = milliseconds(times)
        p50, p95 = np.percentile(taken, (50, 95))
        bare = bare or p50
        counted = len(times.counted())
        line = {"relay": name, "size": size, "fps": fps, "frames": counted, "missing": counted - len(taken)}
        line |= {"p50_ms": round(p50, 1), "p95_ms": round(p95, 1), "added_p50_ms": round(p50 - bare, 1)}
        click.echo(json.dumps(line))


@main.command()
@click.option("--size", type=(int, int), default=(160, 96), show_default=True)
@click.option("--fps", default=15, show_default=True)
@click.option("--minutes", default=30.0, show_default=True)
@click.option("--model", default="s", show_default=True)
@click.option("--latency", default="1s", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A folder for what is recorded.")
def soak(size: tuple[int, int], fps: int, minutes: float, model: str, latency: str, out: Path) -> None:
    """Relay numbered frames and beeps over TCP at playback speed; count frames on both sides, measure sound to picture.

    unexplained: frames that were sent and did not arrive, but for those that the report says were left out.
    av_ms: by how much sound moved against the picture on the way, of all beeps, each beside the picture of its number.
    """
    out.mkdir(parents=True, exist_ok=True)
    recording, report = out / "relayed.ts", out / "report.json"
    last = round(60 * minutes * fps)
    with (out / "direct.ts").open("wb") as direct:
        send(direct, size, fps, lambda number: number < 10 * fps, sound=True)
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as end:
        sender = threading.Thread(target=send_to_one, args=(first, size, fps, last))
        recorder = threading.Thread(target=record_one, args=(end, recording))
        sender.start()
        recorder.start()
        urls = [f"tcp://127.0.0.1:{one.getsockname()[1]}" for one in (first, end)]
        ours = [sys.executable, "-m", "gtasr_video", "upscale", *urls, "--model", model, "--latency", latency]
        ours += ["--config", "live", "--report", str(report), "--progress", "none", "--scale", str(SCALE)]
        subprocess.run(ours, check=True)
        sender.join()
        recorder.join()
    facts = json.loads(report.read_text())
    line = {"minutes": minutes, "model": model, "size": size, "fps": fps, "sent": last}
    click.echo(json.dumps(line | arrived(recording, facts, last) | sound_to_picture(out, fps)))


def send_to_one(server: socket.socket, size: tuple[int, int], fps: int, last: int) -> None:
    """Send `last` numbered frames with their sound to the first who connects."""
    send(server.accept()[0].makefile("wb"), size, fps, lambda number: number < last, sound=True)


def record_one(server: socket.socket, path: Path) -> None:
    """Write what the first who connects sends to `path`, byte by byte as it comes."""
    with server.accept()[0] as connection, path.open("wb") as file:
        while data := connection.recv(1 << 16):
            file.write(data)


def arrived(recording: Path, facts: dict[str, Any], sent: int) -> dict[str, Any]:
    """Return what became of the frames that were sent, by the report and by what was recorded."""
    names = ("frames", "stopgaps", "overdue", "dropped", "output_dropped", "latency_ms", "changed", "reconnects")
    kept = {name: facts["live"][name] for name in names}
    numbers = [number for number, _ in frames(recording, SCALE)]
    explained = facts["frames_dropped"] + kept["output_dropped"]
    return {
        "frames_in": facts["frames_in"],
        "frames_out": facts["frames_out"],
        "received": len(numbers),
        "unexplained": sent - explained - len(set(numbers)),
        "out_of_order": sum(later <= before for before, later in itertools.pairwise(numbers)),
        **kept,
    }


def sound_to_picture(out: Path, fps: int) -> dict[str, Any]:
    """Return by how much sound moved against the picture between the sender and the recording."""
    before, after = offsets(out / "direct.ts", fps, 1), offsets(out / "relayed.ts", fps, SCALE)
    change = np.abs(after - np.median(before))
    p50, p95 = np.percentile(change, (50, 95))
    sizes = {"p50": p50, "p95": p95, "max": change.max(), "sent_spread": np.ptp(before)}
    return {"beeps": len(after), "av_ms": {name: round(float(value), 2) for name, value in sizes.items()}}


def read(path: Path, frames: int) -> list[torch.Tensor]:
    """Return the first frames of a video, (1, 3, H, W) in [-1, 1], in sizes that SCALE and the networks divide."""
    with Reader(path, frames=frames) as reader:
        rgb = [yuv_to_rgb(frame.planes, reader.spec.layout, reader.spec.color) * 2 - 1 for frame in reader]
    height, width = (side // 16 * 16 for side in rgb[0].shape[-2:])
    return [x[..., :height, :width].contiguous() for x in rgb]


@torch.inference_mode()
def after_gap(model: VideoModel, truth: list[torch.Tensor], gap: int, reference: str) -> list[float]:
    """Return PSNR over bicubic of four frames after `gap` frames that bicubic made, for each way to go on."""
    small = [bicubic(x, (x.shape[-2] // SCALE, x.shape[-1] // SCALE)).clamp(-1, 1) for x in truth]
    begin, gains = len(small) // 4, []
    fresh = model.initial(1, *small[0].shape[-2:])
    state = fresh
    for x in small[:begin]:
        _, state = model.step(x, state)
    if reference == "none":
        state = fresh
    elif reference == "bicubic":
        zero = {"detail": torch.zeros_like(state.detail), "features": torch.zeros_like(state.features)}
        state = state._replace(frame=small[begin + gap - 1], **zero)
    for k in range(begin + gap, begin + gap + 4):
        y, state = model.step(small[k], state)
        both = (psnr(made.clamp(-1, 1), truth[k]) for made in (y, enlarge(small[k], SCALE)))
        ours, plain = map(float, both)
        gains.append(round(ours - plain, 3))
    return gains


@main.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="A video; its frames are the truth.")
@click.option("--model", default="s", show_default=True)
def switch(data: Path, model: str) -> None:
    """Compare ways to go on after frames made by bicubic: with the last output, with bicubic's, with nothing."""
    truth, network = read(data, 60), load_model(model, scale=SCALE)
    for gap in (1, 3, 8, 15, 30):
        gains = {reference: after_gap(network, truth, gap, reference) for reference in ("own", "bicubic", "none")}
        click.echo(json.dumps({"clip": data.name, "model": model, "bicubic_frames": gap, "psnr_gain": gains}))


if __name__ == "__main__":
    main()
