"""GTASRVideo: a one-step consistency model for video, in three tiers of one family.

The network is ours: a small student of the method of arXiv 2602.24240 (whose published network has 171.5 M parameters),
with the temporal reference added. All heavy work is at LR resolution or below; pictures of HR size enter and leave
pixel-unshuffled into *cells* of c x c LR pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gtasr_video.models.blocks import TauEmbedding, conv, read_through
from gtasr_video.models.consistency import Path, compose, out_scale
from gtasr_video.models.drsr import GuideMaps, HighFrequencyGuide
from gtasr_video.models.facts import ModelFacts, State
from gtasr_video.models.temporal import (
    NOISE_TRUST,
    Reference,
    find_reference,
    fresh_noise,
    move_features,
    move_picture,
    no_reference,
    transport_noise,
)
from gtasr_video.models.trunk import Trunk, trunk_reach
from gtasr_video.ops.edges import LUMA
from gtasr_video.ops.resize import enlarge


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of one tier.

    cell       LR pixels along one side of a cell: the finest level of the trunk works at 1/cell of LR size
    widths     trunk channels a level, finest first
    depths     (blocks down, blocks up) a level
    guide      channels of the high-frequency guide
    embedding  channels of the embedding of tau
    """

    tier: str
    cell: int
    widths: tuple[int, ...]
    depths: tuple[tuple[int, int], ...]
    guide: int
    embedding: int

    @property
    def multiple_of(self) -> int:
        """LR sizes must be multiples of this."""
        return self.cell << (len(self.widths) - 1)

    @property
    def receptive_field(self) -> int:
        """LR pixels to each side that one output pixel can depend on within a frame, in one step."""
        stem_and_guide = 2
        return self.cell * (stem_and_guide + trunk_reach(self.depths)) + self.cell - 1


TIERS: Mapping[str, Architecture] = MappingProxyType(
    {
        "s": Architecture("s", 2, (64, 128), ((1, 1), (1, 0)), guide=16, embedding=32),
        "m": Architecture("m", 2, (128, 256), ((2, 3), (3, 0)), guide=32, embedding=64),
        "l": Architecture("l", 2, (192, 256), ((5, 5), (3, 0)), guide=32, embedding=64),
    }
)


class Context(NamedTuple):
    """Everything about a frame that does not depend on the step of the path.

    yup        (B, 3, s H, s W) the LR cue: bicubic enlargement, float32
    features   (B, C, H/c, W/c) stem, guide and temporal reference joined
    guide      (B, G, H/c, W/c) features of the high-frequency guide
    reference  the temporal reference: motion, confidence, validity
    """

    yup: Tensor
    features: Tensor
    guide: Tensor
    reference: Reference


class ScaleAdapter(nn.Module):
    """What depends on the scale: stems for the LR frame, the state on the path and the reference, and the head."""

    def __init__(self, architecture: Architecture, scale: int) -> None:
        super().__init__()
        width, cell = architecture.widths[0], architecture.cell
        detail = (cell * scale) ** 2
        pixels = 3 * detail
        self.frame = conv(3 * cell**2, width)
        self.state = conv(pixels, width, 1)
        self.reference = conv(detail + width + 1, width, 1)
        self.head = conv(width, pixels, 1)
        self.maps = GuideMaps(architecture.guide, cell * scale)
        # Born as bicubic, and without memory: head and reference add nothing until they have learned something.
        nn.init.zeros_(self.reference.weight)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)


class Recall(nn.Module):
    """`reference` of an adapter for inference, in parts: nothing is joined, and only its output is weighted.

    A convolution of one pixel and a weight for that pixel may change places.
    """

    def __init__(self, reference: nn.Conv2d, width: int) -> None:
        super().__init__()
        assert reference.bias is not None
        detail, features, confidence = torch.split(
            reference.weight, [reference.in_channels - width - 1, width, 1], dim=1
        )
        self.detail, self.features = (_without_bias(part) for part in (detail, features))
        self.confidence = nn.Parameter(confidence[None, :, 0].clone())
        self.bias = nn.Parameter(reference.bias.view(1, -1, 1, 1).clone())
        self.requires_grad_(False)

    def forward(self, detail: Tensor, features: Tensor, confidence: Tensor) -> Tensor:
        """Return what is recalled, as features (B, C, h, w)."""
        recalled: Tensor = self.detail(detail) + self.features(features) + self.confidence
        return recalled * confidence + self.bias


def _without_bias(weight: Tensor) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False, dtype=weight.dtype, device=weight.device)
    layer.weight.copy_(weight)
    return layer


class Refinement(nn.Module):
    """Trunk and heads (by the name of their adapter) folded at a later point of the path than tau = 1, and its gate."""

    def __init__(self, trunk: Trunk, heads: Mapping[str, nn.Conv2d], gate: float) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict(heads)
        self.gate = gate


