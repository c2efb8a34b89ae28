"""Which networks make up the ladder below the one that was asked for."""

from __future__ import annotations

from collections.abc import Iterator

from gtasr_video.errors import ModelError
from gtasr_video.models import TIERS, VideoModel, load_model
from gtasr_video.models.bicubic import Bicubic
from gtasr_video.runtime.backends import Name
from gtasr_video.runtime.upscaler import Upscaler


def with_cheaper(upscaler: Upscaler) -> list[Upscaler]:
    """Return `upscaler`, then the tiers below its own that have weights for its scale, then bicubic."""
    # What was asked for may not suit bicubic, which has nothing to quantise.
    backend: Name = "torch" if upscaler.backend == "torch" else "auto"

    def beside(model: VideoModel) -> Upscaler:
        return Upscaler(model, device=upscaler.device, seed=upscaler.seed, backend=backend)

    return [upscaler, *map(beside, _cheaper(upscaler.model))]


def _cheaper(model: VideoModel) -> Iterator[VideoModel]:
    facts = model.facts
    if facts.name == "bicubic":
        return
    tiers = list(TIERS)
    tier = facts.name.split()[0]
    for name in reversed(tiers[: tiers.index(tier)] if tier in tiers else []):
        try:
            yield load_model(name, scale=facts.scale)
        except ModelError:
            continue
    yield Bicubic(facts.scale)
