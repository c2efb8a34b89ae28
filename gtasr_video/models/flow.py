"""Motion between two LR frames, without learned weights: gradients of luma, from coarse to fine.

Lucas and Kanade's method (1981, "An Iterative Image Registration Technique") over a pyramid, one vector a patch: at
each level a 2 x 2 system of least squares says how far what is left of the motion goes, and is solved again where that
leads. Pixels that the motion so far does not explain count less (the weights of Geman and McClure, 1987), so that what
is hidden, and the coarse steps of codecs, do not draw the rest along. What is small and quick is lost that way at the
coarse levels: on the way down an exhaustive search at 1/4 size may step in, where it explains a patch far better.
What is left at full size is the noise of single patches: where the motion of the camera, one field through all of them,
explains a patch about as well, that is taken (`models/camera.py`).
Everything is a fixed sequence of dense tensor operations, without a loop over patches or a host decision, so that it
can sit inside a captured graph.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.models.camera import camera_field, fit_affine
from gtasr_video.ops.kernels import usable
from gtasr_video.ops.resize import enlarge_bilinear
from gtasr_video.ops.warp import warp

LEVELS = 4  # each at half the size of the one before
PATCH = 4  # pixels along one side of what has a vector of its own, at every level
ALIGN = PATCH << (LEVELS - 1)  # LR pixels along one side of a patch of the last level
ROUNDS = 2  # a level; each moves by at most a pixel of the level a side
REACH = ROUNDS * ((1 << LEVELS) - 1)  # no vector is longer than this in LR pixels along one side
SEARCH = 4  # pixels at 1/4 size to each side that the exhaustive search looks at: +-16 LR pixels
_SEARCHED = 1  # the level that gets to choose
_ZERO_BIAS = 0.004  # mean difference that a pixel at 1/4 size of motion must earn in the search
# A searched vector is taken where its error is less than this share of the other's, and less by this much. A search
# finds something for everything: on nine real clips any laxer choice made motion worse.
_FAR_BETTER, _BY_MUCH = 0.5, 0.01
WINDOW = 5  # patches along one side of the box over which sums of a system run; above _SEARCHED of two boxes
_LAST_WINDOW = 3  # and at full size, where things must not blur into each other
_ROUGHNESS = 0.06  # luma error, in [-1, 1], at which a pixel counts half
_FLAT = 1e-4  # added to the mean squared gradient: flat ground keeps the vector of the level above
_BLANK = 1e-3  # sum of the mean squared gradients below which a patch does not count for the camera
# The camera's motion is taken where what it leaves is less than so many times what the patch's own leaves and a little,
# by half at that point and wholly some _UNDECIDED below.
_AS_WELL, _NEARLY, _UNDECIDED = 1.1, 0.003, 0.002
# A cell says that the camera stands where no motion leaves at most so much more, in [-1, 1], than the vector found, and
# rests itself at half of that. Frames of standing cameras have 0.68 to 0.94 of their cells say so, of moving ones at
# most 0.65, but for one that its codec had repeated, 0.74 (six frames of ten filmed and drawn clips, undamaged and at
# crf 28).
_STANDS, _RESTS, _IN_DOUBT = 0.001, 0.0005, 0.0005
_MOST, _MORE = 0.69, 0.015
_SMOOTH = 3  # patches along one side over which vectors are averaged at the end of a level


class Motion(NamedTuple):
    """Backward motion at cell resolution: what is here now was at p + flow in the frame before.

    flow   (B, 2, h, w) float32 (dx, dy) in LR pixels
    whole  (B, 2, h, w) int64 `flow` rounded
    left   (B, 1, h, w) float32 mean absolute luma difference after `flow`, in [-1, 1] units
    """

    flow: Tensor
    whole: Tensor
    left: Tensor


def estimate_motion(now: Tensor, before: Tensor, cell: int, shown: Tensor | None = None) -> Motion:
    """Estimate the motion from `before` to `now`, float32 luma (B, 1, H, W) in [-1, 1], one vector a `cell` of pixels.

    H and W must be multiples of `cell`, and `PATCH` of it too. Motion of more than some 16 LR pixels a frame is not
    found; `left` says so. `shown` is what was made of the frame `before`, at its size and with less noise: where it is
    given, motion is looked for in it, so that what it has drifted off the frames by is found, too.
    """
    height, width = now.shape[-2:]
    now, before, shown = (_fill(x) for x in (now, before, before if shown is None else shown))
    patches = _descend(now, shown)
    moved = warp(before, enlarge_bilinear(patches, PATCH))
    flow = enlarge_bilinear(patches, PATCH // cell)
    rows, columns = height // cell, width // cell
    flow, left, unmoved = (
        x[..., :rows, :columns] for x in (flow, _left_in_cells(now, moved, cell), _left_in_cells(now, before, cell))
    )
    rest = _at_rest(left, unmoved)
    flow, left = flow - rest * flow, left + rest * (unmoved - left)
    return Motion(flow, torch.round(flow).long(), left)


def _left_in_cells(now: Tensor, moved: Tensor, cell: int) -> Tensor:
    """Return the mean absolute difference (B, 1, h, w) of luma around each cell."""
    return box(F.avg_pool2d((now - moved).abs(), cell), 3)


def _at_rest(left: Tensor, unmoved: Tensor) -> Tensor:
    """Return how surely each cell rests, (B, 1, h, w) in [0, 1], of what its vector leaves and what none would leave.

    What rests is measured as moving a little by the noise of each frame, differently in each. But under a camera that
    moves, a codec that has nothing left to spend repeats what does move: only where most of the picture says that the
    camera stands is anything taken to rest.
    """
    standing = torch.sigmoid((left + _STANDS - unmoved) / _IN_DOUBT).mean(dim=(2, 3), keepdim=True)
    camera = torch.sigmoid((standing - _MOST) / _MORE)
    return camera * torch.sigmoid((left + _RESTS - unmoved) / _IN_DOUBT)


def _fill(x: Tensor) -> Tensor:
    """Extend the picture to whole patches of every level by repeating its border."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % ALIGN, 0, -height % ALIGN), mode="replicate")