class GTASRVideo(nn.Module):
    """A causal one-step video super-resolution network.

    ``step(x, state)`` upscales one frame and returns the next state; ``forward(clip)`` is a loop over it. Training
    uses the two halves of a step, `observe` and `predict`, to evaluate the consistency function at any point of the
    path: f(x_t, t, y) = yup + predict(context, x_t - yup, tau).

    architecture  one of `TIERS`, or any other
    scales        scales this instance has adapters for; `scale` is the one in use
    noise_scale   standard deviation of the noise the path ends in (pixels in [-1, 1]); fixed with the weights

    `path` is the one its weights know. `steps` is how often the function is evaluated for a frame: after the first
    time, the prediction is put back on the path, q(xhat, t'), with noise of its own, and read again from there.
    """

    def __init__(self, architecture: Architecture, scales: Sequence[int] = (4,), noise_scale: float = 0.0) -> None:
        super().__init__()
        width = architecture.widths[0]
        self.architecture = architecture
        self.scales = tuple(scales)
        self.scale = self.scales[0]
        self.noise_scale = noise_scale
        self.guide = HighFrequencyGuide(architecture.cell, architecture.guide)
        self.join_guide = conv(architecture.guide, width, 1)
        self.embed = TauEmbedding(architecture.embedding)
        # Early on the path the state itself is nearly the answer, at its end the trunk's residual is: two scalars of
        # tau mix them, or the trunk would have to learn to be silent on most of the path.
        self.gates = nn.Linear(architecture.embedding, 2)
        self.trunk = Trunk(architecture.widths, architecture.depths, architecture.embedding)
        self.adapters = nn.ModuleDict({f"x{s}": ScaleAdapter(architecture, s) for s in self.scales})
        nn.init.zeros_(self.gates.weight)
        nn.init.zeros_(self.gates.bias)
        self.path = Path(noise_scale=noise_scale)
        self.steps = 1
        self.folded_gate: float | None = None
        self.refinements = nn.ModuleList()  # of the steps after the first, once folded
        self.recalls = nn.ModuleDict()  # of the adapters, once folded

    @property
    def facts(self) -> ModelFacts:
        """Facts at the scale in use."""
        a = self.architecture
        reach = a.receptive_field + (self.steps - 1) * a.cell * trunk_reach(a.depths)
        return ModelFacts(a.tier, self.scale, a.multiple_of, reach)

    @property
    def adapter(self) -> ScaleAdapter:
        """The adapter of the scale in use."""
        adapter = self.adapters[f"x{self.scale}"]
        assert isinstance(adapter, ScaleAdapter)
        return adapter

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return self.adapter.head.weight.dtype

    def initial(self, batch: int, height: int, width: int) -> State:
        """Return the state before the first frame of `batch` streams of LR size `height` x `width`."""
        a, weight = self.architecture, self.adapter.head.weight
        cells = (height // a.cell, width // a.cell)
        noisy = self.noise_scale > 0

        def zeros(channels: int, size: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(batch, channels, *size, dtype=dtype, device=weight.device)

        return State(
            detail=zeros((a.cell * self.scale) ** 2, cells, weight.dtype),
            features=zeros(a.widths[0], cells, weight.dtype),
            frame=zeros(3, (height, width)),
            noise=zeros(3 * self.scale**2 * self.steps if noisy else 0, (height, width)),
            drift=zeros(2 if noisy else 0, (height, width)),
            age=torch.zeros(batch, dtype=torch.int64, device=weight.device),
        )

    def observe(
        self, x: Tensor, state: State | None, reference: Reference | None = None, *, enlarged: bool = True
    ) -> Context:
        """Compute what is known of frame x (B, 3, H, W) before any point of the path is looked at.

        `state` None says that nothing comes before x, in less time than a state that says so. `reference` is given
        where `x` is a part of a larger frame, on whose whole it was found. `enlarged` False leaves `yup` empty, where
        nobody will look at it.
        """
        cell, dtype = self.architecture.cell, self.dtype
        cells = F.pixel_unshuffle(x, cell).to(dtype)
        guide = self.guide(cells)
        if state is None:
            assert self.adapter.reference.bias is not None
            reference, recalled = no_reference(x, cell), self.adapter.reference.bias.view(1, -1, 1, 1)
        else:
            reference = reference or find_reference(x, state.frame, state.age, cell)
            confidence = reference.confidence.to(dtype)
            detail = move_picture(state.detail.to(dtype), reference.motion, cell, self.scale)
            inner = move_features(state.features.to(dtype), reference.motion, cell)
            recalled = self._recall(detail, inner, confidence)
        features = self.adapter.frame(cells) + self.join_guide(guide) + recalled
        yup = enlarge(x, self.scale) if enlarged else x.new_zeros(0)
        return Context(yup, features, guide, reference)

    def _recall(self, detail: Tensor, inner: Tensor, confidence: Tensor) -> Tensor:
        if self.recalls:
            recalled: Tensor = self.recalls[f"x{self.scale}"](detail, inner, confidence)
        else:
            moved = torch.cat([detail, inner], dim=1) * confidence
            recalled = self.adapter.reference(torch.cat([moved, confidence], dim=1))
        return recalled

    def readers(self) -> list[nn.Module]:
        """Return the layers that read the LR frame itself."""
        return [self.guide.first, *(self.adapters.get_submodule(name).frame for name in self.adapters)]  # type: ignore[list-item]

    def predict(
        self, context: Context, state: Tensor | None, tau: Tensor, refinement: Refinement | None = None
    ) -> tuple[Tensor, Tensor]:
        """Evaluate f - yup at x_t = yup + `state`.

        state       (B, 3 (c s)^2, H/c, W/c) x_t - yup, pixel-unshuffled; None where it is zero (tau = 1 without noise)
        tau         (B,) in [0, 1]
        refinement  what is folded at this tau, where that is not 1 and the network is folded

        Returns (f - yup as cells, trunk features). At tau = 0 the first equals `state` exactly.
        """
        adapter, trunk, head, folded_gate = self.adapter, self.trunk, self.adapter.head, self.folded_gate
        if refinement is not None:
            trunk, folded_gate = refinement.trunk, refinement.gate
            head = refinement.heads.get_submodule(f"x{self.scale}")  # type: ignore[assignment]
        embedding = None if folded_gate is not None else self.embed(tau)
        if state is None:
            assert adapter.state.bias is not None
            stem = adapter.state.bias.view(1, -1, 1, 1)
        else:
            stem = adapter.state(state.to(self.dtype))
        features = trunk(context.features + stem, embedding)
        residual = head(features)
        if embedding is not None:
            of_state, of_residual = self.gates(embedding)[:, :, None, None].split(1, dim=1)
            residual = residual * (1 + of_residual)
        if state is None:
            return residual * _gain(tau, residual), features
        gate = folded_gate or 0.0 if embedding is None else of_state
        return compose(state, residual.to(state.dtype) + state * gate, tau), features

    def to_cells(self, picture: Tensor) -> Tensor:
        """Pixel-unshuffle an HR picture (B, 3, s H, s W) into cells."""
        return F.pixel_unshuffle(picture, self.architecture.cell * self.scale)

    def noise_cells(self, noise: Tensor) -> Tensor:
        """Return noise (B, 3 s^2, H, W) as the cells of the picture it is, so that where it moves its picture does."""
        return self.to_cells(F.pixel_shuffle(noise, self.scale))

    def to_picture(self, cells: Tensor) -> Tensor:
        """Pixel-shuffle cells back into an HR picture (B, 3, s H, s W)."""
        return F.pixel_shuffle(cells, self.architecture.cell * self.scale)

    def next_noise(self, x: Tensor, state: State, reference: Reference, seed: int) -> tuple[Tensor, Tensor]:
        """Return frame x's noise and drift: the previous frame's moved along, fresh where nothing is believed."""
        if self.noise_scale == 0:
            return state.noise, state.drift
        cell = self.architecture.cell
        age = torch.where(reference.valid, state.age, torch.zeros_like(state.age))
        # Each step has a field of its own, moved alike: a prediction must not meet again the noise it was made from.
        size = state.noise.shape[1] // self.steps, *state.noise.shape[2:]
        fresh = torch.cat([fresh_noise(seed + (k << 32), age, *size) for k in range(self.steps)], dim=1)
        vector = reference.motion.flow
        keep = reference.confidence > NOISE_TRUST
        return transport_noise(
            state.noise,
            state.drift,
            vector.repeat_interleave(cell, dim=2).repeat_interleave(cell, dim=3),
            keep.repeat_interleave(cell, dim=2).repeat_interleave(cell, dim=3),
            fresh,
        )

    def advance(self, x: Tensor, state: State, context: Context, residual: Tensor, features: Tensor) -> State:
        """Return the state after frame x, given what `predict` returned for it; the noise is as in `state`."""
        age = torch.where(context.reference.valid, state.age, torch.zeros_like(state.age)) + 1
        detail = self.read_residual(residual, features, self._luma(residual)).to(residual.dtype)
        return State(detail, features, x, state.noise, state.drift, age)

    def _luma(self, like: Tensor) -> Tensor:
        """Return ((c s)^2, 3 (c s)^2) float32: the luma of a picture in cells."""
        pixels = torch.eye((self.architecture.cell * self.scale) ** 2, device=like.device)
        return torch.cat([weight * pixels for weight in LUMA], dim=1)

    def step(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Tensor, State]:
        """Upscale one frame: float32 x (B, 3, H, W) in [-1, 1] -> float32 (B, 3, s H, s W), and the next state.

        H and W must be multiples of ``facts.multiple_of``. The output is not clamped. At the first frame, and where
        x is a new scene, nothing of `state` but its shape has any influence.
        """
        residual, following = self.step_in_cells(x, state, seed=seed)
        return enlarge(x, self.scale) + self.to_picture(residual).float(), following

    def step_in_cells(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Tensor, State]:
        """Upscale one frame, but return only what it adds to bicubic, as cells (B, 3 (c s)^2, H/c, W/c); see `step`."""
        context = self.observe(x, state, enlarged=False)
        noise, drift = self.next_noise(x, state, context.reference, seed)
        residual, features = self.descend(context, noise)
        following = self.advance(x, state._replace(noise=noise, drift=drift), context, residual, features)
        return residual, following

    def read_residual(self, residual: Tensor, features: Tensor, matrix: Tensor) -> Tensor:
        """Return `matrix` (K, 3 (c s)^2) times `residual`, float32, given the trunk `features` it was made from.

        On a CPU, where it is the head's alone, it is not looked at: `matrix` and the head are one smaller convolution.
        """
        is_heads = self.steps == 1 and self.noise_scale == 0 and self.folded_gate is not None
        if not is_heads or residual.device.type != "cpu":
            return F.conv2d(residual.float(), matrix[..., None, None])
        gain = _gain(torch.ones(1, device=matrix.device), matrix)[0, 0]
        return read_through(self.adapter.head, features, gain * matrix)

    def descend(self, context: Context, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate the function at each of `steps` points of the path, each time from what came before.

        Returns (f - yup as cells, trunk features), as `predict` does.
        """
        fields = noise.chunk(self.steps, dim=1)
        residual: Tensor | None = None
        for k, tau in enumerate(self.path.descent(self.steps)):
            # q(xhat, t') - yup = (1 - a) (xhat - yup) + noise_scale a eps; nothing of xhat is left at t = N.
            start = None if residual is None else (1 - tau) * residual
            if self.noise_scale > 0:
                eps = self.noise_cells(fields[k]) * (self.noise_scale * tau)
                start = eps if start is None else start + eps
            refinement = self.refinements[k - 1] if k and self.refinements else None
            assert refinement is None or isinstance(refinement, Refinement)
            taus = torch.full((noise.shape[0],), tau, device=noise.device)
            residual, features = self.predict(context, start, taus, refinement)
        assert residual is not None
        return residual, features

    def forward(self, clip: Tensor, state: State | None = None, *, seed: int = 0) -> Tensor:
        """Upscale a clip (B, T, 3, H, W) in [-1, 1] -> (B, T, 3, s H, s W), frame by frame."""
        state = state or self.initial(clip.shape[0], clip.shape[3], clip.shape[4])
        frames = []
        for x in clip.unbind(dim=1):
            y, state = self.step(x, state, seed=seed)
            frames.append(y)
        return torch.stack(frames, dim=1)

    @torch.no_grad()
    def fold(self) -> GTASRVideo:
        """Fix tau for good, for inference: its embedding becomes part of the convolutions. Returns self.

        The first step, tau = 1, changes the weights in place; each later one gets a copy of trunk and heads.
        """
        for tau in self.path.descent(self.steps)[1:]:
            trunk, heads = copy.deepcopy((self.trunk, self._heads()))
            self.refinements.append(Refinement(trunk, heads, self._fold_into(trunk, heads, tau)))
        self.folded_gate = self._fold_into(self.trunk, self._heads(), 1.0)
        for name in self.adapters:
            reference = self.adapters.get_submodule(name).reference
            self.recalls[name] = Recall(reference, self.architecture.widths[0])  # type: ignore[arg-type]
        return self

    def _heads(self) -> dict[str, nn.Conv2d]:
        return {name: self.adapters.get_submodule(name).head for name in self.adapters}  # type: ignore[misc]

    def _fold_into(self, trunk: Trunk, heads: Mapping[str, nn.Conv2d], tau: float) -> float:
        """Fold `tau` into `trunk` and `heads`; return the gate of the state."""
        embedding = self.embed(torch.full((1,), tau, device=self.adapter.head.weight.device))
        of_state, of_residual = self.gates(embedding)[0].tolist()
        for head in heads.values():
            for parameter in head.parameters():
                parameter.mul_(1 + of_residual)
        for block in trunk.blocks():
            block.fold(embedding)
        return float(of_state)


def _gain(tau: Tensor, like: Tensor) -> Tensor:
    """Return c_out(tau) (B, 1, 1, 1): what `compose` makes of a residual where the state is zero."""
    return out_scale(tau).to(like.dtype).view(-1, 1, 1, 1)
