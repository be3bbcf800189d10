"""The live generator's learner: pairs and photos in, batches, steps and sample pictures out."""

import itertools
import logging
import math
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import torch

from trainer import augment, losses
from trainer.checkpoint import Parts
from trainer.collect import VALIDATION_MOST, Unpaired, validation_names
from trainer.data import Group
from trainer.layout import DOMAINS
from trainer.live_step import MOVEMENT, Batch, Trainer
from trainer.presets import Live
from trainer.qat import MEASURED, Rounding
from trainer.validation import Validation
from trainer.watch import PAIRED, Watch

log = logging.getLogger("trainer")

WARM_UP_STEPS = 100
NEVER_LEARNED = 1 << 30  # from this step on: batches to look at


def spare(
    pictures: dict[str, Group], groups: Collection[str]
) -> tuple[dict[str, Group], dict[str, Unpaired], dict[str, tuple[str, ...]]]:
    """What trains, what validates, and of which groups (of those allowed to) the pairs of the second do not train, as
    `Collected.spared` has it.

    Small groups cannot spare any, and are validated on what they train with, as in collect.py. Cartoons that validate
    lie on white by the mask of their photo.
    """
    train, kept, spared = {}, {}, {}
    for group, found in pictures.items():
        names = validation_names(found.names) if group in groups else set()
        here = [index for index, name in enumerate(found.names) if name in names]
        train[group] = _only(found, [index for index in range(len(found.photos)) if index not in here])
        kept[group] = _unpaired(_only(found, here or range(len(found.photos))[:VALIDATION_MOST]))
        spared |= {group: DOMAINS} if here else {}
    return train, kept, spared


def _only(group: Group, indices: Collection[int]) -> Group:
    """These pairs of it; all its other photos."""
    lists = {name: getattr(group, name) for name in ("photos", "cartoons", "alphas", "names")}
    return replace(group, **{name: [values[index] for index in indices] for name, values in lists.items()})


def _unpaired(group: Group) -> Unpaired:
    weights = [alpha.astype(np.float32)[..., None] / 255 for alpha in group.alphas]
    laid = [cartoon * w + 255 * (1 - w) for cartoon, w in zip(group.cartoons, weights, strict=True)]
    return Unpaired(group.photos, [picture.round().astype(np.uint8) for picture in laid])


