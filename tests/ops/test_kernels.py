"""Each fused kernel against its torch reference: in Triton's interpreter without a GPU, compiled on one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gtasr_video.frames import ColorSpec, PixelLayout
from gtasr_video.models import camera, flow
from gtasr_video.models.temporal import transport_noise
from gtasr_video.ops.color import rgb_to_yuv, yuv_to_rgb
from gtasr_video.ops.edges import luma
from gtasr_video.ops.noise import keyed_gaussian
from gtasr_video.ops.resize import enlarge
from tests.models.networks import scene

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu":
    pytest.importorskip("triton", reason="Triton is in the extra 'kernels'")
else:
    # There it is part of what has to work.
    pytestmark = pytest.mark.gpu

from gtasr_video.ops import kernels as whole  # noqa: E402
from gtasr_video.ops.kernels import motion as moving  # noqa: E402
from gtasr_video.ops.kernels import noise as noisy  # noqa: E402
from gtasr_video.ops.kernels import planes as kernels  # noqa: E402

LAYOUTS = [
    PixelLayout("yuv420p"),
    PixelLayout("yuv420p10le", 10),
    PixelLayout("yuv422p", 8, 1, 0),
    PixelLayout("yuv444p12le", 12, 0, 0),
    PixelLayout("gray", planes=1),
    PixelLayout("gbrp", 8, 0, 0),
]
COLORS = [ColorSpec("bt709"), ColorSpec("bt601", full_range=True, chroma_siting="center")]
COLORS += [ColorSpec("bt2020", chroma_siting="topleft")]
CASES = [(layout, COLORS[0]) for layout in LAYOUTS] + [(LAYOUTS[0], color) for color in COLORS[1:]]
named = pytest.mark.parametrize(("layout", "color"), CASES, ids=lambda x: getattr(x, "name", None) or x.chroma_siting)


def random_planes(layout: PixelLayout, height: int, width: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    sizes = [layout.plane_size(i, width, height) for i in range(layout.planes)]
    return tuple(
        torch.randint(0, 1 << layout.bits, s, generator=generator).to(torch.int32).to(layout.dtype).to(DEVICE)
        for s in sizes
    )


@named
@pytest.mark.parametrize("size", [(11, 17), (2, 3)], ids=str)
def test_the_picture_of_planes(layout: PixelLayout, color: ColorSpec, size: tuple[int, int]) -> None:
    planes = random_planes(layout, *size)
    wanted = yuv_to_rgb(planes, layout, color) * 2 - 1
    wanted = F.pad(wanted, (0, -size[1] % 4, 0, -size[0] % 4), mode="replicate")
    found = kernels.picture_from_planes(planes, layout, color, 4)
    assert found.shape == wanted.shape and torch.allclose(found, wanted, atol=2e-5)


SHAPES = [(*case, 2, 3, (6, 8)) for case in CASES]
SHAPES += [(*CASES[0], 1, 4, (5, 6)), (*CASES[3], 1, 2, (7, 8)), (*CASES[-1], 2, 1, (12, 18))]


@pytest.mark.parametrize(("layout", "color", "cell", "scale", "size"), SHAPES)
def test_the_planes_of_cells(
    layout: PixelLayout, color: ColorSpec, cell: int, scale: int, size: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(1, 3, *size, generator=generator) * 2 - 1
    channels = 3 * (cell * scale) ** 2
    residual = torch.randn(1, channels, size[0] // cell, size[1] // cell, generator=generator) / 10
    residual = residual.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    height, width = size[0] * scale - 1, size[1] * scale - 3
    picture = enlarge(x, scale) + F.pixel_shuffle(residual, cell * scale).float()
    wanted = rgb_to_yuv((picture[..., :height, :width] + 1) / 2, layout, color, dither=True)
    found = kernels.planes_from_cells(x.to(DEVICE), residual.to(DEVICE), cell, scale, layout, color, (height, width))
    for one, other in zip(found, wanted, strict=True):
        gap = (one.cpu().int() - other.int()).abs()
        assert one.dtype is layout.dtype and int(gap.max()) <= 1
        # A value on the border between two codes may fall to either side by the order of additions.
        assert float((gap > 0).float().mean()) < 0.01


def test_nan_becomes_no_undefined_code() -> None:
    x = torch.zeros(1, 3, 4, 4, device=DEVICE)
    residual = torch.full((1, 48, 4, 4), torch.nan, device=DEVICE)
    (plane,) = kernels.planes_from_cells(x, residual, 1, 4, PixelLayout("gray", planes=1), COLORS[0], (16, 16))
    assert int(plane.max()) == 0


@pytest.mark.parametrize("seed", [0, 7, (1 << 32) + 3])
@pytest.mark.parametrize("shape", [(3, 9, 11), (2, 4, 4)], ids=str)
def test_noise_is_drawn_alike(seed: int, shape: tuple[int, int, int]) -> None:
    age = torch.tensor([0, 5])
    found = noisy.keyed_gaussian(seed, age.to(DEVICE), shape).cpu()
    assert torch.allclose(found, keyed_gaussian(seed, age, shape), atol=1e-4)


@pytest.mark.parametrize("spread", [0.0, 0.4, 3.0])
def test_noise_is_moved_alike(spread: float) -> None:
    generator = torch.Generator().manual_seed(3)

    def draw(channels: int) -> Tensor:
        return torch.randn(2, channels, 12, 17, generator=generator)

    drift = draw(2).clamp(-1, 1) / 2
    # Whole and half steps too, where it counts how ties are broken.
    vector = (draw(2) * spread * 2).round() / 2 + drift.round()
    keep = draw(1) > -1
    arguments = draw(5), drift, vector, keep, draw(5)
    wanted = transport_noise(*arguments)
    for one, other in zip(noisy.transport_noise(*(a.to(DEVICE) for a in arguments)), wanted, strict=True):
        assert torch.equal(one.cpu(), other)


def motion_case(rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return two smooth pictures (2, 1, H, W), whole patches, and a vector for each patch, some far off the picture."""
    generator = torch.Generator().manual_seed(4)
    coarse = torch.rand(4, 1, rows, columns, generator=generator) * 2 - 1
    pictures = F.interpolate(coarse, scale_factor=4, mode="bilinear")
    flow = torch.randn(2, 2, rows, columns, generator=generator) * 3
    flow[:, :, 0, 0] = 500
    flow[:, 0, -1, -1] = -500
    return pictures[:2], pictures[2:], flow


