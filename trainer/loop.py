"""A run: batches made ahead in threads, steps, checkpoints every few minutes, a log and sample pictures.

Every random choice follows from (seed, stage, step, position), so a run that is resumed at a step goes on exactly
as if it had never stopped; the position in the data is the step's number.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2

from livetoon.errors import TrainingError
from livetoon.files import replacing
from trainer import checkpoint
from trainer.learner import Learner
from trainer.loggers import Loggers
from trainer.stopping import asked_to_stop
from trainer.summary import write_summary

log = logging.getLogger("trainer")

SAVE_EVERY_S = 240  # what a crash may cost
LOG_EVERY = 50  # steps whose mean is logged
TOLD = ("kid/", "l1/", "identity/")  # figures of validation that are told at once
AHEAD = 3  # batches prepared while one is learned


@dataclass
class Run:
    """Where a run stands. best: the lowest score that validation found; figures: sum and count of each since the last
    time that they were logged."""

    learner: Learner
    folder: Path
    loggers: Loggers | None  # None: another process of the same run writes
    best: float = math.inf
    figures: dict[str, tuple[float, int]] = field(default_factory=dict)

    def save(self, stage: int, step: int, name: str = "last") -> None:
        """Write RUN/checkpoints/`name` and what people look at."""
        if self.loggers is None:
            return
        best = self.best if math.isfinite(self.best) else None
        place = {"stage": stage, "step": step, "best": best, "figures": self.figures}
        checkpoint.save(self.folder / "checkpoints" / name, self.learner.parts(), place | self.learner.state())
        if name == "last":
            self._sample(stage, step)
            write_summary(self.folder)

    def _sample(self, stage: int, step: int) -> None:
        sheet = self.learner.sheet(stage, step)
        path = self.folder / "samples" / f"stage{stage}-{step:06d}.jpg"
        with replacing(path) as temporary:
            if not cv2.imwrite(str(temporary), sheet[..., ::-1]):
                raise TrainingError(f"{path}: cannot be written; is the disk full?")
        self.loggers.pictures(stage, step, "samples", sheet)

    def add(self, figures: dict[str, float]) -> None:
        """Count a step's figures in."""
        for name, value in figures.items():
            total, count = self.figures.get(name, (0.0, 0))
            self.figures[name] = total + value, count + 1

    def note(self, stage: int, step: int, steps: int) -> None:
        """Log the means of the figures since the last time."""
        means = {name: total / count for name, (total, count) in self.figures.items()}
        self.figures = {}
        if self.loggers is None or not means:
            return
        shown = " ".join(f"{name} {value:.4g}" for name, value in _short(means).items())
        log.info("stage %d step %d/%d %s", stage, step, steps, shown)
        self.loggers.figures(stage, step, means)


def train(
    learner: Learner,
    folder: Path,
    loggers: Loggers | None,
    resume: bool = False,
    clock: Callable[[], float] = time.monotonic,
    agree: Callable[[bool], bool] = bool,
) -> bool:
    """Run every stage to its end, saving to RUN/checkpoints/last; `resume` goes on from what is there. Returns whether
    the end was reached; somebody may have asked to stop.

    agree: whether any process of the run says yes; asked by all of them after every step, so that they stop together.
    The caller sees to it that nobody else writes in the folder (lock.py).
    """
    (folder / "log").mkdir(parents=True, exist_ok=True)
    (folder / "samples").mkdir(exist_ok=True)
    run = Run(learner, folder, loggers)
    stage, step = _position(run) if resume else (1, 0)
    if all(number < stage or step >= steps for number, steps in learner.stages()):
        log.info("the run has taken all its steps; --set stage1_steps or stage2_steps makes it longer")
    if loggers is not None:
        loggers.resume(stage, step)
    with asked_to_stop(lambda: _kept(folder)) as stop:
        for number, steps in learner.stages():
            if number < stage or not steps:
                continue
            if step == 0 and number > 1:
                learner.begin(number)
                run.best = math.inf  # other groups are judged now: the scores of two stages cannot be compared
            learner.enter(number)
            if _stage(run, number, step, steps, lambda: agree(bool(stop)), clock):
                log.info("stopped and saved; the same command with --resume goes on")
                return False
            step = 0
    return True


