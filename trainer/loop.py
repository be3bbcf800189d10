"""A run: batches made ahead in threads, steps, checkpoints every few minutes, a log and sample pictures.

Every random choice follows from (seed, stage, step, position), so a run that is resumed at a step goes on exactly
as if it had never stopped; the position in the data is the step's number.
"""

import csv
import logging
import math
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch

from livetoon.errors import TrainingError
from livetoon.files import replacing
from trainer import augment, checkpoint
from trainer.data import Group
from trainer.presets import Preset
from trainer.live_step import Batch, Trainer

log = logging.getLogger("trainer")

SAVE_EVERY_S = 240  # what a crash may cost
WARM_UP_STEPS = 100
AHEAD = 3  # batches prepared while one is learned


class Sampler:
    """Makes the batch of any step of any stage from decoded pictures."""

    def __init__(self, data: dict[str, Group], preset: Preset):
        self.data, self.preset = data, preset
        self.behind = [photo for group in data.values() for photo in group.unpaired]

    def batches(self, stage: int, step: int) -> dict[str, Batch]:
        basic, *rare = self.preset.groups
        if stage == 1:
            unpaired = self.preset.basic_unpaired if self.data[basic].unpaired else 0
            return {basic: self._batch(basic, self.preset.batch, unpaired, (stage, step, 0))}
        made = {basic: self._batch(basic, self.preset.basic_batch, 0, (stage, step, 0))}
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
        photos, cartoons, alphas, clean, motions = [], [], [], [], []
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
        shape = (0, size, size, 3)
        return Batch(
            photo=_tensor(photos) / 127.5 - 1,
            cartoon=_tensor(cartoons or np.zeros(shape)) / 127.5 - 1,
            alpha=_tensor(alphas or np.zeros((0, size, size, 1))),
            clean=_tensor(clean) / 127.5 - 1 if clean else None,
            motion=torch.from_numpy(np.stack(motions).astype(np.float32)) if clean else None,
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


def train(
    trainer: Trainer,
    data: dict[str, Group],
    run: Path,
    resume: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run both stages to their ends, saving to RUN/checkpoints/last; `resume` goes on from what is there.

    The caller sees to it that nobody else writes in RUN (lock.py).
    """
    preset = trainer.preset
    (run / "log").mkdir(parents=True, exist_ok=True)
    (run / "samples").mkdir(exist_ok=True)
    if not resume:
        (run / "log" / "train.csv").unlink(missing_ok=True)  # of a start that ended before its first checkpoint
    stage, step = _position(trainer, run) if resume else (1, 0)
    stop: list[int] = []
    before = signal.signal(signal.SIGINT, lambda *_: stop.append(1)) if _in_main_thread() else None
    try:
        for stage_now, steps in ((1, preset.stage1_steps), (2, preset.stage2_steps)):
            if stage_now < stage:
                continue
            if stage_now == 2 and step == 0 and steps:
                trainer.start_stage_2()
            _stage(trainer, Sampler(data, preset), run, stage_now, step, steps, stop, clock)
            if stop:
                log.info("stopped and saved; the same command with --resume goes on")
                return
            step = 0
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _position(trainer: Trainer, run: Path) -> tuple[int, int]:
    folder = checkpoint.latest(run)
    if folder is None:
        raise TrainingError(f"{run}: nothing to resume there; leave --resume out to start")
    state = checkpoint.restore(folder, trainer.generator, trainer.ema, trainer.optimizer)
    log.info("resumed at stage %d, step %d", state["stage"], state["step"])
    return state["stage"], state["step"]


def _stage(trainer, sampler, run, stage, first, steps, stop, clock) -> None:
    preset = trainer.preset
    peak = preset.learning_rate if stage == 1 else preset.stage2_learning_rate
    saved = clock()
    figures: dict[str, list[float]] = {}
    with ThreadPoolExecutor(AHEAD) as pool:
        ready = {s: pool.submit(sampler.batches, stage, s) for s in range(first, min(first + AHEAD, steps))}
        for step in range(first, steps):
            if step + AHEAD < steps:
                ready[step + AHEAD] = pool.submit(sampler.batches, stage, step + AHEAD)
            batches = ready.pop(step).result()
            corner = tuple(np.random.default_rng((preset.seed, stage, step)).integers(0, preset.size * 5 // 8, 2))
            rate = learning_rate(peak, step, steps, preset.decay_share)
            decay = min(preset.ema, (step + 1) / (step + 10)) if stage == 1 else preset.ema
            for name, value in trainer.live_step(batches, rate, decay, corner).items():
                figures.setdefault(name, []).append(value)
            last = step + 1 == steps or bool(stop)
            if (step + 1) % 50 == 0 or last:
                _log(run, stage, step + 1, steps, figures)
                figures = {}
            if clock() - saved > SAVE_EVERY_S or last:
                place = {"stage": stage, "step": step + 1}
                checkpoint.save(run / "checkpoints" / "last", trainer.generator, trainer.ema, trainer.optimizer, place)
                _sample(trainer, sampler, run, stage, step + 1)
                saved = clock()
            if stop:
                return


def _log(run: Path, stage: int, step: int, steps: int, figures: dict[str, list[float]]) -> None:
    means = {name: sum(values) / len(values) for name, values in figures.items()}
    log.info(
        "stage %d step %d/%d %s", stage, step, steps, " ".join(f"{k.split('/')[-1]} {v:.4f}" for k, v in means.items())
    )
    with open(run / "log" / "train.csv", "a", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        for name, value in means.items():
            rows.writerow([stage, step, name, f"{value:.6f}"])


@torch.no_grad()
def _sample(trainer: Trainer, sampler: Sampler, run: Path, stage: int, step: int) -> None:
    """Input, output on white, target if any, of a fixed batch: RUN/samples/stageN-STEP.jpg."""
    rows = []
    for group, batch in sampler.batches(stage, 1 << 30).items():
        drawn = trainer.ema(batch.photo, group)
        laid = drawn[:, 3:] * drawn[:, :3] + (1 - drawn[:, 3:])
        columns = [batch.photo, laid, drawn[:, 3:].expand_as(laid) * 2 - 1]
        for triple in zip(*columns, strict=True):
            rows.append(torch.cat(list(triple), dim=1))
    sheet = ((torch.cat(rows, dim=2).clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    path = run / "samples" / f"stage{stage}-{step:06d}.jpg"
    with replacing(path) as temporary:
        if not cv2.imwrite(str(temporary), sheet[..., ::-1]):
            raise TrainingError(f"{path}: cannot be written; is the disk full?")


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()
