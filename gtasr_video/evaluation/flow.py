"""Motion of the truth from frame to frame: OpenCV's DIS flow, and where it can be trusted."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtasr_video.ops.metrics import luma_full
from gtasr_video.ops.warp import consistent

Grey = NDArray[np.uint8]


def true_motion(now: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Return (flow, valid) between two frames of the truth, RGB (1, 3, H, W) in [0, 1].

    flow   (1, 2, H, W) in pixels, from `now` to `before`, Kroeger et al., "Fast Optical Flow using Dense
           Inverse Search" (arXiv 1603.03590), medium preset
    valid  (1, 1, H, W) bool, where going there and back ends within the tolerance of `ops.warp.consistent`
    """
    new, old = (_grey(x) for x in (now, before))
    flow, reverse = _dis(new, old), _dis(old, new)
    return flow, consistent(flow, reverse)


def _grey(x: Tensor) -> Grey:
    return luma_full(x)[0, 0].round().to(torch.uint8).cpu().numpy()


def _dis(start: Grey, end: Grey) -> Tensor:
    import cv2

    # A new estimator for each pair: a used one would begin from its last result.
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = np.zeros((*start.shape, 2), dtype=np.float32)
    return torch.from_numpy(np.asarray(estimator.calc(start, end, flow))).permute(2, 0, 1)[None]
