"""Which motion mechanism for the temporal reference? Cost and quality of each, side by side in one run.

Each estimates the motion between two LR frames and moves what the frame before left: its output and its features, as
the network keeps them. Cost is beside the trunk's, on frames of --width x --height; quality is how well the true
residual of the frame before, moved the same way, foretells that of this frame. Lines of JSON. Needs OpenCV (extra
`evaluate`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.device import choose
from gtasr_video.media import Reader
from gtasr_video.models.checkpoint import load_network, weights_path
from gtasr_video.models.flow import Motion, estimate_motion, gather_pixels
from gtasr_video.models.temporal import move_features, move_picture
from gtasr_video.ops.color import yuv_to_rgb
from gtasr_video.ops.edges import luma
from gtasr_video.ops.resize import bicubic, enlarge
from gtasr_video.ops.warp import warp
from gtasr_video.training.footage import filmed
from gtasr_video.training.items import InMemory, detail_of
from gtasr_video.training.motion import MotionSettings

CELL, SCALE, FEATURES = 2, 4, 64
CELLS = 3 * (CELL * SCALE) ** 2


class Pair(NamedTuple):
    """Two neighbouring frames of the truth, (1, 3, H, W) in [-1, 1], and where known the flow and where it holds."""

    now: Tensor
    before: Tensor
    flow: Tensor | None = None
    valid: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Mechanism:
    """`estimate` (now, before) LR frames -> motion; `move` (output cells, feature cells, motion) -> both, joined.

    `flow` gives the motion as (1, 2, h, w) in LR pixels.
    """

    name: str
    estimate: Callable[[Tensor, Tensor], Tensor]
    move: Callable[[Tensor, Tensor, Tensor], Tensor]
    flow: Callable[[Tensor], Tensor]


def spread(field: Tensor, factor: int) -> Tensor:
    """Repeat each value factor x factor times."""
    return field.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)


def lucas_kanade(now: Tensor, before: Tensor, levels: int = 4, rounds: int = 2) -> Tensor:
    """Return dense flow (1, 2, h, w): Lucas and Kanade (1981) from coarse to fine, windows of 7 x 7."""
    pyramid = [(luma(now), luma(before))]
    for _ in range(levels - 1):
        pyramid.append(tuple(F.avg_pool2d(x, 2, ceil_mode=True) for x in pyramid[-1]))  # type: ignore[arg-type]
    flow = now.new_zeros(1, 2, *pyramid[-1][0].shape[-2:])
    for new, old in reversed(pyramid):
        if flow.shape[-2:] != new.shape[-2:]:
            flow = 2 * F.interpolate(flow, size=new.shape[-2:], mode="bilinear")
        for _ in range(rounds):
            flow = flow + improve(new, warp(old, flow))
    return flow


def improve(new: Tensor, moved: Tensor) -> Tensor:
    """Solve for the small flow left between `new` and `moved`, one 2 x 2 system a pixel."""
    padded = F.pad(moved, (1, 1, 1, 1), mode="replicate")
    gx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    gy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    gt = new - moved
    products = torch.cat([gx * gx, gx * gy, gy * gy, gx * gt, gy * gt], dim=1)
    xx, xy, yy, xt, yt = F.avg_pool2d(products, 7, stride=1, padding=3).split(1, dim=1)
    xx, yy = xx + 1e-4, yy + 1e-4
    determinant = xx * yy - xy * xy
    return torch.cat([yy * xt - xy * yt, xx * yt - xy * xt], dim=1).div(determinant).clamp(-1, 1)


def dis(preset: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Return OpenCV's dense inverse search with a preset, on 8-bit luma."""

    def estimate(now: Tensor, before: Tensor) -> Tensor:
        new, old = (((luma(x)[0, 0] + 1) * 127.5).round().clamp(0, 255).byte().numpy() for x in (now, before))
        flow = np.zeros((*new.shape, 2), dtype=np.float32)
        # A new one for each pair: a used one begins from its last result.
        estimator = cv2.DISOpticalFlow.create(preset)
        return torch.from_numpy(np.asarray(estimator.calc(new, old, flow))).permute(2, 0, 1)[None]

    return estimate


