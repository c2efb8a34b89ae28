from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gtasr_video.ops.lines import weigh_along


@pytest.mark.parametrize("dim", [-1, -2])
def test_it_is_a_convolution_with_gradients(dim: int) -> None:
    x = torch.rand(2, 1, 9, 12, dtype=torch.float64, requires_grad=True)
    line = [0.2, -0.5, 0.9, 0.1]
    kernel = torch.tensor(line, dtype=x.dtype).view((1, 1, 1, 4) if dim == -1 else (1, 1, 4, 1))
    ours, wanted = weigh_along(x, line, dim), F.conv2d(x, kernel)
    assert torch.allclose(ours, wanted)
    gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in (ours, wanted)]
    assert torch.allclose(*gradients)
