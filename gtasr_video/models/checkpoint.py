"""Weights on disk: safetensors with the network's shape and origin in the header, never pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gtasr_video.config import check_types, nearest
from gtasr_video.errors import ConfigError, ModelChoiceError, ModelError
from gtasr_video.models.consistency import Path as ConsistencyPath
from gtasr_video.models.facts import VideoModel
from gtasr_video.models.gtasr import TIERS, Architecture, GTASRVideo
from gtasr_video.models.rescale import with_scales

log = logging.getLogger("gtasr_video")

FORMAT = "gtasr-video 1"
WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
# More than any network of ours will have: side of a cell, levels, channels or blocks of one, scale.
_CELL, _LEVELS, _SIZE, _SCALE = 8, 6, 2048, 16


@dataclass(frozen=True, slots=True)
class Card:
    """What a weights file says of itself, in its header.

    scales       scales it has adapters for
    noise_scale  noise it was trained with
    clips        training clips seen
    path_steps, path_power   N and p of the path it was trained on last: the points that it knows
    licence      of the weights; data    what they were trained on, in one line
    finished     False marks weights still in training
    """

    architecture: Architecture
    scales: tuple[int, ...]
    noise_scale: float
    clips: int = 0
    licence: str = ""
    data: str = ""
    finished: bool = True
    path_steps: int = 4
    path_power: float = 2.5

    @property
    def path(self) -> ConsistencyPath:
        """The path it was trained on last."""
        return ConsistencyPath(self.path_steps, self.path_power, self.noise_scale)


def save_model(
    path: Path,
    model: GTASRVideo,
    *,
    dtype: torch.dtype = torch.float32,
    tensors: dict[str, Tensor] | None = None,
    **facts: Any,
) -> None:
    """Write the weights of `model` (or `tensors` in their place) to `path` atomically; `facts` are fields of `Card`."""
    facts |= {"path_steps": model.path.steps, "path_power": model.path.power}
    card = Card(model.architecture, model.scales, model.noise_scale, **facts)
    weights = {k: v.detach().to("cpu", dtype).contiguous() for k, v in (tensors or model.state_dict()).items()}
    write_tensors(path, weights, {"format": FORMAT, "card": json.dumps(dataclasses.asdict(card))})


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file so that `path` holds either the old content or the whole new one."""
    part = path.with_name(path.name + ".part")
    try:
        save_file(tensors, part, metadata=metadata)
        part.chmod(0o644)  # safetensors makes it readable for its owner alone
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return (tensors, metadata) of a safetensors file; raises ModelError if it is not one."""
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a safetensors file ({error})") from error


def read_card(path: Path) -> Card:
    """Return the card in the header of `path`, without reading the weights; raises ModelError."""
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as file:
            return _card(path, dict(file.metadata() or {}))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a safetensors file ({error})") from error


def _card(path: Path, metadata: dict[str, str]) -> Card:
    if metadata.get("format") != FORMAT:
        raise ModelError(f"{path}: not a weights file of gtasr-video")
    try:
        data = json.loads(metadata["card"])
        shape = data.pop("architecture")
        shape["widths"] = tuple(shape["widths"])
        shape["depths"] = tuple((int(d), int(u)) for d, u in shape["depths"])
        card = Card(Architecture(**shape), tuple(data.pop("scales")), **data)
        _check(card)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, ConfigError) as error:
        raise ModelError(f"{path}: its header cannot be read ({error})") from error
    return card


def _check(card: Card) -> None:
    """Raise ConfigError or ValueError for what no network of ours says of itself: the header is damaged, or a trap."""
    check_types(card)
    shape = card.architecture
    sizes = (*shape.widths, shape.guide, shape.embedding, *(1 + blocks for pair in shape.depths for blocks in pair))
    if not (shape.widths and len(shape.widths) == len(shape.depths) <= _LEVELS and 1 <= shape.cell <= _CELL):
        raise ValueError("its network has no shape")
    if not all(1 <= size <= _SIZE for size in sizes):
        raise ValueError("its network has an impossible size")
    if not card.scales or not all(1 <= scale <= _SCALE for scale in card.scales):
        raise ValueError(f"scales {list(card.scales)}")
    if not all(map(math.isfinite, (card.noise_scale, card.path_power))):
        raise ValueError("a number that is none")
    card.path.descent(1)


def load_network(path: Path, scales: tuple[int, ...] | None = None) -> GTASRVideo:
    """Return the network in `path` in fp32, trainable, with the adapters for `scales` (all it has if None).

    Where it was trained for x4 alone, adapters for x3 and x2 are derived from that one, and a line in the log says so.
    Raises ModelError if the file has no weights for one of them, or does not hold what its header says.
    """
    tensors, metadata = read_tensors(path)
    card = _card(path, metadata)
    wanted = scales or card.scales
    derived = [s for s in wanted if s not in card.scales]
    if impossible := [s for s in derived if s not in _derivable(card.scales)]:
        has = f"it has {_listed(card.scales)}"
        raise ModelChoiceError(
            f"{_called(path)}: no weights for scale {impossible[0]} ({has}){_who_has(impossible[0])}"
        )
    held = tuple(s for s in card.scales if s in wanted or (derived and s == card.scales[0]))
    kept = {k: v.float() for k, v in tensors.items() if not _other_scale(k, held)}
    try:
        with torch.device("meta"):  # of which nothing is allocated, whatever size the header claims
            claimed = GTASRVideo(card.architecture, held, card.noise_scale)
        claimed.load_state_dict(kept, assign=True)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: its weights do not fit its header ({reason})") from error
    if spoiled := [name for name, value in kept.items() if not value.isfinite().all()]:
        raise ModelError(
            f"{path}: its weights are spoiled ('{spoiled[0]}' holds what is no number); take an earlier file"
        )
    model = GTASRVideo(card.architecture, held, card.noise_scale)
    model.path = card.path
    model.load_state_dict(kept)
    if derived:
        log.info("%s: the adapter for x%d is derived from that for x%d", path, derived[0], held[0])
        model = with_scales(model, derived)
    model.scale = wanted[0]
    return model


def _derivable(scales: tuple[int, ...]) -> set[int]:
    """Return the scales whose adapters can be had from the first of `scales`: smaller ones, but not 1, another task."""
    return {s for s in (2, 3) if s < scales[0]}


def _called(path: Path) -> str:
    """Return the name a user knows the weights in `path` by."""
    return f"tier {path.stem}" if path.parent == WEIGHTS else str(path)


def _who_has(scale: int) -> str:
    """Return the end of a message that names the smallest tier with shipped weights for `scale`; empty if none has."""
    shipped = [tier for tier in TIERS if (WEIGHTS / f"{tier}.safetensors").is_file()]
    able = [tier for tier in shipped if scale in read_card(WEIGHTS / f"{tier}.safetensors").scales]
    return f"; --model {able[0]} has them" if able else ""


def _listed(scales: tuple[int, ...]) -> str:
    """Return the scales that can be asked for: those of the weights, what is derived, and 8 where 4 and 2 make it."""
    single = {*scales, *_derivable(scales)}
    composed = {8} if {2, 4} <= single else set()
    return ", ".join(map(str, sorted(single | composed)))


def _other_scale(name: str, wanted: tuple[int, ...]) -> bool:
    parts = name.split(".")
    return parts[0] == "adapters" and parts[1] not in {f"x{s}" for s in wanted}


def weights_path(name: str) -> Path:
    """Return the file for a tier's name or the path of a .safetensors file; raises ModelError."""
    if name.endswith(".safetensors"):
        return Path(name)
    if name == "bicubic":
        raise ModelChoiceError(f"bicubic has no weights; use {', '.join(TIERS)} or the path of a .safetensors file")
    if name not in TIERS:
        known = [*TIERS, "bicubic"]
        raise ModelChoiceError(
            f"no model '{name}'{nearest(name, known)}; use {', '.join(known)} or the path of a .safetensors file"
        )
    path = WEIGHTS / f"{name}.safetensors"
    if not path.is_file():
        raise ModelChoiceError(
            f"tier '{name}' has no weights yet; use --model s, or train it: gtasr-video train --help"
        )
    return path


