"""What the objective is given: pictures in the range and colour that the network is to keep."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from gtasr_video.models.gtasr import GTASRVideo
from gtasr_video.models.temporal import Reference, find_reference
from gtasr_video.ops.edges import luma
from gtasr_video.ops.resize import enlarge
from gtasr_video.training.batches import Clip, stack
from gtasr_video.training.discriminator import Discriminator
from gtasr_video.training.draw import Draw
from gtasr_video.training.objective import Objective, Pictures
from gtasr_video.training.settings import Phase, Weights
from tests.models.networks import TINY, scene, tiny
from tests.training.material import texture

TINY_WIDER = dataclasses.replace(TINY, widths=(12, 16))


def test_the_truth_takes_the_mean_colour_of_its_input_and_keeps_its_detail() -> None:
    truth = texture(32, 32, seed=3).expand(2, 3, 32, 32)
    small = (
        truth[..., ::4, ::4].float().mean(dim=(2, 3), keepdim=True).expand(2, 3, 8, 8)
        + torch.tensor([5.0, 0, -9])[:, None, None]
    )
    batch = stack([Clip(truth.contiguous(), small.round().to(torch.uint8))])
    pictures = Pictures.of(batch, torch.device("cpu"))
    colour = pictures.x0.mean(dim=(1, 3, 4))
    assert torch.allclose(colour, pictures.y.mean(dim=(1, 3, 4)), atol=1e-5)
    plain = batch.hr.float() / 127.5 - 1
    shift = pictures.x0 - plain
    assert float(shift.abs().max()) > 5 / 255
    assert torch.allclose(shift, shift.mean(dim=(1, 3, 4), keepdim=True).expand_as(shift), atol=1e-5)


class Listener:
    """A distance that notes how many pictures it was asked about."""

    def __init__(self) -> None:
        self.pictures = 0

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        self.pictures += len(a)
        return (a - b).square().mean(dim=(1, 2, 3))


@pytest.mark.parametrize(("heard", "looked_at"), [(0, 5), (2, 2), (9, 5)])
def test_the_perceptual_distance_looks_at_as_many_frames_as_asked(heard: int, looked_at: int) -> None:
    weights = Weights(perceptual=1.0, trajectory=0)
    phase = Phase(frames=5, perceptual_crops=1, perceptual_size=32, perceptual_frames=heard, weights=weights)
    listener = Listener()
    Objective(model(), phase, listener).terms(clip(5), Draw.of(0, 0))
    assert listener.pictures == looked_at


def test_frames_drawn_for_the_perceptual_distance_stand_for_all() -> None:
    weights = Weights(perceptual=1.0, consistency=0, guide=0, temporal_trajectory=0, temporal_rectification=0)
    pictures, losses = clip(3), {}
    for heard in (0, 1):
        phase = Phase(
            frames=3, steps=2, end_share=1, perceptual_crops=1, perceptual_frames=heard, weights=weights, memory=False
        )
        objective = Objective(model(), phase, Listener())
        losses[heard] = [float(objective.terms(pictures, Draw.of(0, n))["loss/ta"]) for n in range(30)]
    every, drawn = (torch.tensor(losses[heard]) for heard in (0, 1))
    assert drawn.std() > every.std()
    assert drawn.mean().item() == pytest.approx(every.mean().item(), rel=0.1)


def test_a_term_without_weight_costs_no_look_at_the_network() -> None:
    network, looks = model(), []
    predict = network.predict
    network.predict = lambda *a: looks.append(a[1]) or predict(*a)  # type: ignore[method-assign, func-returns-value]
    for consistency, expected in ((0.0, 3), (1.0, 6)):
        looks.clear()
        weights = Weights(perceptual=0, consistency=consistency)
        phase = Phase(frames=3, end_share=1, weights=weights)
        terms = Objective(network, phase, None).terms(clip(3), Draw.of(0, 0))
        assert len(looks) == expected
        assert ("loss/ct" in terms) == bool(consistency)
        assert looks[0] is None, "at t = N without noise the state on the path is zero"


def test_the_motion_of_all_pairs_at_once_is_that_of_each_by_itself() -> None:
    network = model()
    both = [clip(4).y, clip(4).y.flip(1)]
    y = torch.cat(both)
    found = Objective(network, Phase(frames=4), None)._references(y)
    for k in range(1, 4):
        alone = find_reference(luma(y[:, k]), luma(y[:, k - 1]), torch.ones(2, dtype=torch.int64), 2)
        for one, other in zip(_flat(alone), _flat(found[k - 1]), strict=True):
            assert torch.equal(one, other)
    assert found[0].valid.all()


def _flat(reference: Reference) -> tuple[Tensor, ...]:
    return *reference.motion, *reference[1:]


def test_each_clip_of_a_batch_has_noise_of_its_own() -> None:
    network = tiny(noise_scale=0.1)
    noises: list[Tensor] = []
    network.noise_cells = lambda noise: noises.append(noise) or GTASRVideo.noise_cells(network, noise)  # type: ignore[method-assign, func-returns-value]
    one = clip(2)
    twice = Pictures(*(torch.cat([part, part]) for part in (one.x0, one.y, one.flow, one.mask)), one.known)
    Objective(network, Phase(frames=2, weights=Weights(perceptual=0)), None).terms(twice, Draw.of(0, 0))
    assert noises
    for noise in noises:
        assert float((noise[0] * noise[1]).mean().abs()) < 0.2 < float((noise[0] * noise[0]).mean())


def test_similarity_and_colour_are_asked_for_by_their_weights() -> None:
    terms = {}
    for weight in (0.0, 0.5):
        weights = Weights(perceptual=0, similarity=weight, color=weight)
        objective = Objective(model(), Phase(frames=3, weights=weights), None)
        terms[weight] = objective.terms(clip(3), Draw.of(0, 0))
    more = {"loss/ssim", "loss/color"}
    assert terms[0.5].keys() - terms[0.0].keys() == more
    added = objective.total(terms[0.5]) - objective.total(terms[0.0])
    assert added.item() == pytest.approx(0.5 * sum(float(terms[0.5][name]) for name in more), rel=1e-4)
    assert added > 0


TAUGHT = Weights(
    perceptual=0,
    consistency=0,
    trajectory=0,
    guide=0,
    temporal_trajectory=0,
    temporal_rectification=0,
    distillation=1,
)


@pytest.mark.parametrize("memory", [True, False])
def test_a_teacher_has_the_same_input_noise_and_point_of_the_path_and_a_memory_of_its_own(memory: bool) -> None:
    """One that is the network itself would say the same all along a clip; another says something else."""
    phase = Phase(frames=4, end_share=0, memory=memory, weights=TAUGHT)
    gaps = []
    for seed in (0, 1):
        student, teacher = tiny(noise_scale=0.1).requires_grad_(True), tiny(noise_scale=0.1, seed=seed)
        objective = Objective(student, phase, None, teacher=teacher)
        terms = objective.terms(clip(4), Draw.of(0, 0))
        assert set(terms) == {"loss/distil"}
        assert objective.total(terms) == terms["loss/distil"]
        gaps.append(terms["loss/distil"].item())
        terms["loss/distil"].backward()
        assert all(p.grad is None for p in teacher.parameters())
    assert gaps[0] < 1e-9 < 0.01 < gaps[1]


def test_distillation_makes_a_network_say_what_its_teacher_says() -> None:
    student, teacher = model().requires_grad_(True), tiny(TINY_WIDER, seed=1)
    objective = Objective(student, Phase(frames=3, end_share=1, weights=TAUGHT), None, teacher=teacher)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    gaps = []
    for step in range(60):
        loss = objective.total(objective.terms(clip(3, seed=step), Draw.of(0, step)))
        gaps.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert sum(gaps[-5:]) < 0.5 * sum(gaps[:5])


def test_the_perceptual_distance_to_the_teacher_is_a_part_of_it() -> None:
    weights = dataclasses.replace(TAUGHT, perceptual=1.0)
    listener = Listener()
    phase = Phase(frames=3, perceptual_crops=1, perceptual_size=32, weights=weights)
    loud = Objective(model(), phase, listener, teacher=tiny(seed=1)).terms(clip(3), Draw.of(0, 0))
    quiet = Objective(model(), phase, None, teacher=tiny(seed=1)).terms(clip(3), Draw.of(0, 0))
    assert listener.pictures == 3
    assert loud["loss/distil"] > quiet["loss/distil"]


JUDGED = dataclasses.replace(TAUGHT, distillation=0, adversarial=0.5)


def test_the_adversarial_term_moves_the_network_and_the_discriminators_error_the_discriminator() -> None:
    student, judge = model().requires_grad_(True), Discriminator()
    phase = Phase(frames=3, end_share=1, perceptual_crops=1, perceptual_size=32, weights=JUDGED)
    for name, moved, still in [
        ("loss/adversarial", student, judge),
        ("loss/discriminator", judge, student),
    ]:
        terms = Objective(student, phase, None, discriminator=judge).terms(clip(3), Draw.of(0, 0))
        assert set(terms) == {"loss/adversarial", "loss/discriminator"}
        terms[name].backward()
        assert any(p.grad is not None and bool(p.grad.any()) for p in moved.parameters())
        assert all(p.grad is None for p in still.parameters())
        moved.zero_grad(set_to_none=True)
    total = Objective(student, phase, None, discriminator=judge).total(terms)
    assert total.item() == pytest.approx(0.5 * terms["loss/adversarial"].item() + terms["loss/discriminator"].item())


class Witness(Discriminator):
    """A discriminator that notes what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, picture: Tensor, change: Tensor, yup: Tensor) -> Tensor:
        self.shown.append((picture.detach(), change.detach(), yup))
        return super().forward(picture, change, yup)