# One patch, fewer than a block, more than one, and sums over more than one block.
GRIDS = pytest.mark.parametrize("grid", [(1, 1), (3, 5), (9, 15), (24, 40)], ids=str)


@GRIDS
def test_what_patches_say_of_motion_is_alike(grid: tuple[int, int]) -> None:
    now, before, field = motion_case(*grid)
    on_device = [t.to(DEVICE) for t in (now, before, field)]
    found = moving.patch_equations(*on_device, flow.PATCH, flow._ROUGHNESS).cpu()
    wanted = flow.patch_equations(now, before, field)
    assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-5)
    assert float(wanted.abs().amax()) > 0.01 or grid == (1, 1)
    found = moving.patch_difference(*on_device, flow.PATCH).cpu()
    assert torch.allclose(found, flow.patch_difference(now, before, field), atol=1e-5)


@GRIDS
def test_equations_are_solved_alike(grid: tuple[int, int]) -> None:
    equations = flow.patch_equations(*motion_case(*grid))
    equations[0, :, 0, 0] = 0  # nothing to be seen there
    found = moving.solved(equations.to(DEVICE), flow._FLAT).cpu()
    assert torch.allclose(found, flow.solved(equations), rtol=1e-3, atol=1e-4)


@GRIDS
@pytest.mark.parametrize("again", [False, True])
def test_the_field_of_the_camera_is_fitted_alike(grid: tuple[int, int], again: bool) -> None:
    _, _, vectors = motion_case(*grid)
    vectors = vectors.clamp(-30, 30)
    weight = torch.rand(2, 1, *grid, generator=torch.Generator().manual_seed(5))
    weight[1] = 0  # nothing weighs: the mean
    field = camera.fit_affine(vectors, weight) if again else None
    found = moving.fit_affine(
        vectors.to(DEVICE), weight.to(DEVICE), None if field is None else field.to(DEVICE), 0.8, camera._STIFF
    ).cpu()
    assert torch.allclose(found, camera.fit_affine(vectors, weight, field, 0.8), rtol=1e-3, atol=2e-3)


def test_motion_is_found_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole search, with kernels where they have a place in it."""
    frames = scene(2, 64, 96, shift=3)[0].to(DEVICE)
    now, before = luma(frames[1:]), luma(frames[:1])
    monkeypatch.setattr(flow, "usable", lambda tensor: False)
    monkeypatch.setattr(camera, "usable", lambda tensor: False)
    wanted = flow.estimate_motion(now, before, 2)
    monkeypatch.setattr(flow, "usable", lambda tensor: True)
    monkeypatch.setattr(camera, "usable", lambda tensor: True)
    found = flow.estimate_motion(now, before, 2)
    assert float((found.flow - wanted.flow).abs().max()) < 0.02
    assert torch.allclose(found.left, wanted.left, atol=1e-3)
    assert float(wanted.flow.abs().mean()) > 1


def test_a_device_is_tried_before_kernels_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    whole._try(DEVICE)
    monkeypatch.setattr(moving, "solved", lambda equations, flat: torch.zeros_like(equations[:, :2]))
    with pytest.raises(ArithmeticError, match="differs from torch"):
        whole._try(DEVICE)
