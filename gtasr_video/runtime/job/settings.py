"""What a job's result depends on, as plain values: a job goes on only with the same."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

from torch import nn

from gtasr_video.media import Writer
from gtasr_video.runtime.job.source import Cutting
from gtasr_video.runtime.upscaler import Upscaler


def settings_of(upscaler: Upscaler, writer: Writer, cutting: Cutting) -> dict[str, Any]:
    """Return what network, encoder and cutting add to the result."""
    return {**_of_network(upscaler), **_of_output(writer), "cut": [str(value) for value in asdict(cutting).values()]}


def _of_network(upscaler: Upscaler) -> dict[str, Any]:
    facts, device = upscaler.model.facts, upscaler.device
    return {
        "model": facts.name,
        "backend": upscaler.backend,
        "scale": facts.scale,
        "seed": upscaler.seed,
        "device": device.torch_device.type,
        "dtype": str(device.dtype).removeprefix("torch."),
        # Last, as they are those of the type above: another engine is named as such.
        "weights": _weights(upscaler.model),
    }


def _weights(model: object) -> str | None:
    """Return the SHA-256 of a network's parameters, None where it has none to look at."""
    if not isinstance(model, nn.Module):
        return None
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().to("cpu").float().contiguous().numpy().data)
    return digest.hexdigest()


def _of_output(writer: Writer) -> dict[str, Any]:
    names = ("container", "encoder", "crf", "preset", "pix_fmt", "width", "height")
    facts = writer.facts()
    return {name: facts[name] for name in names} | {"encoder header": writer.header}