def _position(run: Run) -> tuple[int, int]:
    folder = checkpoint.latest(run.folder)
    if folder is None:
        raise TrainingError(f"{run.folder}: nothing to resume there; leave --resume out to start")
    parts = run.learner.parts()
    state = checkpoint.restore(folder, parts)
    try:
        run.learner.resume(parts, state)
        run.best = _best(state, run.learner.state())
        run.figures = {name: (total, count) for name, (total, count) in state.get("figures", {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise TrainingError(f"{folder / 'state.json'}: not the state of such a run; it cannot be resumed") from None
    log.info("resumed at stage %d, step %d", state["stage"], state["step"])
    return state["stage"], state["step"]


def _kept(folder: Path) -> str:
    """What is saved of a run, as the end of a sentence."""
    if (kept := checkpoint.latest(folder)) is None:
        return "nothing was saved yet"
    state = checkpoint.read_state(kept)
    place = f"stage {state['stage']}, step {state['step']}"
    return f"saved last: {place}; the same command with --resume goes on from there"


def _best(before: dict, now: dict) -> float:
    """The best score of a checkpoint's state, where the same judge goes on; states of older runs name none."""
    if before.get("best") is None:
        return math.inf
    judges = before.get("judge"), now.get("judge")
    if all(judges) and judges[0] != judges[1]:
        log.info("the best checkpoint was told by %s, and from here on by %s: its score no longer counts", *judges)
        return math.inf
    return float(before["best"])


def _stage(run: Run, stage: int, first: int, steps: int, asked: Callable[[], bool], clock: Callable[[], float]) -> bool:
    """Take the steps of a stage; returns whether somebody asked to stop before its end."""
    learner, saved = run.learner, clock()
    for step, batches in _ahead(learner, stage, first, steps):
        while learner.prepare(stage, step):
            stopping = asked()
            if stopping or clock() - saved > SAVE_EVERY_S:
                run.save(stage, step)
                saved = clock()
            if stopping:
                return True
        run.add(learner.step(stage, step, batches))
        for sentence in learner.advice():
            log.warning(sentence)
        stopping = asked()
        last = step + 1 == steps or stopping
        if step == first:
            log.info("the first step is taken; figures follow every %d steps", LOG_EVERY)
        if (step + 1) % LOG_EVERY == 0 or step + 1 == steps:
            run.note(stage, step + 1, steps)
        if found := learner.validate(stage, step + 1):
            _judge(run, stage, step + 1, found)
        if last or clock() - saved > SAVE_EVERY_S:
            run.save(stage, step + 1)
            saved = clock()
        if stopping:
            return True
    return False


def _judge(run: Run, stage: int, step: int, found: dict[str, float]) -> None:
    """Log what validation found, and keep the checkpoint where it is the best so far."""
    score = found.pop("score", math.nan)
    if run.loggers is not None:
        run.loggers.figures(stage, step, found)
        told = {name: value for name, value in found.items() if name.startswith(TOLD)}
        log.info("validation at step %d: %s", step, " ".join(f"{name} {value:.4f}" for name, value in told.items()))
    if score < run.best:
        run.best = score
        run.save(stage, step, "best")


def _ahead(learner: Learner, stage: int, first: int, steps: int) -> Iterator[tuple[int, Any]]:
    """(step, its batches), the next ones being made meanwhile."""
    with ThreadPoolExecutor(AHEAD) as pool:
        ready = {s: pool.submit(learner.batches, stage, s) for s in range(first, min(first + AHEAD, steps))}
        for step in range(first, steps):
            if step + AHEAD < steps:
                ready[step + AHEAD] = pool.submit(learner.batches, stage, step + AHEAD)
            yield step, ready.pop(step).result()


def _short(means: dict[str, float]) -> dict[str, float]:
    """What fits a line: the mean of each term over networks and groups."""
    families: dict[str, list[float]] = {}
    for name, value in means.items():
        side = "D-" if name.startswith("D/") else ""
        families.setdefault(side + name.rpartition("/")[2], []).append(value)
    return {name: sum(values) / len(values) for name, values in families.items()}