def test_the_discriminator_sees_the_same_windows_of_both_and_what_changed_in_them() -> None:
    witness = Witness()
    phase = Phase(frames=2, end_share=1, perceptual_crops=1, perceptual_size=32, weights=JUDGED)
    Objective(model(), phase, None, discriminator=witness).terms(clip(2), Draw.of(0, 0))
    first, second = witness.shown[:3], witness.shown[3:]
    assert len(second) == 3, "made for the network, true, made for itself"
    assert all(not change.any() for _, change, _ in first), "nothing comes before the first frame"
    for (made, change, yup), (true, _, true_yup), (again, again_change, _) in (first, second):
        assert made.shape == (1, 3, 32, 32)
        assert made.equal(again)
        assert change.equal(again_change)
        assert yup.equal(true_yup)
        assert not made.equal(true)
    assert second[0][1].any()
    assert second[1][1].any()
    pictures = clip(2)
    yup = enlarge(pictures.y[:, 1], 4)
    places = [(8 * y, 8 * x) for y in range(5) for x in range(5)]
    (place,) = [(y, x) for y, x in places if pictures.x0[0, 1, :, y : y + 32, x : x + 32].equal(second[1][0][0])]
    y, x = place
    assert torch.allclose(yup[0, :, y : y + 32, x : x + 32], second[1][2][0], atol=1e-5)


@pytest.mark.parametrize("heard", [1, 2])
def test_the_discriminator_is_shown_the_frames_that_are_drawn(heard: int) -> None:
    witness = Witness()
    phase = Phase(frames=5, perceptual_crops=1, perceptual_size=32, perceptual_frames=heard, weights=JUDGED)
    Objective(model(), phase, None, discriminator=witness).terms(clip(5), Draw.of(0, 0))
    assert len(witness.shown) == 3 * heard


def model() -> GTASRVideo:
    return tiny(noise_scale=0.0)


def clip(frames: int, seed: int = 2) -> Pictures:
    x0 = scene(frames, 64, 64, seed=seed, shift=1)
    y = torch.nn.functional.avg_pool2d(x0[0], 4)[None]
    flow = torch.zeros(1, frames - 1, 2, 64, 64)
    return Pictures(x0, y, flow, torch.ones(1, frames - 1, 1, 64, 64), torch.ones(frames - 1))
