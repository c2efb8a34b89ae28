"""Frames with their number in their picture, beeps with theirs in their pitch: a relay may leave out what it likes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

# Bits of a frame's number, each a block of so many pixels a side.
BITS, BLOCK = 16, 8
TEXTURE = np.random.default_rng(0).integers(60, 200, (1080, 1920), np.uint8)
# A beep begins at each whole second but 0, where a relay may begin within it. So many pitches tell it from those before
# and after; a step is far more than the width of a beep's spectrum.
RATE = 48_000
BEEP_S = 0.2
PITCHES, LOWEST_HZ, STEP_HZ = 16, 600, 200


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


def luma_of(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Return the brightness of a decoded picture, (height, width), without copying it."""
    plane = frame.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(frame.height, plane.line_size)[:, : frame.width]


def beeps(begin: int, count: int) -> NDArray[np.float32]:
    """Return `count` samples from the sample `begin` on, (1, count)."""
    at = np.arange(begin, begin + count)
    within, pitch = at % RATE / RATE, LOWEST_HZ + STEP_HZ * (at // RATE % PITCHES)
    tone = 0.5 * np.sin(2 * np.pi * pitch * within)
    return np.where((within < BEEP_S) & (at >= RATE), tone, 0).astype(np.float32)[None]


def send(pipe: Any, size: tuple[int, int], fps: int, goes_on: Callable[[int], bool], *, sound: bool = False) -> None:
    """Encode numbered frames, and beeps, into `pipe` at playback speed; `goes_on` is asked before each number."""
    options = {"preset": "superfast", "tune": "zerolatency", "g": str(fps)}
    muxing = {"flush_packets": "1", "muxdelay": "0", "muxpreload": "0", "pes_payload_size": "0"}
    with pipe, av.open(pipe, "w", format="mpegts", container_options=muxing) as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height = size
        heard: Any = container.add_stream("aac", rate=RATE, layout="mono") if sound else None
        begin, number = time.monotonic(), 0
        while goes_on(number):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="yuv420p")
            frame.pts = number
            time.sleep(max(0.0, begin + number / fps - time.monotonic()))
            if heard is not None:
                container.mux(heard.encode(_sound(number, fps)))
            container.mux(stream.encode(frame))
            number += 1
        container.mux(stream.encode(None))
        if heard is not None:
            container.mux(heard.encode(None))


def _sound(number: int, fps: int) -> av.AudioFrame:
    """Return the sound beside the frame `number`."""
    begin, end = (RATE * n // fps for n in (number, number + 1))
    frame = av.AudioFrame.from_ndarray(beeps(begin, end - begin), format="fltp", layout="mono")
    frame.rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), begin
    return frame


def frames(path: Path, scale: int) -> list[tuple[int, float]]:
    """Return number and time in seconds of each picture of a recording, as they come."""
    with av.open(str(path)) as container:
        return [(number_of(luma_of(frame), scale), float(frame.time)) for frame in container.decode(video=0)]


def heard_beeps(path: Path) -> list[tuple[int, float]]:
    """Return (number modulo PITCHES, seconds of its begin) of each whole beep of a recording."""
    found = []
    for begin, samples in _loud_parts(path):
        if len(samples) > 0.8 * BEEP_S * RATE:
            spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
            pitch = float(np.argmax(spectrum)) * RATE / len(samples)
            found.append((round((pitch - LOWEST_HZ) / STEP_HZ) % PITCHES, begin))
    return found


def _loud_parts(path: Path) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """Yield begin in seconds and samples of each part that is not silent; quiet gaps of 50 ms part them."""
    begin, kept, quiet = 0.0, [], 0.0
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            samples = frame.to_ndarray()[0].astype(np.float32)
            loud = np.flatnonzero(np.abs(samples) > 0.1)
            if len(loud):
                if not kept:
                    begin, samples = float(frame.time) + loud[0] / RATE, samples[loud[0] :]
                kept.append(samples)
                quiet = 0.0
            elif kept:
                quiet += len(samples) / RATE
                if quiet > 0.05:
                    yield begin, np.concatenate(kept)
                    kept = []


def offsets(path: Path, fps: int, scale: int) -> NDArray[np.float64]:
    """Return by how many ms each beep of a recording comes before the picture that it was sent beside.

    Where that very picture was left out the nearest one that came stands for it, by the time between the two as sent:
    each picture that came has a number, and so says when all others were due.
    """
    shown = frames(path, scale)
    numbers = np.array([number for number, _ in shown])
    shifts = np.array([at - number / fps for number, at in shown])
    found = []
    for pitch, at in heard_beeps(path):
        seconds = range(pitch, int(numbers.max()) // fps + 2, PITCHES)
        apart = [second + shifts[np.argmin(np.abs(numbers - second * fps))] - at for second in seconds]
        found.append(1000 * min(apart, key=abs))
    return np.array(found)
