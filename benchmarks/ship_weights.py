"""Put the weights of a run among those that ship: fp16, with the clips of the runs before it counted in.

benchmarks/ship_weights.py runs/mine/best.safetensors --clips-before 44400
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import torch

from gtasr_video.errors import GTASRVideoError
from gtasr_video.models.checkpoint import WEIGHTS, load_network, read_card, save_model
from gtasr_video.models.grow import can_grow, grow
from gtasr_video.models.gtasr import GTASRVideo
from gtasr_video.models.rescale import with_scales

_TOLERANCE = 2.0 / 255


def main() -> None:
    """Read the weights, check that fp16 holds them, and write them to the package."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--clips-before", type=int, default=0, help="clips seen by the weights the run started from")
    parser.add_argument(
        "--mix", type=Path, help="weights of the same lineage to average with, or those that it was grown from"
    )
    parser.add_argument("--share", type=float, default=0.5, help="how much of the average is --mix's")
    parser.add_argument("--derive", type=int, action="append", default=[], help="a scale to derive from the first one")
    parser.add_argument("--soften", type=float, help="factor on the head of scale 1: a little of what it would do")
    parser.add_argument(
        "--hold", type=float, default=0.0, help="added to the gate of memory (its logit), but at scale 1"
    )
    parser.add_argument("--louder", type=float, default=1.0, help="factor on what the heads say, but at scale 1")
    parser.add_argument("--in-training", action="store_true", help="mark them as unfinished")
    args = parser.parse_args()
    try:
        card = read_card(args.weights)
        network = load_network(args.weights)
        if args.mix:
            _mix(network, _of_its_shape(args.mix, network), args.share)
        _tune(network, args.hold, args.louder)
        network = with_scales(network, args.derive)
        if args.soften is not None:
            _soften(network, args.soften)
    except GTASRVideoError as error:
        sys.exit(f"ship_weights: {error}")
    target = WEIGHTS / f"{card.architecture.tier}.safetensors"
    facts = dataclasses.asdict(card)
    kept = {name: facts[name] for name in ("licence", "data")}
    total = card.clips + args.clips_before
    save_model(target, network, dtype=torch.float16, clips=total, finished=not args.in_training, **kept)
    error = _rounding(network, load_network(target))
    print(
        f"{target}: {target.stat().st_size} bytes, {total} clips, fp16 moves a pixel by {error * 255:.2f}/255 at most"
    )
    if error > _TOLERANCE:
        sys.exit("ship_weights: fp16 changes the picture too much")


def _of_its_shape(path: Path, network: GTASRVideo) -> GTASRVideo:
    """Return the weights of `path`, grown if they are of a smaller tier as a run of seed 0 grows what it begins with.

    What is new in them is then the same draw as in what such a run has made of it, and averages with that.
    """
    torch.manual_seed(0)
    same = GTASRVideo(network.architecture, network.scales, network.noise_scale)
    other = load_network(path)
    if not can_grow(other.architecture, network.architecture):
        sys.exit(f"ship_weights: {path} cannot be averaged with the others, which have no place for it")
    if other.architecture == network.architecture:
        return other
    large = with_scales(grow(other, network.architecture), network.scales).state_dict()
    same.load_state_dict({name: large[name] for name in same.state_dict()})
    return same


@torch.no_grad()
def _mix(network: GTASRVideo, other: GTASRVideo, share: float) -> None:
    if other.architecture != network.architecture or not set(network.scales) <= set(other.scales):
        sys.exit("ship_weights: only weights of one tier can be averaged, and --mix must have all scales of the others")
    theirs = other.state_dict()
    for name, value in network.state_dict().items():
        value.lerp_(theirs[name], share)


@torch.no_grad()
def _tune(network: GTASRVideo, hold: float, louder: float) -> None:
    """Let more of what memory gives be held, as clips in training are short; and the rest be said louder for it."""
    for scale in set(network.scales) - {1}:
        adapter = network.adapters.get_submodule(f"x{scale}")
        dict(adapter.named_parameters())["hold.bias"].add_(hold)
        for parameter in adapter.get_submodule("head").parameters():
            parameter.mul_(louder)


@torch.no_grad()
def _soften(network: GTASRVideo, factor: float) -> None:
    """Let scale 1 do `factor` of what it has learned: training sees more damage than what people bring."""
    if 1 not in network.scales:
        sys.exit("ship_weights: --soften is for scale 1, which these weights do not have")
    for parameter in network.adapters.get_submodule("x1").get_submodule("head").parameters():
        parameter.mul_(factor)


@torch.inference_mode()
def _rounding(before: GTASRVideo, after: GTASRVideo) -> float:
    """Return the largest change of a pixel in [0, 1] on a picture of edges."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 16, 16, generator=generator) * 2 - 1
    frame = torch.nn.functional.interpolate(coarse, size=(64, 64), mode="nearest")
    exact, rounded = (model.eval().step(frame, model.initial(1, 64, 64))[0] for model in (before, after))
    return float((exact - rounded).abs().max()) / 2


if __name__ == "__main__":
    main()
