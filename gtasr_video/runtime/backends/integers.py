"""8-bit convolutions in a graph of OpenVINO that does not come from `models.int8`: the same rounding, put in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op
from torch import nn

from gtasr_video.models.blocks import INPUT_MAX, WEIGHT_MAX


def with_integers(graph: ov.Model, model: nn.Module, limits: Mapping[str, float]) -> None:
    """Round inputs and weights of the convolutions of `graph` that are named in `limits`, as `Int8Conv2d` does.

    They are found by their weights, which survive every conversion; their names do not.
    """
    known = [(model.get_submodule(name).weight.detach().numpy(), limit) for name, limit in limits.items()]  # type: ignore[operator]
    for node in graph.get_ops():
        if node.get_type_name() == "Convolution":
            source = node.input_value(1).get_node()
            if source.get_type_name() == "Constant":
                _round(node, source.get_data(), known)


def _round(node: Any, weight: Any, known: list[tuple[Any, float]]) -> None:
    for candidate, limit in known:
        if candidate.shape == weight.shape and np.array_equal(candidate, weight):
            reach = max(limit, 1e-6)
            low, high = np.float32(-reach * (INPUT_MAX + 1) / INPUT_MAX), np.float32(reach)
            node.input(0).replace_source_output(_grid(node.input_value(0), low, high, 256))
            scales = np.maximum(np.abs(weight).max(axis=(1, 2, 3), keepdims=True), 1e-8) / WEIGHT_MAX
            top = (scales * INPUT_MAX).astype(np.float32)
            node.input(1).replace_source_output(_grid(op.constant(weight).output(0), -top, top, 255))
            return


def _grid(value: Any, low: Any, high: Any, levels: int) -> Any:
    ends = [op.constant(np.asarray(end, np.float32)) for end in (low, high, low, high)]
    return op.fake_quantize(value, *ends, levels).output(0)
