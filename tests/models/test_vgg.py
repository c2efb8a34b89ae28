"""The VGG16 distance, on random weights of the right shapes: nothing here needs the trained ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from gtasr_video.errors import ModelError
from gtasr_video.models import vgg
from gtasr_video.models.vgg import BLOCKS, MEAN_BGR, VGGDistance, read_weights


def arrays(layers: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(5)
    found, channels = {}, 3
    for block, (count, width) in enumerate(BLOCKS[:layers], 1):
        for conv in range(1, count + 1):
            scale = (2 / (9 * channels)) ** 0.5
            name = f"block{block}_conv{conv}"
            found[f"{name}.weight"] = draw.normal(0, scale, (width, channels, 3, 3)).astype(np.float32)
            found[f"{name}.bias"] = draw.normal(0, 0.1, width).astype(np.float32)
            channels = width
    return found


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("vgg") / "vgg.npz"
    np.savez(file, **arrays(2))
    return file


def pair(size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    a = torch.rand(2, 3, size, size, generator=draw) * 2 - 1
    return a, (a + 0.2 * torch.randn(a.shape, generator=draw)).clamp(-1, 1)


def reference(weights: dict[str, np.ndarray], a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Written from the definition, in fp64, one picture at a time, with explicit loops over layers."""

    def features(picture: torch.Tensor) -> list[torch.Tensor]:
        blue_green_red = torch.stack([picture[2], picture[1], picture[0]]).double()
        x = ((blue_green_red + 1) / 2 * 255 - torch.tensor(MEAN_BGR).double()[:, None, None])[None]
        found = []
        for name in ("block1_conv1", "block1_conv2", "pool", "block2_conv1", "block2_conv2"):
            if name == "pool":
                x = F.max_pool2d(x, 2)
                continue
            weight, bias = (torch.from_numpy(weights[f"{name}.{part}"]).double() for part in ("weight", "bias"))
            x = torch.relu(F.conv2d(x, weight, bias, padding=1))
            if name.endswith("conv2"):
                found.append(x[0] / x[0].norm(dim=0))
        return found

    return torch.stack(
        [
            sum(((p - q) ** 2).sum() / p[0].numel() for p, q in zip(features(x), features(y), strict=True))
            for x, y in zip(a, b, strict=True)
        ]
    )


def test_it_is_the_definition(path: Path) -> None:
    a, b = pair()
    distance = VGGDistance(path, layers=2)(a, b)
    assert distance.shape == (2,)
    assert torch.allclose(distance.double(), reference(arrays(2), a, b), rtol=1e-4)


def test_equal_pictures_are_at_zero_with_a_finite_gradient(path: Path) -> None:
    a = pair()[0].requires_grad_()
    distance = VGGDistance(path, layers=2)(a, a.detach())
    distance.sum().backward()
    assert distance.tolist() == [0.0, 0.0]
    assert a.grad is not None and torch.isfinite(a.grad).all()


def test_gradient_reaches_the_first_picture_only_and_lowers_the_distance(path: Path) -> None:
    measure = VGGDistance(path, layers=2)
    a, b = (x.requires_grad_() for x in pair())
    before = measure(a, b).sum()
    before.backward()
    assert a.grad is not None and b.grad is None
    assert not any(p.requires_grad for p in measure.parameters())
    after = measure(a - 1e-2 * a.grad / a.grad.norm(), b).sum()
    assert after < before


def test_more_noise_is_further(path: Path) -> None:
    measure = VGGDistance(path, layers=2)
    a, b = pair()
    found = [measure(torch.lerp(a, b, w), a).mean().item() for w in (0.1, 0.3, 1.0)]
    assert found == sorted(found) and found[0] > 0


def test_strips_of_a_large_picture_add_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair()
    whole = VGGDistance(path, layers=2)(a, b)
    monkeypatch.setattr(vgg, "_CPU_STRIP", 2 * 64 * 32 * 5)
    assert torch.allclose(VGGDistance(path, layers=2)(a, b), whole, rtol=1e-5)


def test_fewer_layers_are_a_part_of_the_sum(path: Path) -> None:
    a, b = pair()
    one, two = (VGGDistance(path, layers=n)(a, b) for n in (1, 2))
    assert (one < two).all()


@pytest.mark.parametrize("how", ["weights", "autocast"])
def test_bf16_is_close(path: Path, how: str) -> None:
    a, b = pair()
    exact = VGGDistance(path, layers=2)(a, b)
    if how == "weights":
        rough = VGGDistance(path, layers=2, dtype=torch.bfloat16)(a, b)
    else:
        with torch.autocast("cpu", torch.bfloat16):
            rough = VGGDistance(path, layers=2)(a, b)
    assert rough.dtype == torch.float32
    assert torch.allclose(rough, exact, rtol=0.03)


def test_safetensors_serve_as_well(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "vgg.safetensors"
    save_file({name: torch.from_numpy(array).half() for name, array in arrays(2).items()}, other)
    a, b = pair()
    assert torch.allclose(VGGDistance(path, layers=2)(a, b), VGGDistance(other, layers=2)(a, b), rtol=1e-2)


def test_only_what_is_needed_is_read(path: Path) -> None:
    assert set(read_weights(path, 1)) == {f"block1_conv{n}.{part}" for n in (1, 2) for part in ("weight", "bias")}


def write_other_arrays(file: Path) -> None:
    np.savez(file, hello=np.zeros(3))


def write_wrong_shape(file: Path) -> None:
    np.savez(file, **{**arrays(1), "block1_conv2.bias": np.zeros(3, np.float32)})


def write_pickle(file: Path) -> None:
    np.savez(file, **{name: np.array([{}], dtype=object) for name in arrays(1)})


def write_single(file: Path) -> None:
    with file.open("wb") as out:
        np.save(out, np.zeros(3))


@pytest.mark.parametrize(
    "write", [write_other_arrays, write_wrong_shape, write_pickle, write_single, lambda f: f.write_text("no")]
)
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_another_file_is_refused_in_one_line(write, suffix: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / f"weights{suffix}"
    write(tmp_path / "weights.npz")
    (tmp_path / "weights.npz").rename(file)
    with pytest.raises(ModelError, match="weights") as caught:
        VGGDistance(file, layers=1)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_missing_layer_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        VGGDistance(tmp_path / "none.npz")
    with pytest.raises(ModelError, match=r"block3_conv1\.weight"):
        VGGDistance(path)
    with pytest.raises(ModelError, match="1 to 4 layers"):
        VGGDistance(path, layers=5)
