"""One frame's work recorded once and replayed: hundreds of launches become one.

A recording is blind: it repeats what was launched, on the memory it was launched on. So the work must be a function of
tensors alone, the state among them, without a decision of the host in it; what is given is copied into fixed memory,
and what comes out is copied out of it. A cut, a first frame or a gap in time is then only another state to copy in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.utils._pytree import tree_leaves, tree_map

from gtasr_video.device import is_out_of_memory

log = logging.getLogger("gtasr_video")

# Frames made without a recording first: they choose algorithms and compile kernels, and hide that this takes time.
FIRST_FRAMES = 3


class Capture(Protocol):
    """How work is recorded: by CUDA, or by what stands in for it in tests."""

    def __call__(self, work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """Record `work` on the tensors it uses; return what replays it, and its result, whose memory stays."""


class Graphed:
    """`work` (planes, state) -> a tuple whose field ``state`` is what to give next, replayed from a recording.

    The first frames of a shape run as they are. If a recording cannot be made it goes on like that, and says so once;
    running out of memory is raised. States and results are the caller's own, as without a recording.
    """

    def __init__(self, work: Callable[[Any, Any], Any], capture: Capture, first_frames: int = FIRST_FRAMES) -> None:
        self._work, self._capture, self._first_frames = work, capture, first_frames
        self._shapes: Any = None
        self._frames = 0
        self._impossible = False
        self._recording: _Recording | None = None

    @property
    def recorded(self) -> bool:
        """Whether frames are replayed from a recording by now."""
        return self._recording is not None

    def __call__(self, planes: Any, state: Any) -> Any:
        """Return ``work(planes, state)``."""
        shapes = [tensor.shape for tensor in tree_leaves((planes, state))]
        if shapes != self._shapes:
            self._shapes, self._frames, self._recording = shapes, 0, None
        if self._recording is None:
            result = self._work(planes, state)
            self._frames += 1
            if self._frames >= self._first_frames and not self._impossible:
                self._record(planes, result.state)
            return result
        return self._recording.replay(planes, state)

    def _record(self, planes: Any, state: Any) -> None:
        """Record on copies of what the next frame will look like: its state may be of another type than the first."""
        try:
            self._recording = _Recording(self._work, self._capture, planes, state)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self._impossible = True
            reason = " ".join(str(error).split())[:200]
            log.warning("frames are launched one operator at a time: recording failed (%s)", reason)


class _Recording:
    """A recording, the memory it reads and the memory it writes."""

    def __init__(self, work: Callable[[Any, Any], Any], capture: Capture, planes: Any, state: Any) -> None:
        self._given = tree_map(torch.clone, (planes, state))
        self._replay, self._result = capture(lambda: work(*self._given))

    def replay(self, planes: Any, state: Any) -> Any:
        for fixed, new in zip(tree_leaves(self._given), tree_leaves((planes, state)), strict=True):
            fixed.copy_(new, non_blocking=True)
        self._replay()
        return tree_map(torch.clone, self._result)