def as_motion(flow: Tensor) -> Motion:
    """Return flow (1, 2, h, w) at cell resolution as what the network's own functions take."""
    return Motion(flow.float(), flow.round().long(), flow[:, :1])


def own(output: Tensor, features: Tensor, flow: Tensor) -> Tensor:
    """Move the output sharply at full size and the features by whole LR pixels, as the network does."""
    motion = as_motion(flow)
    return torch.cat([move_picture(output, motion, CELL, SCALE), move_features(features, motion, CELL)], dim=1)


def own_gather(output: Tensor, features: Tensor, flow: Tensor) -> Tensor:
    """As `own`, the output by whole pixels of full size, alike within a cell."""
    step = spread((SCALE * flow).round().long(), CELL * SCALE)
    moved = F.pixel_unshuffle(gather_pixels(F.pixel_shuffle(output, CELL * SCALE), step), CELL * SCALE)
    return torch.cat([moved, move_features(features, as_motion(flow), CELL)], dim=1)


def whole_cells(output: Tensor, features: Tensor, motion: Tensor) -> Tensor:
    """Move both by whole LR pixels."""
    return move_features(torch.cat([output, features], dim=1), as_motion(motion), CELL)


def small_warp(output: Tensor, features: Tensor, flow: Tensor) -> Tensor:
    """Warp both bilinearly as tensors of LR size."""
    fine = F.pixel_shuffle(torch.cat([output, features], dim=1), CELL)
    return F.pixel_unshuffle(warp(fine, flow), CELL)


def full_warp(output: Tensor, features: Tensor, flow: Tensor) -> Tensor:
    """Warp the output at full size and the features at LR size, both bilinearly."""
    moved = warp(
        F.pixel_shuffle(output, CELL * SCALE), SCALE * F.interpolate(flow, scale_factor=SCALE, mode="bilinear")
    )
    return torch.cat([F.pixel_unshuffle(moved, CELL * SCALE), warped_features(features, flow)], dim=1)


