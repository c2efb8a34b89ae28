"""The path from the truth to the enlarged input, and the consistency function's scalings.

Source: "Joint Geometric and Trajectory Consistency Learning for One-Step Real-World Super-Resolution"
(arXiv 2602.24240) for the path and the power law; Karras et al., "Elucidating the Design Space of Diffusion-Based
Generative Models" (arXiv 2206.00364), section 5, for the preconditioning.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SIGMA_DATA = 0.5
_TAU_UNIT = 0.1


@dataclass(frozen=True, slots=True)
class Path:
    """A residual-shift path with `steps` steps: tau_t = (t / steps)^power, a_t = tau_t, sigma_t = noise_scale * tau_t.

    noise_scale  standard deviation of the noise at the end of the path, for pixels in [-1, 1]; 0 is allowed
    """

    steps: int = 4
    power: float = 2.5
    noise_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.power <= 0 or self.noise_scale < 0:
            raise ValueError("a path needs steps >= 1, power > 0 and noise_scale >= 0")

    def descent(self, count: int) -> tuple[float, ...]:
        """Return tau of the points that an inference of `count` steps looks at: N first, then evenly down.

        Only points of the path, since a network knows no others. Raises ValueError unless 1 <= count <= steps.
        """
        if not 1 <= count <= self.steps:
            raise ValueError(f"a path of {self.steps} steps allows 1 to {self.steps} of them at inference, not {count}")
        points = [-(-self.steps * left // count) for left in range(count, 0, -1)]
        return tuple((t / self.steps) ** self.power for t in points)

    def tau(self, t: Tensor) -> Tensor:
        """Return tau (float32, in [0, 1]) for integer steps `t` of any shape."""
        return (t.float() / self.steps) ** self.power

    def point(self, x0: Tensor, yup: Tensor, eps: Tensor, tau: Tensor) -> Tensor:
        """Return q(x0, t) = (1 - tau) x0 + tau yup + noise_scale tau eps; `tau` is (B,), pictures (B, C, H, W).

        Written so that tau = 0 gives x0 and tau = 1 is free of x0, both exactly.
        """
        a = _along(tau, x0)
        return (1 - a) * x0 + a * yup + (self.noise_scale * a) * eps


def _along(tau: Tensor, like: Tensor) -> Tensor:
    return tau.to(like.dtype).view(-1, *([1] * (like.dim() - 1)))


def skip_scale(tau: Tensor) -> Tensor:
    """Return c_skip(tau) = d^2 / ((tau/0.1)^2 + d^2), d = 0.5; 1 at tau = 0."""
    return SIGMA_DATA**2 / ((tau / _TAU_UNIT) ** 2 + SIGMA_DATA**2)


def out_scale(tau: Tensor) -> Tensor:
    """Return c_out(tau) = (tau/0.1) / sqrt((tau/0.1)^2 + d^2); 0 at tau = 0. Note c_skip + c_out^2 = 1."""
    return (tau / _TAU_UNIT) / torch.sqrt((tau / _TAU_UNIT) ** 2 + SIGMA_DATA**2)


def compose(state: Tensor, network: Tensor, tau: Tensor) -> Tensor:
    """Return f - yup from state = x_t - yup and the network's residual, all (B, ...): c_skip state + c_out R.

    With F = c_out yup + R this is f = c_skip x_t + c_out F, because 1 - c_skip = c_out^2: the weights of x_t and
    yup add to one at every step, so that no step changes the brightness. At tau = 0 it returns x_0 - yup exactly.
    """
    return _along(skip_scale(tau), state) * state + _along(out_scale(tau), network) * network
