"""The temporal reference: what the frame before knew, moved to where it is now, and how far to trust it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.models.flow import Motion, box, estimate_motion, gather_pixels, source_index
from gtasr_video.ops.kernels import usable
from gtasr_video.ops.noise import keyed_gaussian
from gtasr_video.ops.resize import enlarge_bilinear
from gtasr_video.ops.warp import warp

# Motion-compensated luma error, in [-1, 1] units, at which confidence has fallen to 1/e: compression noise at CRF 28
# stays near a third of the first. Aliasing, and what sampling between pixels costs, grow with the contrast of a place,
# the mean absolute deviation of luma around it: what is moved rightly differs by about a third of that, what is not by
# all of it. With the first alone the past was believed by half on fine print.
_ERROR_UNIT = 0.08
_CONTRAST_UNIT = 0.5
# As much of the last picture as is ever believed: it fades, so that what was wrong once does not stay. Back-projection
# and rest see to it that a standing scene comes to rest: before them it took 0.9.
FADING = 0.97
# A scene cut: no motion explains the frame. The mean error left after motion exceeds this share of the contrast
# (mean absolute deviation of luma) and this floor. Measured at LR size on 61 clips: neighbouring frames of one shot
# reach 0.46 of the contrast, or less than 0.06 where a dark picture fades in; first frames of different shots start at
# 0.73 and 0.19.
_CUT_SHARE = 0.6
_CUT_FLOOR = 0.08
# What is put right of the remembered picture where, shrunk, it is not the frame: this share of what is beyond what
# damage explains, in [-1, 1]. Codecs take detail away rather than add it, so that detail of the frame which memory
# misses is believed sooner than that something memory shows is not there.
_PUT_RIGHT = 0.5
_ADDED, _TAKEN_AWAY = 0.04, 0.1
# Noise is carried along only where the confidence is above this.
NOISE_TRUST = 0.5


class Reference(NamedTuple):
    """The third reference of DRSR at LR resolution, before unshuffling.

    motion      of this frame against the one before, per cell
    confidence  (B, 1, h, w) in [0, 1] per cell; 0 everywhere at the first frame and after a cut
    valid       (B,) bool: there is a frame before and it belongs to the same scene
    """

    motion: Motion
    confidence: Tensor
    valid: Tensor


def no_reference(frame: Tensor, cell: int) -> Reference:
    """Return what `find_reference` does for a frame (B, 3, H, W) that nothing comes before: nothing to refer to."""
    b, _, height, width = frame.shape
    flow = frame.new_zeros(b, 2, height // cell, width // cell)
    nothing = flow[:, :1]
    return Reference(Motion(flow, flow.long(), nothing), nothing, frame.new_zeros(b, dtype=torch.bool))


@torch.no_grad()
def find_reference(now: Tensor, before: Tensor, age: Tensor, cell: int, shown: Tensor | None = None) -> Reference:
    """Estimate motion, confidence and scene cuts between two LR frames, float32 luma (B, 1, H, W) in [-1, 1].

    age    (B,) number of frames since the last cut before this frame; 0 means there is nothing to refer to
    shown  what was made of the frame `before`, shrunk to its size; see `estimate_motion`
    """
    motion = estimate_motion(now, before, cell, shown)
    valid = (age > 0) & ~_is_cut(motion.left, now, before)
    _, inside = source_index(motion.whole // cell)
    unit = _ERROR_UNIT**2 + (_CONTRAST_UNIT * _contrast(now, cell)).square()
    trust = torch.exp(-motion.left.square() / unit) * inside
    confidence = torch.where(valid.view(-1, 1, 1, 1), trust, torch.zeros_like(trust))
    return Reference(motion, confidence, valid)


def _contrast(y: Tensor, cell: int) -> Tensor:
    """Return the mean absolute deviation (B, 1, h, w) of luma from its local mean, around each cell."""
    return box(F.avg_pool2d((y - box(y, 5)).abs(), cell), 5)


def _is_cut(error: Tensor, now: Tensor, before: Tensor) -> Tensor:
    left = error.mean(dim=(1, 2, 3))
    contrast = 0.5 * (_deviation(now) + _deviation(before))
    return (left > _CUT_FLOOR) & (left > _CUT_SHARE * contrast)


def _deviation(y: Tensor) -> Tensor:
    """Return the mean absolute deviation (B,) of luma."""
    return (y - y.mean(dim=(1, 2, 3), keepdim=True)).abs().mean(dim=(1, 2, 3))


def move_features(features: Tensor, motion: Motion, cell: int) -> Tensor:
    """Move (B, C c^2, h, w) by whole LR pixels: shuffled to LR resolution, gathered, unshuffled again.

    Channels of one LR pixel stay together, and nothing is interpolated.
    """
    fine = F.pixel_shuffle(features, cell)
    dense = motion.whole.repeat_interleave(cell, dim=2).repeat_interleave(cell, dim=3)
    return F.pixel_unshuffle(gather_pixels(fine, dense), cell)


def move_picture(cells: Tensor, motion: Motion, cell: int, scale: int) -> Tensor:
    """Move an HR picture given as cells, (B, 3 (c s)^2, h, w), by the motion with its fractions.

    It holds the detail that the LR picture lacks, whose waves are shorter than an LR pixel: moved by whole LR pixels
    it arrives out of phase and foretells the next frame no better than a picture that was not moved at all. Moved
    sharply, as it is moved again in every frame: with bilinear means what is held gets softer each time.
    """
    size = cell * scale
    flow = enlarge_bilinear(scale * motion.flow, size)
    return F.pixel_unshuffle(warp(F.pixel_shuffle(cells, size), flow, sharp=True), size)


def missed(y: Tensor, shown: Tensor) -> Tensor:
    """Return what a remembered picture misses of the frame, as far as it is to be put right, (B, 1, H, W).

    y      (B, 1, H, W) luma of the frame
    shown  (B, 1, H, W) luma of the picture, shrunk to its size

    Back-projection (Irani and Peleg, 1991, "Improving Resolution by Image Registration"): they should be the same.
    """
    gap = y - shown
    adds = gap * (y - box(y, 3)) > 0
    by_damage = _TAKEN_AWAY - (_TAKEN_AWAY - _ADDED) * adds
    return _PUT_RIGHT * gap.sign() * F.relu(gap.abs() - by_damage)


def fresh_noise(seed: int, age: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Return unit Gaussian noise (B, channels, height, width) keyed by (seed, frame since the cut, place)."""
    return keyed_gaussian(seed, age, (channels, height, width))


