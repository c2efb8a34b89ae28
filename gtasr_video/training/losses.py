"""The equations of the method, one function each.

Symbols as in arXiv 2602.24240 and `docs/method.md`: x0 truth, xhat prediction, yup the LR cue, a_s the weight of yup
at step s of the path, S the Sobel magnitude, F_k the motion from frame k to k-1. Pictures are (B, 3, H, W) in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gtasr_video.models.consistency import Path
from gtasr_video.ops.edges import laplacian, luma, sobel
from gtasr_video.ops.metrics import VIDEO_BLACK, VIDEO_LUMA, ssim_of_luma
from gtasr_video.ops.warp import warp

Perceptual = Callable[[Tensor, Tensor], Tensor]

CHARBONNIER_EPSILON = 1e-3


def charbonnier(x: Tensor, epsilon: float = CHARBONNIER_EPSILON) -> Tensor:
    """Return rho(x) = sqrt(x^2 + eps^2) - eps, element by element: 0 only at 0, and smooth there."""
    return torch.sqrt(x.square() + epsilon**2) - epsilon


def pixel_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean of rho(a - b) for each picture, (B,)."""
    return charbonnier(a - b.detach()).mean(dim=(1, 2, 3))


def path_weights(path: Path, device: torch.device) -> Tensor:
    """Return 1 - a_s for s = 1..N-1: how much of a difference in x0 is left at each intermediate step."""
    steps = torch.arange(1, path.steps, device=device)
    return 1 - path.tau(steps)


