"""Going on with another network in the middle of a stream."""

from __future__ import annotations

from gtasr_video.models.facts import State, VideoModel
from gtasr_video.models.gtasr import GTASRVideo


def hand_over(state: State, before: VideoModel, after: VideoModel) -> State | None:
    """Return what `after` can take over of the `state` that `before` left; None if it has to begin anew.

    The last frame and the detail of the last output stay the reference. Features mean nothing to another network and
    begin at zero. Noise is kept where both carry as much of it.
    """
    if not (isinstance(before, GTASRVideo) and isinstance(after, GTASRVideo)) or before.scale != after.scale:
        return None
    height, width = state.frame.shape[-2:]
    if height % after.facts.multiple_of or width % after.facts.multiple_of:
        return None
    fresh = after.initial(state.age.shape[0], height, width)
    if state.noise.shape != fresh.noise.shape:
        return None
    picture = before.to_picture(state.detail)
    detail = after.to_cells(picture).to(fresh.detail)
    return State(detail, fresh.features, state.frame, state.noise, state.drift, state.age)
