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
    FADING,
    NOISE_TRUST,
    Reference,
    find_reference,
    fresh_noise,
    missed,
    move_features,
    move_picture,
    no_reference,
    transport_noise,
)
from gtasr_video.models.trunk import Trunk, trunk_reach
from gtasr_video.ops.edges import LUMA, luma
from gtasr_video.ops.resize import enlarge, enlarge_in_cells, shrink, shrink_in_cells


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
    detail     (B, (c s)^2, H/c, W/c) luma of the previous output, moved, less that of yup: the residual that memory
               alone would give; None where nothing comes before
    """

    yup: Tensor
    features: Tensor
    guide: Tensor
    reference: Reference
    detail: Tensor | None


class Prediction(NamedTuple):
    """What the network makes of a point of the path.

    residual  (B, 3 (c s)^2, H/c, W/c) f - yup as cells
    luma      (B, (c s)^2, H/c, W/c) luma of it
    held      (B, (c s)^2, H/c, W/c) what memory has changed that luma by, already in both; None without memory
    features  (B, C, H/c, W/c) last features of the trunk
    """

    residual: Tensor
    luma: Tensor
    held: Tensor | None
    features: Tensor


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
        self.hold = conv(width, detail, 1)
        self.maps = GuideMaps(architecture.guide, cell * scale)
        # Born as bicubic, and nearly without memory: head and reference add nothing until they have learned something,
        # and little is held.
        nn.init.zeros_(self.reference.weight)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.hold.weight)
        assert self.head.bias is not None
        assert self.hold.bias is not None
        nn.init.zeros_(self.head.bias)
        nn.init.constant_(self.hold.bias, -2.0)


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

    @torch.no_grad()
    def hold_nothing(self) -> None:
        """Set the share of the last picture that is held to nothing: for networks that never learn how much to hold."""
        for name in self.adapters:
            hold = self.adapters.get_submodule(name).hold
            assert isinstance(hold, nn.Conv2d)
            assert hold.bias is not None
            hold.weight.zero_()
            hold.bias.fill_(-50.0)

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
            detail = None
        else:
            shown = self._shown(state)
            reference = reference or self._reference_to(shown, x, state)
            confidence = reference.confidence.to(dtype)
            detail = self._remembered(x, shown, reference).to(dtype)
            inner = move_features(state.features.to(dtype), reference.motion, cell)
            recalled = self._recall(FADING * detail, inner, confidence)
        features = self.adapter.frame(cells) + self.join_guide(guide) + recalled
        yup = enlarge(x, self.scale) if enlarged else x.new_zeros(0)
        return Context(yup, features, guide, reference, detail)

    def find_reference(self, x: Tensor, state: State) -> Reference:
        """Return what frame x (B, 3, H, W) refers to of what came before."""
        return self._reference_to(self._shown(state), x, state)

    def _reference_to(self, shown: Tensor, x: Tensor, state: State) -> Reference:
        """Return the reference of x to what came before it, whose picture was `shown`.

        At scale 1 picture and frame would differ by what was restored, which is no motion.
        """
        picture = self._shrunk_luma(shown) if self.scale > 1 else None
        return find_reference(luma(x), luma(state.frame), state.age, self.architecture.cell, picture)

    def _shown(self, state: State) -> Tensor:
        """Return the luma of the last output as cells (B, (c s)^2, h, w), float32."""
        return state.detail.float() + self._enlarged_luma(luma(state.frame))

    def _remembered(self, x: Tensor, shown: Tensor, reference: Reference) -> Tensor:
        """Return `Context.detail`, float32, of what was `shown` before.

        The whole picture moves, not the residual alone: two LR frames sample a scene at different places, and what
        tells them apart is in what bicubic makes of each. What it has missed of this frame, enlarged, is added to it:
        ``moved + E(missed) - E(y)``, as ``moved - E(y - missed)``. At scale 1 it would become the frame itself.
        """
        y = luma(x)
        moved = move_picture(shown, reference.motion, self.architecture.cell, self.scale)
        if self.scale > 1:
            y = y - missed(y, self._shrunk_luma(moved))
        return moved - self._enlarged_luma(y)

    def _enlarged_luma(self, y: Tensor) -> Tensor:
        """Return the bicubic enlargement of luma y (B, 1, H, W) as cells, float32."""
        if self._has_fixed_convolutions:
            return enlarge_in_cells(y, self.architecture.cell, self.scale)
        return self.to_cells(enlarge(y, self.scale))

    def _shrunk_luma(self, cells: Tensor) -> Tensor:
        """Return a plane of HR luma, float32 cells (B, (c s)^2, h, w), shrunk to LR size, (B, 1, H, W)."""
        cell = self.architecture.cell
        if self._has_fixed_convolutions:
            return F.pixel_shuffle(shrink_in_cells(cells, cell, self.scale), cell)
        return shrink(cells, cell, self.scale)

    @property
    def _has_fixed_convolutions(self) -> bool:
        """Whether planes are resized by convolutions of cells: faster on a CPU, in inference."""
        return self.folded_gate is not None and self.adapter.head.weight.device.type == "cpu"

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
    ) -> Prediction:
        """Evaluate f at x_t = yup + `state`.

        state       (B, 3 (c s)^2, H/c, W/c) x_t - yup, pixel-unshuffled; None where it is zero (tau = 1 without noise)
        tau         (B,) in [0, 1]
        refinement  what is folded at this tau, where that is not 1 and the network is folded

        At tau = 0 the residual equals `state` exactly.
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
        of_state: float | Tensor = folded_gate or 0.0
        if embedding is not None:
            of_state, of_residual = self.gates(embedding)[:, :, None, None].split(1, dim=1)
            residual = residual * (1 + of_residual)
        if state is None:
            gain = _gain(tau, residual)
            seen = self._seen_luma(residual, features) * gain
            residual = residual * gain
        else:
            residual = compose(state, residual.to(state.dtype) + state * of_state, tau)
            seen = self._luma(residual)
        if context.detail is None:
            return Prediction(residual, seen, None, features)
        held = self._held(context, seen, features, tau)
        return Prediction(residual + torch.cat([held] * 3, dim=1), seen + held, held, features)

    def _held(self, context: Context, seen: Tensor, features: Tensor, tau: Tensor) -> Tensor:
        """Return the change of luma that holds on to what was there before, as far as `features` say so.

        A share of the difference between `detail` and the luma `seen` of all that is known without memory, what the
        point of the path holds included: a running mean along the motion, whose length is learned place by place. It
        falls with `tau`, as more and more of the answer is on the path. Colour is that of this frame alone.
        """
        assert context.detail is not None
        trust = FADING * tau.view(-1, 1, 1, 1) * context.reference.confidence
        share = torch.sigmoid(self.adapter.hold(features)) * trust.to(seen.dtype)
        return share * (context.detail.to(seen.dtype) - seen)

    def _seen_luma(self, residual: Tensor, features: Tensor) -> Tensor:
        """Return luma of what the head said. Read through it where nobody may ever look at `residual`."""
        if not self._reads_through_head(residual):
            return self._luma(residual)
        pixels = torch.eye(residual.shape[1] // 3, device=residual.device)
        matrix = torch.cat([weight * pixels for weight in LUMA], dim=1)
        return read_through(self.adapter.head, features, matrix).to(residual.dtype)

    @staticmethod
    def _luma(cells: Tensor) -> Tensor:
        red, green, blue = cells.chunk(3, dim=1)
        return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue

    def _reads_through_head(self, residual: Tensor) -> bool:
        """Return whether a few sums of the residual are cheaper read off the features: on a CPU, in a single step."""
        is_heads = self.steps == 1 and self.noise_scale == 0 and self.folded_gate is not None
        return is_heads and residual.device.type == "cpu"

    def to_cells(self, picture: Tensor) -> Tensor:
        """Pixel-unshuffle an HR picture (B, 3, s H, s W) into cells."""
        return F.pixel_unshuffle(picture, self.architecture.cell * self.scale)

    def noise_cells(self, noise: Tensor) -> Tensor:
        """Return noise (B, 3 s^2, H, W) as the cells of the picture it is, so that where it moves its picture does."""
        return self.to_cells(F.pixel_shuffle(noise, self.scale))

    def to_picture(self, cells: Tensor) -> Tensor:
        """Pixel-shuffle cells back into an HR picture (B, 3, s H, s W)."""
        return F.pixel_shuffle(cells, self.architecture.cell * self.scale)

    def next_noise(
        self, x: Tensor, state: State, reference: Reference, seed: int, streams: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return frame x's noise and drift: the previous frame's moved along, fresh where nothing is believed.

        All streams of a batch have the noise that each would have alone; `streams` (B,), integers, numbers those that
        are to have noise of their own.
        """
        if self.noise_scale == 0:
            return state.noise, state.drift
        cell = self.architecture.cell
        age = torch.where(reference.valid, state.age, torch.zeros_like(state.age))
        if streams is not None:
            age = age + (streams << 24)
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

    def advance(self, x: Tensor, state: State, reference: Reference, prediction: Prediction) -> State:
        """Return the state after frame x, given what `predict` returned for it; the noise is as in `state`."""
        age = torch.where(reference.valid, state.age, torch.zeros_like(state.age)) + 1
        return State(prediction.luma, prediction.features, x, state.noise, state.drift, age)

    def step(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Tensor, State]:
        """Upscale one frame: float32 x (B, 3, H, W) in [-1, 1] -> float32 (B, 3, s H, s W), and the next state.

        H and W must be multiples of ``facts.multiple_of``. The output is not clamped. At the first frame, and where
        x is a new scene, nothing of `state` but its shape has any influence.
        """
        prediction, following = self.step_in_cells(x, state, seed=seed)
        return enlarge(x, self.scale) + self.to_picture(prediction.residual).float(), following

    def step_in_cells(self, x: Tensor, state: State, *, seed: int = 0) -> tuple[Prediction, State]:
        """Upscale one frame, but return only what it adds to bicubic; see `step`."""
        context = self.observe(x, state, enlarged=False)
        noise, drift = self.next_noise(x, state, context.reference, seed)
        prediction = self.descend(context, noise)
        return prediction, self.advance(x, state._replace(noise=noise, drift=drift), context.reference, prediction)

    def read_residual(self, prediction: Prediction, matrix: Tensor) -> Tensor:
        """Return `matrix` (K, 3 (c s)^2) times the residual of `prediction`, float32.

        Where it can be told from the features and what memory holds, the residual itself is not looked at.
        """
        residual, _, held, features = prediction
        if not self._reads_through_head(residual):
            return F.conv2d(residual.float(), matrix[..., None, None])
        gain = _gain(torch.ones(1, device=matrix.device), matrix)[0, 0]
        read = read_through(self.adapter.head, features, gain * matrix)
        if held is None:
            return read
        of_grey = matrix.view(len(matrix), 3, -1).sum(dim=1)
        return read + F.conv2d(held.float(), of_grey[..., None, None])

    def descend(self, context: Context, noise: Tensor) -> Prediction:
        """Evaluate the function at each of `steps` points of the path, each time from what came before.

        Returns what `predict` returned for the last.
        """
        fields = noise.chunk(self.steps, dim=1)
        prediction: Prediction | None = None
        for k, tau in enumerate(self.path.descent(self.steps)):
            # q(xhat, t') - yup = (1 - a) (xhat - yup) + noise_scale a eps; nothing of xhat is left at t = N.
            start = None if prediction is None else (1 - tau) * prediction.residual
            if self.noise_scale > 0:
                eps = self.noise_cells(fields[k]) * (self.noise_scale * tau)
                start = eps if start is None else start + eps
            refinement = self.refinements[k - 1] if k and self.refinements else None
            assert refinement is None or isinstance(refinement, Refinement)
            taus = torch.full((noise.shape[0],), tau, device=noise.device)
            prediction = self.predict(context, start, taus, refinement)
        assert prediction is not None
        return prediction

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