def _descend(now: Tensor, before: Tensor) -> Tensor:
    """Return the flow (B, 2, h, w) of each patch at full size, found level by level."""
    sizes = [(now, before)]
    pyramid = [(_smooth(now), _smooth(before))]
    for _ in range(LEVELS - 1):
        sizes.append((F.avg_pool2d(pyramid[-1][0], 2), F.avg_pool2d(pyramid[-1][1], 2)))
        pyramid.append((_smooth(sizes[-1][0]), _smooth(sizes[-1][1])))
    coarsest = F.avg_pool2d(pyramid[-1][0], PATCH)
    flow = torch.cat([torch.zeros_like(coarsest)] * 2, dim=1)
    for level in reversed(range(LEVELS)):
        now, before = pyramid[level]
        if level < LEVELS - 1:
            flow = enlarge_bilinear(2 * flow, 2)
        if level == _SEARCHED:
            flow = _better(now, before, flow, 2 * _searched(*sizes[level + 1]))
        boxes = (WINDOW if level else _LAST_WINDOW,) * (1 if level <= _SEARCHED else 2)
        for _ in range(ROUNDS):
            equations = _equations(now, before, flow, boxes)
            flow = flow + solved(equations)
        flow = box(flow, _SMOOTH)
    return _with_camera(now, before, flow, _corners(equations))


def _with_camera(now: Tensor, before: Tensor, flow: Tensor, weight: Tensor) -> Tensor:
    """Return `flow`, drawn to the motion of the camera where that explains a patch about as well.

    A vector of its own follows what noise is in a patch. `weight` (B, 1, h, w) says how surely each is known.
    """
    camera = camera_field(flow, weight).clamp(-REACH, REACH)
    # Measured again from there, as what is far off is measured worse.
    equations = _equations(now, before, camera, (_LAST_WINDOW,))
    camera = fit_affine(camera + solved(equations), _corners(equations), camera).clamp(-REACH, REACH)
    own, of_camera = (_left(now, before, f) for f in (flow, camera))
    share = torch.sigmoid((_AS_WELL * own + _NEARLY - of_camera) / _UNDECIDED)
    return flow + share * (camera - flow)


def _moved(before: Tensor, flow: Tensor) -> Tensor:
    return warp(before, _spread(flow, PATCH))