def consistency(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the pixel part of L_CT = d(f(x_t, t), stopgrad f(x_{t-1}, t-1))."""
    return charbonnier(prediction - target.detach()).mean()


def trajectory_alignment(error: Tensor, path: Path) -> Tensor:
    """Return the pixel part of L_TA = sum_s d(q(x0, s, eps_s), q(xhat, s, eps_s)), s = 1..N-1, in closed form.

    error  xhat - x0. The same noise stands in both projections and cancels:
    q(x0, s) - q(xhat, s) = (1 - a_s)(x0 - xhat).
    """
    return torch.stack([charbonnier(w * error).mean() for w in path_weights(path, error.device)]).sum()


def trajectory_alignment_perceptual(
    truth: Tensor, prediction: Tensor, yup: Tensor, eps: Tensor, path: Path, step: Tensor, perceptual: Perceptual
) -> Tensor:
    """Return an unbiased estimate of the perceptual part of L_TA, from one step s a picture.

    step  (B,) int, drawn uniformly from 1..N-1; the sum over s is (N - 1) times its mean. One step instead of all
    costs one pass of the perceptual network where the sum needs N - 1.
    """
    tau = path.tau(step)
    distance = perceptual(path.point(prediction, yup, eps, tau), path.point(truth, yup, eps, tau))
    return (path.steps - 1) * distance.mean()


def guide(edges: Tensor, texture: Tensor, truth: Tensor) -> Tensor:
    """Return L1 of the guide's maps (B, 1, H, W) against the Sobel and Laplacian maps of the truth's luma."""
    y = luma(truth)
    return (edges - sobel(y)).abs().mean() + (texture - laplacian(y)).abs().mean()


def similarity(prediction: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - SSIM on luma: what blurs contrast away costs more here than by its error of single pixels.

    In fp32 also where autocast would have less: variances are small differences of large numbers.
    """
    with torch.autocast(prediction.device.type, enabled=False):
        x, y = (_video_luma(picture.float()) for picture in (prediction, truth))
        return 1 - ssim_of_luma(x, y).mean()


def _video_luma(picture: Tensor) -> Tensor:
    """Return luma (B, 1, H, W), 16 for black to 235 for white, of a picture in [-1, 1]."""
    red, green, blue = ((picture[:, k : k + 1] + 1) * (VIDEO_LUMA[k] / 2) for k in range(3))
    return red + green + blue + VIDEO_BLACK


def color(prediction: Tensor, y: Tensor) -> Tensor:
    """Return the mean difference of the mean R, G and B of each picture and of its input `y` (B, 3, h, w)."""
    return (prediction.mean((2, 3)) - y.mean((2, 3))).abs().mean()


def adversarial(of_made: Tensor) -> Tensor:
    """Return L_Adv = -E[D(made)]: what is made shall look true to the discriminator.

    of_made  the discriminator's verdicts, of any shape
    """
    return -of_made.mean()


def discriminator(of_true: Tensor, of_made: Tensor) -> Tensor:
    """Return the hinge loss of the discriminator, E[max(0, 1 - D(true))] + E[max(0, 1 + D(made))].

    Lim and Ye, "Geometric GAN" (arXiv 1705.02894). What it is sure of teaches it no more.
    """
    return (1 - of_true).relu().mean() + (1 + of_made).relu().mean()


def temporal_trajectory_alignment(
    error: Tensor, previous_error: Tensor, flow: Tensor, mask: Tensor, path: Path, share: Tensor | None = None
) -> Tensor:
    """Return L_TTA = sum_s rho((1 - a_s) M (e_k - warp(e_{k-1}, F_k))), averaged over where M holds.

    error, previous_error  xhat - x0 of frames k and k-1, (B, 3, H, W)
    flow                   (B, 2, H, W) the TRUTH's motion, in HR pixels: sample frame k-1 at p + flow
    mask                   (B, 1, H, W) M: 0 where something is disoccluded or unknown
    share                  mean of M over the whole batch, where these pictures are a part of it
    The motion-compensated change of the error, not of the picture, is what must vanish: real light does change.
    """
    change = mask * (error - warp(previous_error, flow))
    whole = (mask.mean() if share is None else share).clamp(min=1e-3)
    return torch.stack([charbonnier(w * change).mean() for w in path_weights(path, change.device)]).sum() / whole


def distribution_trajectory_matching(
    prediction: Tensor, truth: Tensor, from_prediction: Tensor, from_truth: Tensor, perceptual: Perceptual
) -> Tensor:
    """Return L_DTM + L_Stab = w d_perc(xhat, stopgrad(xhat - D)), D = (xf - xr) + 0.2 (S(xf) - S(xr)).

    from_prediction, from_truth  xf and xr: the frozen copy's reading of a middle step of the path, started from the
    prediction and from the truth with the same noise. w = 1 / max(mean|xhat - x0|, 1e-3) a sample. The gradient is
    zero and finite where the prediction is the truth.
    """
    with torch.no_grad():
        direction = (from_prediction - from_truth) + 0.2 * (sobel(from_prediction) - sobel(from_truth))
        target = prediction - direction
        weight = 1 / (prediction - truth).abs().mean(dim=(1, 2, 3)).clamp(min=1e-3)
    return (weight * perceptual(prediction, target)).mean()


def rectification(prediction: Tensor, truth: Tensor, perceptual: Perceptual) -> Tensor:
    """Return L_Rect = d_perc(S(xhat), S(x0)): the structure of the truth as second reference.

    The maps (0 to about 1) are stretched to [-1, 1], the range of the pictures the perceptual network knows.
    """
    return perceptual(2 * sobel(prediction) - 1, 2 * sobel(truth) - 1).mean()


def temporal_rectification(
    prediction: Tensor, reference: Tensor, truth: Tensor, truth_reference: Tensor, confidence: Tensor
) -> Tensor:
    """Return L_TRect: the Sobel maps of xhat_k and r_k agree where m_k is high and the truth's do.

    reference, truth_reference  frame k-1 of the prediction and of the truth, moved to frame k the same way
    confidence                  (B, 1, H, W) m_k in [0, 1]
    """
    with torch.no_grad():
        moved, here = sobel(luma(truth_reference)), sobel(luma(truth))
        agreement = confidence * torch.exp(-((moved - here) / 0.05).square())
    gap = charbonnier(sobel(luma(prediction)) - sobel(luma(reference)))
    return (agreement * gap).mean()