class LiveLearner:
    """See learner.Learner. validation: what judges the averaged weights, and by which pictures; None: nothing does."""

    def __init__(
        self,
        trainer: Trainer,
        data: dict[str, Group],
        device: torch.device | str = "cpu",
        validation: Validation | None = None,
    ):
        self.trainer, self.preset, self.device = trainer, trainer.preset, torch.device(device)
        self.validation = validation or Validation(self.preset, {})
        self.watch, self._advice = Watch(tries=PAIRED), []
        for network in (trainer.generator, trainer.ema, trainer.features, trainer.adversary, trainer.looks):
            if network is not None:
                network.to(self.device)
        self.sampler = Sampler(data, trainer.preset)

    def stages(self) -> list[tuple[int, int]]:
        return [(1, self.preset.stage1_steps), (2, self.preset.stage2_steps)]

    def begin(self, stage: int) -> None:
        if stage == 2:
            self.trainer.start_stage_2()
            if self.trainer.rounding is not None:
                self.trainer.rounding.ranges.clear()

    def enter(self, stage: int) -> None:
        self.validation.tell(self._learned_in(stage))
        if self.trainer.rounding is not None:
            self._measure(stage, self.trainer.rounding)

    def _measure(self, stage: int, rounding: Rounding) -> None:
        """Take the ranges of groups that have none yet; a resumed run has them from its checkpoint."""
        unknown = [group for group in self._learned_in(stage) if not rounding.knows(group)]
        crops: dict[str, list[torch.Tensor]] = {group: [] for group in unknown}
        for step in itertools.count(NEVER_LEARNED):
            if all(len(seen) >= MEASURED for seen in crops.values()):
                break
            for group, batch in self.sampler.batches(stage, step, all_groups=True).items():
                if group in crops:
                    crops[group].extend(batch.photo)
        for group, seen in crops.items():
            rounding.measure(self.trainer.ema, group, torch.stack(seen[:MEASURED]).to(self.device))
        if unknown:
            log.info("ranges of int8 steps are taken from %d training crops of %s", MEASURED, ", ".join(unknown))

    def _learned_in(self, stage: int) -> tuple[str, ...]:
        return self.preset.groups[:1] if stage == 1 else self.preset.groups

    def batches(self, stage: int, step: int) -> dict[str, Batch]:
        return self.sampler.batches(stage, step)

    def prepare(self, stage: int, step: int) -> bool:
        return False

    def step(self, stage: int, step: int, batches: dict[str, Batch]) -> dict[str, float]:
        preset = self.preset
        peak, steps = (
            (preset.learning_rate, preset.stage1_steps)
            if stage == 1
            else (preset.stage2_learning_rate, preset.stage2_steps)
        )
        rate = learning_rate(peak, step, steps, preset.decay_share)
        decay = min(preset.ema, (step + 1) / (step + 10))
        random = np.random.default_rng((preset.seed, stage, step))
        corner = tuple(random.integers(0, preset.size * 5 // 8, 2))
        there = {group: batch.to(self.device) for group, batch in batches.items()}
        figures = self.trainer.step(there, rate, decay, corner, random)
        self._look(figures)
        return figures

    def _look(self, figures: dict[str, float]) -> None:
        moved = {name: [v for key, v in figures.items() if key.endswith(f"/{name}")] for name in MOVEMENT}
        terms = {name: value for name, value in figures.items() if not name.endswith(MOVEMENT)}
        self._advice = self.watch.step(terms, **{name: sum(each) / len(each) for name, each in moved.items()})

    def advice(self) -> list[str]:
        return self._advice

    def parts(self) -> Parts:
        networks = {"generator": self.trainer.generator, "ema": self.trainer.ema}
        ranges = self.trainer.rounding.ranges if self.trainer.rounding is not None else {}
        optimizers = {"optimizer": self.trainer.optimizer}
        if (adversary := self.trainer.adversary) is not None:
            networks |= {"judge": adversary.judge}
            optimizers |= {"judge_optimizer": adversary.optimizer}
        return Parts(networks, optimizers, dict(ranges))

    def state(self) -> dict:
        return {"watch": self.watch.state_dict(), "judge": self.validation.judge}

    def resume(self, parts: Parts, state: dict) -> None:
        if "watch" in state:  # checkpoints of older runs know none
            self.watch.load_state_dict(state["watch"])
        if self.trainer.rounding is not None:
            self.trainer.rounding.ranges = dict(parts.extra)

    @torch.no_grad()
    def sheet(self, stage: int, step: int) -> np.ndarray:
        """Input, drawing on white and alpha of a fixed batch, side by side."""
        columns = []
        for group, batch in self.sampler.batches(stage, NEVER_LEARNED, all_groups=True).items():
            batch = batch.to(self.device)
            drawn, alpha = self.trainer.draw(batch.photo, group)
            laid = losses.on_white(drawn, alpha)
            for triple in zip(batch.photo, laid, alpha.expand_as(laid) * 2 - 1, strict=True):
                columns.append(torch.cat(list(triple), dim=1))
        whole = torch.cat(columns, dim=2).clamp(-1, 1).cpu()
        return ((whole + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()

    def validate(self, stage: int, step: int) -> dict[str, float]:
        """Only the groups that the stage learns are drawn: the others would cost time and say nothing yet."""
        if not self.validation.due(stage, step):
            return {}
        learned = self._learned_in(stage)
        return self.validation(learned, self._draw, groups=learned)

    @torch.no_grad()
    def _draw(self, photos: torch.Tensor, group: str) -> torch.Tensor:
        """(N, 3, S, S) in [-1, 1] -> the drawing on white by its own alpha, alike."""
        return losses.on_white(*self.trainer.draw(photos.to(self.device), group))


class Sampler:
    """Makes the batch of any step of any stage from decoded pictures."""

    def __init__(self, data: dict[str, Group], preset: Live):
        self.data, self.preset = data, preset
        self.behind = [photo for group in data.values() for photo in group.unpaired]

    def batches(self, stage: int, step: int, all_groups: bool = False) -> dict[str, Batch]:
        """all_groups: to be looked at, and so the basic group as well where stage 2 leaves it out."""
        basic, *rare = self.preset.groups
        if stage == 1:
            unpaired = self.preset.basic_unpaired if self.data[basic].unpaired else 0
            return {basic: self._batch(basic, self.preset.batch, unpaired, (stage, step, 0))}
        pairs = self.preset.basic_batch or (self.preset.batch if all_groups else 0)
        made = {basic: self._batch(basic, pairs, 0, (stage, step, 0))} if pairs else {}
        for index, group in enumerate(rare, start=1):
            unpaired = 0
            if self.data[group].unpaired:
                share = self.preset.unpaired_share * self.preset.rare_batch
                chance = np.random.default_rng((self.preset.seed, stage, step, index, 1 << 20)).random()
                unpaired = int(share + chance)  # 0.5 of 3 is one or two, at even odds
            made[group] = self._batch(group, self.preset.rare_batch - unpaired, unpaired, (stage, step, index))
        return made

    def _batch(self, group: str, pairs: int, unpaired: int, place: tuple[int, ...]) -> Batch:
        data, size = self.data[group], self.preset.size
        photos, cartoons, alphas, clean, motions, real = [], [], [], [], [], []
        for position in range(pairs + unpaired):
            random = np.random.default_rng((self.preset.seed, *place, position))
            matrix = augment.random_motion(size, random)
            if position < pairs:
                index = random.integers(len(data.photos))
                alpha = augment.move(data.alphas[index], matrix)
                photo = augment.move(data.photos[index], matrix)
                photo = augment.compose(photo, alpha, augment.background(size, self.behind, random))
                weight = alpha.astype(np.float32)[..., None] / 255
                cartoon = augment.move(data.cartoons[index], matrix) * weight + 255 * (1 - weight)
                cartoons.append(cartoon)
                alphas.append(weight)
            else:
                index = random.integers(len(data.unpaired))
                still = data.unpaired[index]
                photo = augment.move(still, matrix)
                if data.unpaired_alphas:
                    alphas.append(augment.move(data.unpaired_alphas[index], matrix).astype(np.float32)[..., None] / 255)
                clean.append(still)
                motions.append(_affine_grid_matrix(matrix, size))
            photos.append(augment.degrade(photo, random))
            if self.preset.adversarial:
                drawings = data.drawings or data.cartoons
                drawing = drawings[random.integers(len(drawings))]
                real.append(augment.move(drawing, augment.random_motion(size, random)))
        shape = (0, size, size, 3)
        return Batch(
            photo=_tensor(photos) / 127.5 - 1,
            cartoon=_tensor(cartoons or np.zeros(shape)) / 127.5 - 1,
            alpha=_tensor(alphas or np.zeros((0, size, size, 1))),
            clean=_tensor(clean) / 127.5 - 1 if clean else None,
            motion=torch.from_numpy(np.stack(motions).astype(np.float32)) if clean else None,
            real=_tensor(real) / 127.5 - 1 if real else None,
        )


def _tensor(pictures) -> torch.Tensor:
    stacked = (
        torch.from_numpy(np.stack(pictures).astype(np.float32))
        if len(pictures)
        else torch.from_numpy(np.asarray(pictures, np.float32))
    )
    return stacked.permute(0, 3, 1, 2)  # NHWC in memory: channels_last as the networks want it


def _affine_grid_matrix(matrix: np.ndarray, size: int) -> np.ndarray:
    """(2, 3) crop -> crop in pixels, as cv2.warpAffine takes it -> its inverse in [-1, 1], as affine_grid does."""
    to_pixels = np.array([[size / 2, 0, size / 2 - 0.5], [0, size / 2, size / 2 - 0.5], [0, 0, 1]])
    whole = np.vstack([matrix, [0, 0, 1]])
    return (np.linalg.inv(to_pixels) @ np.linalg.inv(whole) @ to_pixels)[:2]


def learning_rate(peak: float, step: int, steps: int, decay_share: float) -> float:
    """Linear warm-up, constant, then a half cosine to zero over the last share of the steps."""
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    left = (steps - step) / max(1.0, decay_share * steps)
    return peak * warm * (0.5 - 0.5 * math.cos(math.pi * min(1.0, left)))