def _searched(now: Tensor, before: Tensor) -> Tensor:
    """Try every shift within +-SEARCH pixels; return the best of each half patch, (B, 2, H / 2, W / 2).

    It is seen with a margin of its own size around it.
    """
    b, _, h, w = now.shape
    side = 2 * SEARCH + 1
    around = F.unfold(F.pad(before, [SEARCH] * 4, mode="replicate"), side).view(b, side * side, h, w)
    shifts = torch.arange(-SEARCH, SEARCH + 1, device=now.device)
    length = (shifts[:, None].abs() + shifts[None, :].abs()).flatten()
    cost = box(F.avg_pool2d((around - now).abs(), PATCH // 2), 3) + _ZERO_BIAS * length.view(1, -1, 1, 1)
    best = cost.argmin(dim=1)
    return torch.stack([best % side - SEARCH, best // side - SEARCH], dim=1).float()


def _better(now: Tensor, before: Tensor, flow: Tensor, other: Tensor) -> Tensor:
    """Return `flow`, or where it is far better than that `other`."""
    left, others = (_left(now, before, f) for f in (flow, other))
    return torch.where(others < _FAR_BETTER * left - _BY_MUCH, other, flow)


def _left(now: Tensor, before: Tensor, flow: Tensor) -> Tensor:
    """Return the mean absolute difference (B, 1, h, w) that `flow` leaves around each patch."""
    return box(patch_difference(now, before, flow), 3)


def _equations(now: Tensor, before: Tensor, flow: Tensor, boxes: tuple[int, ...]) -> Tensor:
    """Return the equations of `patch_equations`, averaged over `boxes` of so many patches a side, one after another."""
    sums = patch_equations(now, before, flow)
    for size in boxes:
        sums = box(sums, size)
    return sums


def patch_difference(now: Tensor, before: Tensor, flow: Tensor) -> Tensor:
    """Return the mean absolute difference (B, 1, h, w) of luma that `flow` leaves in each patch; shapes as below."""
    if usable(now):
        from gtasr_video.ops.kernels import motion

        return motion.patch_difference(now, before, flow, PATCH)
    return F.avg_pool2d((now - _moved(before, flow)).abs(), PATCH)


def patch_equations(now: Tensor, before: Tensor, flow: Tensor) -> Tensor:
    """Return two normal equations a patch (B, 5, h, w) for the motion that `flow` (B, 2, h, w) leaves.

    now, before  (B, 1, H, W) luma in [-1, 1], whole patches; the flow is the same for all pixels of a patch

    xx, xy, yy, xt, yt: mean products of gradients, and of those with the difference, over the patch.
    """
    if usable(now):
        from gtasr_video.ops.kernels import motion

        return motion.patch_equations(now, before, flow, PATCH, _ROUGHNESS)
    moved = _moved(before, flow)
    padded = F.pad(moved, (1, 1, 1, 1), mode="replicate")
    gx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    gy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    gt = now - moved
    products = torch.cat([gx * gx, gx * gy, gy * gy, gx * gt, gy * gt], dim=1) / (1 + (gt / _ROUGHNESS).square())
    return F.avg_pool2d(products, PATCH)


def solved(equations: Tensor) -> Tensor:
    """Return the motion (B, 2, h, w) that solves `equations` (B, 5, h, w), a pixel at most along each side."""
    if usable(equations):
        from gtasr_video.ops.kernels import motion

        return motion.solved(equations, _FLAT)
    xx, xy, yy, xt, yt = equations.chunk(5, dim=1)
    xx, yy = xx + _FLAT, yy + _FLAT
    step = torch.cat([yy * xt - xy * yt, xx * yt - xy * xt], dim=1) / (xx * yy - xy * xy)
    return step.clamp(-1, 1)


def _corners(equations: Tensor) -> Tensor:
    """Return about the smaller eigenvalue of each patch's equations, (B, 1, h, w): an edge tells half of its motion."""
    xx, xy, yy, _, _ = equations.chunk(5, dim=1)
    return (xx * yy - xy * xy).clamp(min=0) / (xx + yy + _BLANK)


def _smooth(x: Tensor) -> Tensor:
    """Filter by (1, 2, 1) / 4 along both sides, the border repeated: differences of neighbours are then gradients."""
    return F.avg_pool2d(F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 2, stride=1), 2, stride=1)


def _spread(field: Tensor, factor: int) -> Tensor:
    """Repeat each value of a field factor x factor times."""
    return field.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)


def box(x: Tensor, size: int) -> Tensor:
    """Return the mean of `size` x `size` values around each of (B, C, H, W), of those inside at the border."""
    return F.avg_pool2d(x, size, stride=1, padding=size // 2, count_include_pad=False)


def _take(flat: Tensor, index: Tensor) -> Tensor:
    """Return the columns `index` (B, n) of `flat` (B, C, N); for one stream in one piece, which is much faster."""
    if len(flat) == 1:
        return flat.index_select(2, index[0])
    return flat.gather(2, index[:, None].expand(-1, flat.shape[1], -1))


def source_index(vector: Tensor) -> tuple[Tensor, Tensor]:
    """Return (flat index (B, h*w) int64 of p + vector clamped into the picture, inside (B, 1, h, w) bool)."""
    b, _, h, w = vector.shape
    x = torch.arange(w, device=vector.device).view(1, 1, w) + vector[:, 0]
    y = torch.arange(h, device=vector.device).view(1, h, 1) + vector[:, 1]
    inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
    flat = y.clamp(0, h - 1) * w + x.clamp(0, w - 1)
    return flat.view(b, h * w), inside[:, None]


def gather_pixels(x: Tensor, vector: Tensor) -> Tensor:
    """Return x (B, C, H, W) at p + vector (B, 2, H, W) int64, edges replicated; differentiable in x."""
    b, c, h, w = x.shape
    index, _ = source_index(vector)
    return _take(x.reshape(b, c, h * w), index).view(b, c, h, w)
