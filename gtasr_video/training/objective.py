"""The loss of one batch: both stages of the method over a clip, unrolled on the network's own outputs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from gtasr_video.models.facts import State
from gtasr_video.models.flow import Motion
from gtasr_video.models.gtasr import Context, GTASRVideo
from gtasr_video.models.temporal import Reference, find_reference, move_picture
from gtasr_video.ops.edges import luma
from gtasr_video.training import losses
from gtasr_video.training.clips import Batch
from gtasr_video.training.discriminator import Discriminator
from gtasr_video.training.draw import Draw
from gtasr_video.training.losses import Perceptual
from gtasr_video.training.ranks import ALONE, Ranks
from gtasr_video.training.settings import Phase

Terms = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Pictures:
    """Truth and input of a batch in [-1, 1]: x0 (B, T, 3, H, W), y (B, T, 3, h, w); flow and mask as in `Batch`.

    known  (T-1,) mean of the mask of each pair of frames, over the batches of all processes
    """

    x0: Tensor
    y: Tensor
    flow: Tensor
    mask: Tensor
    known: Tensor

    @staticmethod
    def of(batch: Batch, device: torch.device, ranks: Ranks = ALONE) -> Pictures:
        """Move a batch to `device` and turn bytes into [-1, 1], the truth in the mean colour of its input.

        Codecs shift colours by up to a level, mostly to one side (rounding, and clipping in dark places). A network
        that sees the unshifted truth learns to undo that on average, and shifts what was never shifted.
        """
        has_flow = batch.has_flow.view(-1, 1, 1, 1, 1)
        mask = (batch.valid & has_flow).to(device).float()
        truth, y = (bytes_.to(device).float() / 127.5 - 1 for bytes_ in (batch.hr, batch.lr))
        shift = y.mean(dim=(1, 3, 4), keepdim=True) - truth.mean(dim=(1, 3, 4), keepdim=True)
        return Pictures(
            truth + shift,
            y,
            batch.flow.to(device),
            mask,
            ranks.mean(mask.mean(dim=(0, 2, 3, 4))),
        )


@dataclass(frozen=True, slots=True)
class Moment:
    """One frame of the unroll: y (B, 3, h, w), the other pictures (B, 3, H, W), and the state before it.

    start   x_t - yup as cells, where the network looked; None where that is nothing
    target  what the network says a step earlier on the path; None where consistency has no weight
    share   how many frames of the clip this one stands for in the perceptual distance; 0: it is not looked at
    """

    context: Context
    y: Tensor
    x0: Tensor
    start: Tensor | None
    prediction: Tensor
    target: Tensor | None
    state: State
    share: float


class Objective:
    """The loss of `phase` for a network; `terms` gives its parts, unweighted, and `total` their weighted sum.

    perceptual  the VGG16 distance; None leaves Charbonnier alone in every distance
    frozen      the frozen copy g of stage II; None in stage I
    teacher     the network whose outputs are to be matched, ready at the phase's scale; None without distillation
    discriminator  what is asked how true the outputs look, and learns to tell; None without the adversarial term
    ranks       the processes that share the batch: the windows of the perceptual distance are shared, too
    """

    def __init__(
        self,
        model: GTASRVideo,
        phase: Phase,
        perceptual: Perceptual | None,
        frozen: GTASRVideo | None = None,
        teacher: GTASRVideo | None = None,
        discriminator: Discriminator | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model, self.phase, self.perceptual, self.frozen = model, phase, perceptual, frozen
        self.teacher, self.discriminator, self.ranks = teacher, discriminator, ranks
        self.windows = max(1, phase.perceptual_crops // ranks.count)
        # The weights' card will say on which points of a path they were trained last.
        self.path = model.path = phase.path(model.noise_scale)

    def at(self, phase: Phase) -> Objective:
        """Return the loss of another phase, of the same network and with the same beside it."""
        return Objective(self.model, phase, self.perceptual, self.frozen, self.teacher, self.discriminator, self.ranks)

    def total(self, terms: Terms) -> Tensor:
        """Return the weighted sum of the terms."""
        w = self.phase.weights
        weight = {
            "loss/ct": w.consistency,
            "loss/ta": w.trajectory,
            "loss/guide": w.guide,
            "loss/ssim": w.similarity,
            "loss/color": w.color,
            "loss/distil": w.distillation,
            "loss/adversarial": w.adversarial,
            "loss/discriminator": 1.0,  # moves the discriminator alone
            "loss/dtm": w.dtm,
            "loss/rect": w.rectification,
            "loss/tta": w.temporal_trajectory,
            "loss/trect": w.temporal_rectification,
        }
        return torch.stack([weight[name] * value for name, value in terms.items()]).sum()

    def terms(self, pictures: Pictures, draw: Draw) -> Terms:
        """Return the mean over frames of each term of this phase's stage with a weight above 0."""
        sums: dict[str, list[Tensor]] = defaultdict(list)
        b, frames = pictures.y.shape[:2]
        t = draw.path_steps(b, self.phase, pictures.y.device)
        heard = draw.frames(frames, self.phase.perceptual_frames)
        references = self._references(pictures.y) if self.phase.memory else ()
        state: State | None = None
        of_teacher: State | None = None
        previous: Moment | None = None
        for k in range(frames):
            share = frames / len(heard) if k in heard else 0.0
            reference = references[k - 1] if references and k else None
            moment, state = self._look(pictures, k, state if reference else None, reference, t, draw, share)
            for name, value in self._frame_terms(moment, draw).items():
                sums[name].append(value)
            if self.teacher is not None:
                before = of_teacher if reference else None
                taught, of_teacher = self._taught(self.teacher, moment, before, state, t)
                sums["loss/distil"].append(self._distance(moment, taught, draw))
            if self.discriminator is not None and moment.share:
                verdict = self._verdict(self.discriminator, moment, previous, draw)
                for name, value in verdict.items():
                    sums[name].append(value)
            if previous is not None:
                for name, value in self._pair_terms(previous, moment, pictures, k - 1).items():
                    sums[name].append(value)
            previous = moment
        return {name: torch.stack(values).mean() for name, values in sums.items()}

    def _references(self, y: Tensor) -> list[Reference]:
        """Return what each frame of the clips (B, T, 3, h, w) but the first refers to.

        Motion here is that of the inputs alone: all pairs at once take few operations where one by one, against what
        the network itself showed last, they take thousands.
        """
        b, pairs = y.shape[0], y.shape[1] - 1
        if not pairs:
            return []
        age = torch.ones(b * pairs, dtype=torch.int64, device=y.device)
        now, before = (luma(frames.flatten(0, 1).float()) for frames in (y[:, 1:], y[:, :-1]))
        motion, confidence, valid = find_reference(now, before, age, self.model.architecture.cell)
        of_pairs = [x.view(b, pairs, *x.shape[1:]).unbind(1) for x in (*motion, confidence, valid)]
        return [Reference(Motion(*parts[:3]), *parts[3:]) for parts in zip(*of_pairs, strict=True)]

    def _look(
        self,
        pictures: Pictures,
        k: int,
        state: State | None,
        reference: Reference | None,
        t: Tensor,
        draw: Draw,
        share: float,
    ) -> tuple[Moment, State]:
        """Evaluate the consistency function at t (with gradient) and t - 1 (without) for frame k.

        `state` and `reference` None say that nothing comes before it.
        """
        model, path = self.model, self.path
        x0, y = pictures.x0[:, k], pictures.y[:, k]
        context = model.observe(y, state, reference)
        state = state or model.initial(y.shape[0], *y.shape[2:])
        # Without memory every frame is number 0 of its scene: its noise must differ all the same.
        seed = draw.seed if self.phase.memory else draw.seed + 97 * k
        streams = draw.places(y.shape[0], y.device) if path.noise_scale else None
        noise, drift = model.next_noise(y, state, context.reference, seed, streams)
        truth = model.to_cells(x0 - context.yup)
        # Where all are at the end of a path without noise, nothing is on it.
        bare = self.phase.end_share == 1 and path.noise_scale == 0
        start = None if bare else self._state_at(truth, noise, path.tau(t))
        predicted = model.predict(context, start, path.tau(t))
        prediction = context.yup + model.to_picture(predicted.residual).float()
        target = None
        if self.phase.weights.consistency:
            with torch.no_grad():
                earlier = path.tau(t - 1)
                before = model.predict(context, self._state_at(truth, noise, earlier), earlier)
            target = context.yup + model.to_picture(before.residual).float()
        moment = Moment(context, y, x0, start, prediction, target, state, share)
        return moment, model.advance(y, state._replace(noise=noise, drift=drift), context.reference, predicted)

    @torch.no_grad()
    def _taught(
        self, teacher: GTASRVideo, moment: Moment, before: State | None, after: State, t: Tensor
    ) -> tuple[Tensor, State]:
        """Return what the teacher makes of the frame of `moment`, from the same point of the path, and its next state.

        before  the teacher's own state; None where nothing comes before the frame
        after   the state of the network that learns, after the frame: whose noise the teacher has, too
        """
        reference = None if before is None else moment.context.reference
        context = teacher.observe(moment.y, before, reference)
        before = before or teacher.initial(moment.y.shape[0], *moment.y.shape[2:])
        predicted = teacher.predict(context, moment.start, self.path.tau(t))
        picture = context.yup + teacher.to_picture(predicted.residual).float()
        state = before._replace(noise=after.noise, drift=after.drift)
        return picture, teacher.advance(moment.y, state, context.reference, predicted)

    def _state_at(self, truth: Tensor, noise: Tensor, tau: Tensor) -> Tensor:
        """Return x_t - yup as cells: (1 - a_t)(x0 - yup) + sigma_t eps."""
        a = tau.view(-1, 1, 1, 1)
        state = (1 - a) * truth
        if self.path.noise_scale == 0:
            return state
        return state + self.path.noise_scale * a * self.model.noise_cells(noise)

    def _frame_terms(self, moment: Moment, draw: Draw) -> Terms:
        w = self.phase.weights
        terms: Terms = {}
        if w.guide:
            edges, texture = self.model.adapter.maps(moment.context.guide)
            terms["loss/guide"] = losses.guide(edges.float(), texture.float(), moment.x0)
        if w.similarity:
            terms["loss/ssim"] = losses.similarity(moment.prediction, moment.x0)
        if w.color:
            terms["loss/color"] = losses.color(moment.prediction, moment.y)
        if moment.target is not None:
            terms["loss/ct"] = self._distance(moment, moment.target, draw)
        if self.phase.stage == 1 and w.trajectory:
            terms["loss/ta"] = self._trajectory(moment, draw)
        if self.phase.stage == 2 and moment.share:
            terms.update(self._structure(moment, draw))
        return terms

    def _distance(self, moment: Moment, target: Tensor, draw: Draw) -> Tensor:
        """Return d(prediction, stopgrad target), of consistency and of distillation."""
        loss = losses.consistency(moment.prediction, target)
        weight = self.phase.weights.perceptual * moment.share
        if self.perceptual is None or not weight:
            return loss
        seen, wanted = self._windows(draw, moment.prediction, target)
        return loss + weight * self.perceptual(seen, wanted).mean()

    def _trajectory(self, moment: Moment, draw: Draw) -> Tensor:
        loss = losses.trajectory_alignment(moment.prediction - moment.x0, self.path)
        weight = self.phase.weights.perceptual * moment.share
        if self.perceptual is None or not weight or self.path.steps < 2:
            return loss
        prediction, truth, yup = self._windows(draw, moment.prediction, moment.x0, moment.context.yup)
        step = 1 + torch.tensor(draw.integers(self.path.steps - 1, len(yup)), device=yup.device)
        distance = losses.trajectory_alignment_perceptual(
            truth, prediction, yup, draw.normal(yup), self.path, step, self.perceptual
        )
        return loss + weight * distance

    def _structure(self, moment: Moment, draw: Draw) -> Terms:
        """Return the terms of stage II: DTM with stabilisation, and rectification.

        Their distance is the VGG16 distance at its weight; in a phase without one, Charbonnier stands in for it.
        """
        w = self.phase.weights
        loud = self.perceptual if w.perceptual else None
        distance, share = (loud, w.perceptual) if loud is not None else (losses.pixel_distance, 1.0)
        terms: Terms = {}
        if w.rectification:
            prediction, truth = self._windows(draw, moment.prediction, moment.x0)
            terms["loss/rect"] = share * losses.rectification(prediction, truth, distance)
        if w.dtm and self.frozen is not None:
            xf, xr = self._readings(moment, draw)
            a, b, c, d = self._windows(draw, moment.prediction, moment.x0, xf, xr)
            terms["loss/dtm"] = share * losses.distribution_trajectory_matching(a, b, c, d, distance)
        return terms

    @torch.no_grad()
    def _readings(self, moment: Moment, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return (xf, xr): the frozen copy at a middle step started from the prediction and from the truth."""
        assert self.frozen is not None
        g, yup = self.frozen, moment.context.yup
        context = g.observe(moment.y, moment.state, moment.context.reference)
        middle = max(1, self.path.steps // 2)
        tau = self.path.tau(torch.full((len(yup),), middle, device=yup.device))
        eps = draw.normal(yup)
        readings = []
        for start in (moment.prediction.detach(), moment.x0):
            state = g.to_cells(self.path.point(start, yup, eps, tau) - yup)
            readings.append(yup + g.to_picture(g.predict(context, state, tau).residual).float())
        return readings[0], readings[1]

    def _pair_terms(self, before: Moment, now: Moment, pictures: Pictures, pair: int) -> Terms:
        """Return the temporal terms of two neighbouring frames, number `pair` and the next."""
        w = self.phase.weights
        terms: Terms = {}
        if w.temporal_trajectory:
            flow, mask, known = pictures.flow[:, pair], pictures.mask[:, pair], pictures.known[pair]
            terms["loss/tta"] = losses.temporal_trajectory_alignment(
                now.prediction - now.x0, before.prediction - before.x0, flow, mask, self.path, known
            )
        if w.temporal_rectification:
            confidence = self._full_size(now.context.reference.confidence)
            terms["loss/trect"] = losses.temporal_rectification(
                now.prediction, self._moved(before.prediction, now), now.x0, self._moved(before.x0, now), confidence
            )
        return terms

    def _verdict(self, discriminator: Discriminator, now: Moment, before: Moment | None, draw: Draw) -> Terms:
        """Return what the discriminator holds against windows of a frame, and its own error about them."""
        change = true_change = torch.zeros_like(now.x0)
        if before is not None:
            change = now.prediction - self._moved(before.prediction, now)
            true_change = now.x0 - self._moved(before.x0, now)
        yup, made, change, true, true_change = self._windows(
            draw, now.context.yup, now.prediction, change, now.x0, true_change
        )
        # What it says here is the network's to learn from, not its own.
        discriminator.requires_grad_(False)
        heard = losses.adversarial(discriminator(made, change, yup))
        discriminator.requires_grad_(True)
        of_true = discriminator(true, true_change, yup)
        of_made = discriminator(made.detach(), change.detach(), yup)
        return {"loss/adversarial": heard, "loss/discriminator": losses.discriminator(of_true, of_made)}

    def _moved(self, picture: Tensor, now: Moment) -> Tensor:
        """Move a picture of the frame before as the network moves its reference."""
        model, motion = self.model, now.context.reference.motion
        return model.to_picture(move_picture(model.to_cells(picture), motion, model.architecture.cell, model.scale))

    def _full_size(self, cells: Tensor) -> Tensor:
        factor = self.model.architecture.cell * self.model.scale
        return cells.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)

    def _windows(self, draw: Draw, *pictures: Tensor) -> list[Tensor]:
        """Cut the same randomly placed windows from each (B, 3, H, W): what the perceptual network gets to see."""
        b, _, h, w = pictures[0].shape
        size = min(self.phase.perceptual_size, h, w)
        count = self.windows
        which = draw.spread(b, count)
        # Multiples of 8 keep the windows on the grid of cells.
        top = [8 * v for v in draw.integers((h - size) // 8 + 1, count)]
        left = [8 * v for v in draw.integers((w - size) // 8 + 1, count)]
        return [
            torch.stack([p[n, :, y : y + size, x : x + size] for n, y, x in zip(which, top, left, strict=True)])
            for p in pictures
        ]