def load_model(name: str | os.PathLike[str] = "s", *, scale: int = 4, steps: int = 1) -> VideoModel:
    """Return a network ready for inference, in fp32 on the CPU: a tier (``s``, ``m``, ``l``), a file, or ``bicubic``.

    scale  one that the weights have (1 restores without enlarging), or 8: x4, then x2
    steps  how often a frame is read along the path; 1 is what the networks are made for
    Move it with ``.to(device, dtype)``. Raises ModelError.

    Example::

        >>> load_model("bicubic", scale=2).facts.scale
        2
    """
    if not (isinstance(scale, int) and isinstance(steps, int)):
        raise ModelChoiceError(f"scale and steps are whole numbers, not {scale!r} and {steps!r}")
    if name == "bicubic":
        from gtasr_video.models.bicubic import Bicubic

        if steps != 1:
            raise ModelChoiceError(f"bicubic has no path to take {steps} steps on; leave out --steps")
        return Bicubic(scale)
    if not isinstance(name, str | os.PathLike):
        raise ModelChoiceError(f"a network is named by its tier or its file, not by {type(name).__name__}")
    path = weights_path(os.fspath(name))
    if scale == 8 and 8 not in read_card(path).scales:
        from gtasr_video.models.cascade import Cascade

        return Cascade(_ready(path, 4, steps), _ready(path, 2, steps)).eval()
    return _ready(path, scale, steps)


def _ready(path: Path, scale: int, steps: int) -> GTASRVideo:
    model = load_network(path, (scale,))
    try:
        model.path.descent(steps)
    except ValueError as error:
        raise ModelChoiceError(f"{_called(path)}: {error}") from error
    model.steps = steps
    return model.fold().eval().requires_grad_(False)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