def transport_noise(noise: Tensor, drift: Tensor, vector: Tensor, keep: Tensor, fresh: Tensor) -> tuple[Tensor, Tensor]:
    """Move whole noise values with the motion; never interpolate (method: path-aligned noise).

    noise   (B, C, H, W) of the frame before; drift (B, 2, H, W): where each value's content really is, minus where
            the value sits, in pixels, so that slow motion adds up instead of being rounded away
    vector  (B, 2, H, W) backward motion in pixels, fractions included; keep (B, 1, H, W) bool: motion is believed
    fresh   (B, C, H, W) noise for holes, collisions and places without belief

    Returns (noise, drift). Each value goes to at most one place, so the result stays independent unit Gaussian.
    """
    if usable(noise):
        from gtasr_video.ops.kernels.noise import transport_noise as fused

        return fused(noise, drift, vector, keep, fresh)
    b, _, h, w = noise.shape
    step = torch.round(vector - drift).long()
    source, inside = source_index(step)
    believed = (inside & keep).view(b, h * w)
    # One target per source: the first in scan order. Others get a target index past the end and lose.
    target = torch.arange(h * w, device=noise.device).expand(b, -1)
    offer = torch.where(believed, target, torch.full_like(target, h * w))
    owner = torch.full_like(target, h * w).scatter_reduce(1, source, offer, reduce="amin")
    carried = (believed & (owner.gather(1, source) == target)).view(b, 1, h, w)
    moved_drift = step + gather_pixels(drift, step) - vector
    # A value that motion has torn more than a pixel away from its content is let go.
    carried &= moved_drift.abs().amax(dim=1, keepdim=True) <= 1
    return (
        torch.where(carried, gather_pixels(noise, step), fresh),
        torch.where(carried, moved_drift, torch.zeros_like(drift)),
    )
