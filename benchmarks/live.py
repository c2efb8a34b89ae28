"""What a live relay adds: latency over a bare ffmpeg relay, a soak at playback speed, and what a change of tier costs.

Frames carry their number in their picture, so the one who sends and the one who receives, both in this process, time
the very same frame by one clock. Lines of JSON.
"""

from __future__ import annotations

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
from numpy.typing import NDArray

from gtasr_video.media import Reader
from gtasr_video.models import VideoModel, load_model
from gtasr_video.ops.color import yuv_to_rgb
from gtasr_video.ops.metrics import psnr
from gtasr_video.ops.resize import bicubic, enlarge

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
SCALE = 4
# Bits of a frame's number, each a block of so many pixels a side.
BITS, BLOCK = 16, 8
TEXTURE = np.random.default_rng(0).integers(60, 200, (1080, 1920), np.uint8)
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

    def counted(self) -> list[int]:
        """Return the numbers of the frames that count."""
        return [number for number, at in self.sent.items() if at >= self.until - self.seconds]


def picture(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """Return a moving picture of much detail as I420, with its number in the first rows."""
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    planes[:height] = np.roll(TEXTURE[:height, :width], (number // 2, number), axis=(0, 1))
    for bit in range(BITS):
        x, y = BLOCK * (bit % 8), BLOCK * (bit // 8)
        planes[y : y + BLOCK, x : x + BLOCK] = 235 if number >> bit & 1 else 16
    return planes


def number_of(luma: NDArray[np.uint8], scale: int) -> int:
    """Return the number in a picture that was enlarged by `scale`."""
    side = BLOCK * scale
    blocks = luma[: 2 * side, : 8 * side].reshape(2, side, 8, side).mean(axis=(1, 3)).ravel()
    return sum(1 << bit for bit, mean in enumerate(blocks) if mean > 128)


def send(pipe: Any, times: Times, size: tuple[int, int], fps: int) -> None:
    """Encode numbered frames into `pipe` at playback speed, until enough of them have been sent."""
    options = {"preset": "superfast", "tune": "zerolatency", "g": str(fps)}
    muxing = {"flush_packets": "1", "muxdelay": "0", "muxpreload": "0", "pes_payload_size": "0"}
    with pipe, av.open(pipe, "w", format="mpegts", container_options=muxing) as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height = size
        begin, number = time.monotonic(), 0
        while time.monotonic() < times.until:
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="yuv420p")
            frame.pts = number
            time.sleep(max(0.0, begin + number / fps - time.monotonic()))
            times.sent[number] = time.monotonic()
            container.mux(stream.encode(frame))
            number += 1
        container.mux(stream.encode(None))


def receive(pipe: Any, times: Times, scale: int) -> None:
    """Decode what comes out of `pipe` as it comes."""
    options = {"probesize": "32768", "analyzeduration": "0"}
    with av.open(pipe, format="mpegts", options=options) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for frame in container.decode(video=0):
            plane = frame.planes[0]
            luma = np.frombuffer(plane, np.uint8).reshape(frame.height, plane.line_size)[:, : frame.width]
            times.received.setdefault(number_of(luma, scale), time.monotonic())


def relay(command: Sequence[str], scale: int, size: tuple[int, int], fps: int, seconds: float) -> Times:
    """Send numbered frames through `command`, from its standard input to its standard output, and time them."""
    times = Times(seconds)
    # Unbuffered: what has come must not wait until so many bytes have.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        sender = threading.Thread(target=send, args=(process.stdin, times, size, fps))
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


def source(size: tuple[int, int], fps: int, seconds: float) -> list[str]:
    """Return ffmpeg's words for pictures that flash, and sound that beeps, for the first fifth of every second."""
    flash = f"testsrc2=size={size[0]}x{size[1]}:rate={fps},drawbox=y=ih/2:t=fill:c=black"
    flash += ",drawbox=y=ih/2:t=fill:c=white:enable='lt(mod(t,1),0.2)'"
    beep = "aevalsrc='if(lt(mod(t,1),0.2),sin(2*PI*1000*t),0)':s=48000"
    words = ["-v", "error", "-nostdin", "-re", "-f", "lavfi", "-i", flash, "-re", "-f", "lavfi", "-i", beep]
    codecs = ["-c:v", "libx264", "-preset", "superfast", "-tune", "zerolatency", "-g", str(fps), "-c:a", "aac"]
    return [FFMPEG, *words, "-t", str(seconds), "-pix_fmt", "yuv420p", *codecs, "-f", "mpegts"]


def onsets(path: Path) -> tuple[list[float], list[float], int]:
    """Return the seconds at which flashes and beeps begin, and the number of frames."""
    flashes, beeps, frames = [], [], 0
    with av.open(str(path)) as container:
        bright = True
        for picture in container.decode(video=0):
            lower = picture.to_ndarray(format="gray")[picture.height * 5 // 8 : picture.height * 7 // 8]
            was, bright = bright, bool(lower.mean() > 128)
            frames += 1
            if bright and not was:
                flashes.append(float(picture.time))
    with av.open(str(path)) as container:
        loud_until = float("inf")
        for sound in container.decode(audio=0):
            samples = np.abs(sound.to_ndarray().astype(np.float64)).max(axis=0)
            for at in np.flatnonzero(samples > 0.25 * max(samples.max(), 0.5)) / sound.sample_rate + float(sound.time):
                if at > loud_until + 0.3:
                    beeps.append(float(at))
                loud_until = float(at)
            if loud_until == float("inf"):
                loud_until = float(sound.time)
    return flashes, beeps, frames


def offsets(path: Path) -> tuple[NDArray[np.float64], int]:
    """Return by how many ms each beep comes before its flash, and the number of frames."""
    flashes, beeps, frames = onsets(path)
    nearest = [min(beeps, key=lambda beep: abs(beep - flash)) for flash in flashes]
    return np.array([1000 * (flash - beep) for flash, beep in zip(flashes, nearest, strict=True)]), frames


@main.command()
@click.option("--size", type=(int, int), default=(160, 96), show_default=True)
@click.option("--fps", default=15, show_default=True)
@click.option("--minutes", default=30.0, show_default=True)
@click.option("--model", default="s", show_default=True)
@click.option("--latency", default="1s", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A folder for what was recorded.")
def soak(size: tuple[int, int], fps: int, minutes: float, model: str, latency: str, out: Path) -> None:
    """Relay flashes and beeps over TCP at playback speed; count frames on both sides and measure sound to picture."""
    out.mkdir(parents=True, exist_ok=True)
    recording, report = out / "relayed.mkv", out / "report.json"
    subprocess.run([*source(size, fps, 10), "-y", str(out / "direct.ts")], check=True)
    first, last = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    record = [
        FFMPEG,
        "-v",
        "error",
        "-nostdin",
        "-f",
        "mpegts",
        "-i",
        f"{last}?listen=1",
        "-c",
        "copy",
        "-y",
        str(recording),
    ]
    ours = [sys.executable, "-m", "gtasr_video", "upscale", first, last, "--model", model, "--latency", latency]
    ours += ["--config", "live", "--report", str(report), "--progress", "none"]
    with (
        subprocess.Popen(record) as recorder,
        subprocess.Popen([*source(size, fps, 60 * minutes), f"{first}?listen=1"]),
    ):
        subprocess.run(ours, check=True)
        recorder.wait(60)
    (before, _), (after, received) = offsets(out / "direct.ts"), offsets(recording)
    facts = json.loads(report.read_text())
    names = ("frames", "stopgaps", "dropped", "output_dropped", "latency_ms", "changed", "reconnects")
    kept = {name: facts["live"][name] for name in names}
    unexplained = facts["frames_in"] - facts["frames_dropped"] - kept["output_dropped"] - received
    line = {"minutes": minutes, "model": model, "size": size, "fps": fps, "sent": round(60 * minutes * fps)}
    line |= {"frames_in": facts["frames_in"], "frames_out": facts["frames_out"], "received": received, **kept}
    change = np.abs(after - np.median(before))
    p50, p95 = np.percentile(change, (50, 95))
    line |= {"unexplained": unexplained, "flashes": len(after), "av_change_ms_p50": round(float(p50), 1)}
    line |= {"av_change_ms_p95": round(float(p95), 1), "av_change_ms_max": round(float(change.max()), 1)}
    click.echo(json.dumps(line))


def free_port() -> int:
    """Return a TCP port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
        zero = {"output": torch.zeros_like(state.output), "features": torch.zeros_like(state.features)}
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