def full_remap(output: Tensor, features: Tensor, flow: Tensor) -> Tensor:
    """As `full_warp`, the output by OpenCV's remap, which sees rows of whole pixels."""
    full = (SCALE * F.interpolate(flow, scale_factor=SCALE, mode="bilinear"))[0].permute(1, 2, 0).numpy()
    height, width = full.shape[:2]
    places = full + np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    picture = F.pixel_shuffle(output, CELL * SCALE)[0].permute(1, 2, 0).float().contiguous().numpy()
    remapped = cv2.remap(picture, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    moved = torch.from_numpy(remapped).to(output.dtype).permute(2, 0, 1)[None]
    return torch.cat([F.pixel_unshuffle(moved, CELL * SCALE), warped_features(features, flow)], dim=1)


def full_gather(output: Tensor, features: Tensor, flow: Tensor) -> Tensor:
    """Move the output by whole pixels of full size, and warp the features at LR size."""
    step = (SCALE * F.interpolate(flow, scale_factor=SCALE, mode="bilinear")).round().long()
    moved = gather_pixels(F.pixel_shuffle(output, CELL * SCALE), step)
    return torch.cat([F.pixel_unshuffle(moved, CELL * SCALE), warped_features(features, flow)], dim=1)


def warped_features(features: Tensor, flow: Tensor) -> Tensor:
    """Warp feature cells bilinearly at LR size."""
    return F.pixel_unshuffle(warp(F.pixel_shuffle(features, CELL), flow), CELL)


def nothing(now: Tensor, before: Tensor) -> Tensor:
    """Return no motion, without looking."""
    return torch.zeros(1, 2, *now.shape[-2:])


def mechanisms() -> list[Mechanism]:
    """Return what is compared; the first is what the network has."""

    def whole(now: Tensor, before: Tensor) -> Tensor:
        return estimate_motion(luma(now), luma(before), CELL).whole

    def gradients(now: Tensor, before: Tensor) -> Tensor:
        return estimate_motion(luma(now), luma(before), CELL).flow

    def wide(motion: Tensor) -> Tensor:
        return spread(motion, CELL).float()

    def same(flow: Tensor) -> Tensor:
        return flow

    fast, medium = dis(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST), dis(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return [
        Mechanism("gradients coarse to fine, full-size warp", gradients, own, wide),
        Mechanism("gradients coarse to fine, whole HR pixels", gradients, own_gather, wide),
        Mechanism("gradients coarse to fine, whole LR pixels", whole, whole_cells, wide),
        Mechanism("DIS ultrafast, small warp", fast, small_warp, same),
        Mechanism("DIS medium, small warp", medium, small_warp, same),
        Mechanism("Lucas-Kanade at one size, small warp", lucas_kanade, small_warp, same),
        Mechanism("DIS ultrafast, whole HR pixels", fast, full_gather, same),
        Mechanism("DIS ultrafast, full-size warp", fast, full_warp, same),
        Mechanism("DIS ultrafast, full-size remap", fast, full_remap, same),
        Mechanism("none: warp-free recurrence", nothing, lambda o, f, _: torch.cat([o, f], dim=1), same),
    ]


@torch.inference_mode()
def least_times(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the least milliseconds of each work: all take turns, and other work on the machine can only add."""
    least = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            begun = time.perf_counter()
            work()
            least[name] = min(least[name], 1000 * (time.perf_counter() - begun))
    return least


def costs(size: tuple[int, int], rounds: int) -> dict[str, dict[str, float]]:
    """Return for each mechanism the milliseconds of estimating and moving, and their sum over the trunk's time."""
    dtype = choose("cpu").dtype
    model = load_network(weights_path("s"), (SCALE,)).fold().requires_grad_(False)
    model.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    height, width = size
    cells = height // CELL, width // CELL
    features = torch.randn(1, FEATURES, *cells).to(dtype).contiguous(memory_format=torch.channels_last)
    output = torch.randn(1, CELLS, *cells).to(dtype)
    pair = synthetic(height * SCALE, width * SCALE, 2, seed=3)[0]
    now, before = (bicubic(x, size) for x in (pair.now, pair.before))
    trunk = "trunk and head of tier s"
    works: dict[str, Callable[[], object]] = {trunk: lambda: model.adapter.head(model.trunk(features, None))}
    for m in mechanisms():
        works[f"estimate {m.name}"] = partial(m.estimate, now, before)
        works[f"move {m.name}"] = partial(m.move, output, features, m.estimate(now, before))
    least = least_times(works, rounds)
    found = {trunk: {"ms": least[trunk], "of_trunk": 1.0}}
    for m in mechanisms():
        estimate, move = least[f"estimate {m.name}"], least[f"move {m.name}"]
        found[m.name] = {"estimate_ms": estimate, "move_ms": move, "of_trunk": (estimate + move) / least[trunk]}
    return found


def synthetic(height: int, width: int, frames: int, seed: int) -> list[Pair]:
    """Return pairs of a camera moving over textures with parallax and occlusion; the flow is known."""
    rng = np.random.default_rng(seed)
    items = [texture(height * 2, width * 2, seed + k) for k in range(2)]
    clip = filmed(items, frames, (height, width), 1.25, MotionSettings(), rng, torch.device("cpu"))
    assert clip.flow is not None and clip.valid is not None
    x = clip.frames[:, None] * 2 - 1
    return [Pair(x[k], x[k - 1], clip.flow[k - 1, None], clip.valid[k - 1, None]) for k in range(1, frames)]


def texture(height: int, width: int, seed: int) -> InMemory:
    """Return a picture of noise at every scale, with a power spectrum like that of pictures."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(1, 3, height, width)
    for side in (2, 4, 8, 16, 32, 64, 128):
        noise = torch.randn(1, 3, height // side + 2, width // side + 2, generator=generator)
        total += 5 * side**0.5 * F.interpolate(noise, size=(height, width), mode="bicubic", align_corners=True)
    data = (total + 128).clamp(0, 255).byte()
    return InMemory(f"texture {seed}", data, detail_of(data[0]))


def filmed_for_real(path: Path, frames: int) -> list[Pair]:
    """Return the neighbouring frames of a video, cropped to what the network takes."""
    with Reader(path, frames=frames) as reader:
        rgb = [yuv_to_rgb(frame.planes, reader.spec.layout, reader.spec.color) * 2 - 1 for frame in reader]
    multiple = 8 * SCALE
    height, width = (side - side % multiple for side in rgb[0].shape[-2:])
    cut = [x[..., :height, :width] for x in rgb]
    return [Pair(cut[k], cut[k - 1]) for k in range(1, len(cut))]


@torch.inference_mode()
def quality(m: Mechanism, pairs: list[Pair]) -> dict[str, float]:
    """Return how well the moved residual of the frame before (truth less bicubic) foretells that of this frame.

    correlation  of the two (luma): what a layer that may weigh it can make of it; 0 is no use, 1 is the answer
    error        their mean absolute difference over the mean absolute residual: 1 is as good as nothing
    flow_mean, flow_median   distance to the known flow in LR pixels
    Counted where the known flow holds, everywhere if none is known.
    """
    moved, wanted, distances = [], [], []
    for pair in pairs:
        size = pair.now.shape[-2] // SCALE, pair.now.shape[-1] // SCALE
        now, before = (bicubic(x, size).clamp(-1, 1) for x in (pair.now, pair.before))
        motion = m.estimate(now, before)
        left = F.pixel_unshuffle(pair.before - enlarge(before, SCALE), CELL * SCALE)
        cells = m.move(left, torch.zeros(1, FEATURES, *left.shape[-2:]), motion)[:, :CELLS]
        holds = torch.ones_like(pair.now[:, :1], dtype=torch.bool) if pair.valid is None else pair.valid
        moved.append(luma(F.pixel_shuffle(cells, CELL * SCALE))[holds])
        wanted.append(luma(pair.now - enlarge(now, SCALE))[holds])
        if pair.flow is not None:
            inner = F.avg_pool2d(holds.float(), SCALE) == 1
            away = (m.flow(motion) - F.avg_pool2d(pair.flow, SCALE) / SCALE).norm(dim=1, keepdim=True)
            distances.append(away[inner])
    a, b = torch.cat(moved), torch.cat(wanted)
    scores = {
        "correlation": float(torch.corrcoef(torch.stack([a, b]))[0, 1]),
        "error": float((a - b).abs().mean() / b.abs().mean()),
    }
    if distances:
        every = torch.cat(distances)
        scores |= {"flow_mean": float(every.mean()), "flow_median": float(every.median())}
    return scores


@click.command()
@click.option("--data", "paths", multiple=True, type=click.Path(path_type=Path), help="Real clips at full size.")
@click.option("--frames", default=6, show_default=True, help="Frames of each clip.")
@click.option("--width", default=320, show_default=True, help="LR pixels, for the cost.")
@click.option("--height", default=180, show_default=True, help="LR pixels, for the cost.")
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=40, show_default=True, help="The least time of so many counts.")
def main(paths: tuple[Path, ...], frames: int, width: int, height: int, threads: int, rounds: int) -> None:
    """Compare the mechanisms."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    for name, times in costs((height, width), rounds).items():
        click.echo(json.dumps({"mechanism": name, **{k: round(v, 2) for k, v in times.items()}}))
    clips = {"synthetic": [pair for seed in range(4) for pair in synthetic(384, 640, frames, 10 * seed)]}
    clips |= {path.name: filmed_for_real(path, frames) for path in paths}
    for clip, pairs in clips.items():
        for m in mechanisms():
            scores = {k: round(v, 3) for k, v in quality(m, pairs).items()}
            click.echo(json.dumps({"clip": clip, "mechanism": m.name, **scores}))


if __name__ == "__main__":
    main()
