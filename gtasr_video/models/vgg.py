"""The VGG16 distance: how different two pictures look to the first ten layers of VGG16.

Features are those of Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition" (arXiv 1409.1556); comparing channel-normalised features at several depths follows Zhang et al.,
"The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (arXiv 1801.03924). It is NOT LPIPS:
that one weighs every channel by what people said of pictures, and was calibrated on other VGG16 weights.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from gtasr_video.errors import ModelError

# Convolutions of each block and their output channels, up to relu4_3; a 2x2 max-pool stands between blocks.
BLOCKS: tuple[tuple[int, int], ...] = ((2, 64), (2, 128), (3, 256), (3, 512))
MEAN_BGR = (103.939, 116.779, 123.68)
_EPSILON = 1e-10
# Features brought to fp32 at a time, so that a 4K picture does not need ten gigabytes: on a GPU 128 MiB, on a CPU what
# stays in its caches, which makes this part of the distance 3 to 10 times as fast.
_STRIP, _CPU_STRIP = 2**25, 2**19


class VGGDistance(nn.Module):
    """The distance as a frozen module: ``VGGDistance(path)(a, b)``.

    path    .npz or .safetensors with arrays ``block1_conv1.weight``, ``block1_conv1.bias``, ... of the Caffe
            VGG16 (input BGR, 0..255, less the mean); what lies beyond conv4_3 is not read
    layers  compare relu1_2 (1), and relu2_2 (2), relu3_3 (3), relu4_3 (4); fewer is faster
    dtype   type of weights and features; normalising and summing is always fp32

    Raises ModelError if the file is missing, is not such a file, or an array has the wrong shape.
    """

    mean: Tensor

    def __init__(self, path: str | Path, *, layers: int = 4, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if not 1 <= layers <= len(BLOCKS):
            raise ModelError(f"the VGG16 distance has 1 to {len(BLOCKS)} layers, not {layers}")
        self.blocks = nn.ModuleList(_blocks(read_weights(path, layers), layers))
        self.register_buffer("mean", torch.tensor(MEAN_BGR).view(1, 3, 1, 1), persistent=False)
        # channels_last is what oneDNN and cuDNN convolve fastest, most of all in bf16.
        self.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.requires_grad_(False).eval()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distance (B,), fp32, of pictures (B, 3, H, W) in [-1, 1]: 0 to 2 a layer.

        Squared differences of the features, each pixel's vector of them brought to length 1, are summed over
        channels and layers and averaged over pixels. Differentiable in `a` alone. Sides are 8 pixels at
        least, so that every layer sees something.
        """
        total = a.new_zeros(a.shape[0], dtype=torch.float32)
        x, y = self._prepare(a), self._prepare(b.detach())
        # Both go down together: features of `b` live for one layer only.
        for index, block in enumerate(self.blocks):
            if index:
                x, y = F.max_pool2d(x, 2), F.max_pool2d(y, 2)
            x = block(x)
            with torch.no_grad():
                y = block(y)
            total = total + _distance(x, y)
        return total

    def _prepare(self, x: Tensor) -> Tensor:
        # Subtracted in fp32: bf16 holds 0..255 in steps of 1, so small differences would be lost to the mean.
        pixels = (x.float().flip(1) + 1) * 127.5 - self.mean.float()
        return pixels.to(self.mean.dtype, memory_format=torch.channels_last)


def read_weights(path: str | Path, layers: int = len(BLOCKS)) -> dict[str, Tensor]:
    """Return the arrays by name, as fp32, up to block `layers`; raises ModelError as VGGDistance does."""
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file of VGG16 weights")
    wanted = dict(_shapes(layers))
    try:
        arrays = _read_safetensors(path) if path.suffix == ".safetensors" else _read_npz(path, wanted)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, SafetensorError) as error:
        raise ModelError(f"{path}: not a .npz or .safetensors file of VGG16 weights ({error})") from error
    for name, shape in wanted.items():
        if name not in arrays or tuple(arrays[name].shape) != shape:
            found = tuple(arrays[name].shape) if name in arrays else "nothing"
            raise ModelError(f"{path}: not VGG16 weights: '{name}' should be {shape}, found {found}")
    return {name: arrays[name].float() for name in wanted}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    return dict(load_file(path))


def _read_npz(path: Path, wanted: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    # allow_pickle stays False: an array of objects would run code from the file.
    file = np.load(path, allow_pickle=False)
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise ValueError("one array, not an archive of arrays")
    with file:
        return {name: torch.from_numpy(file[name].astype(np.float32)) for name in wanted if name in file}


def _shapes(layers: int) -> list[tuple[str, tuple[int, ...]]]:
    shapes: list[tuple[str, tuple[int, ...]]] = []
    channels = 3
    for block, (count, width) in enumerate(BLOCKS[:layers], 1):
        for conv in range(1, count + 1):
            name = f"block{block}_conv{conv}"
            shapes += [(f"{name}.weight", (width, channels, 3, 3)), (f"{name}.bias", (width,))]
            channels = width
    return shapes


def _blocks(weights: dict[str, Tensor], layers: int) -> list[nn.Sequential]:
    return [
        nn.Sequential(
            *(
                module
                for conv in range(1, count + 1)
                for module in (_convolution(weights, f"block{block}_conv{conv}"), nn.ReLU(inplace=True))
            )
        )
        for block, (count, _) in enumerate(BLOCKS[:layers], 1)
    ]


def _convolution(weights: dict[str, Tensor], name: str) -> nn.Conv2d:
    weight = weights[f"{name}.weight"]
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, device="meta")
    conv.load_state_dict({"weight": weight, "bias": weights[f"{name}.bias"]}, assign=True)
    return conv


def _distance(x: Tensor, y: Tensor) -> Tensor:
    """Return (B,) mean over pixels of the squared distance of normalised features, a strip of rows at a time."""
    batch, channels, height, width = x.shape
    strip = _CPU_STRIP if x.device.type == "cpu" else _STRIP
    rows = max(1, strip // (batch * channels * width))
    strips = zip(torch.split(x, rows, 2), torch.split(y, rows, 2), strict=True)
    sums = [(_normalise(a) - _normalise(b)).square().sum((1, 2, 3)) for a, b in strips]
    return torch.stack(sums).sum(0) / (height * width)


def _normalise(x: Tensor) -> Tensor:
    """Bring each pixel's feature vector to length 1; the epsilon keeps the gradient finite at all 0."""
    x = x.float()
    return x * (x.square().sum(1, keepdim=True) + _EPSILON).rsqrt()
