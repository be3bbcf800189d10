"""How the keypoint predictor is taught: some epochs before each stretch of steps, a piece at a time.

A predictor that has converged before the translation begins stops it, so both learn in turns. An epoch goes over every
photo and may take minutes; between two pieces of it a run can be saved, and goes on there.
"""

import logging

import numpy as np
import torch

from trainer.collect import Unpaired
from trainer.presets import Translation
from trainer.sampling import network_input

log = logging.getLogger("trainer")

PIECE = 200  # steps of the predictor: about a second, on two slow cores as well


class Lessons:
    """The predictor's epochs. data: photos, with five points where these are known.

    Of the lessons before step `step` of the run, `done` batches are taken; `lost`: sum of their losses in this epoch;
    `mean`: of the last whole one.
    """

    def __init__(self, predictor: torch.nn.Module, data: Unpaired, preset: Translation, device: torch.device):
        self._predictor, self._data, self._preset, self._device = predictor, data, preset, device
        self._known = [index for index, marks in enumerate(data.points) if marks is not None]
        self._batches = -(-len(self._known) // preset.keypoint_batch)  # of an epoch
        self._order: tuple[tuple[int, int], np.ndarray] | None = None
        self._step, self._done, self._lost, self._mean = -1, 0, 0.0, None

    def state_dict(self) -> dict:
        return {"step": self._step, "done": self._done, "lost": self._lost, "mean": self._mean}

    def load_state_dict(self, state: dict) -> None:
        self._step, self._done, self._lost, self._mean = (state[name] for name in ("step", "done", "lost", "mean"))

    def figures(self, step: int) -> dict[str, float]:
        """The mean loss of the last epoch before `step`, where there was one."""
        return {"predictor": self._mean} if step == self._step and self._mean is not None else {}

    def piece(self, step: int, optimizer: torch.optim.Optimizer) -> bool:
        """Take the next piece of what comes before `step`; returns whether there was any left."""
        if step != self._step:
            self._step, self._done, self._lost, self._mean = step, 0, 0.0, None
        left = self._epochs(step) * self._batches - self._done
        self._predictor.requires_grad_(left > 0).train(left > 0)
        for _ in range(min(left, PIECE)):
            self._learn(optimizer)
        optimizer.zero_grad(set_to_none=True)
        self._predictor.requires_grad_(False).eval()
        return left > 0

    def _epochs(self, step: int) -> int:
        stretch, within = divmod(step, self._preset.keypoint_every)
        epochs = self._preset.keypoint_epochs
        return epochs[stretch] if not within and stretch < len(epochs) else 0

    def _learn(self, optimizer: torch.optim.Optimizer) -> None:
        """One step of the predictor, on the next photos of its epoch."""
        epoch, batch = divmod(self._done, self._batches)
        start = batch * self._preset.keypoint_batch
        picks = self._order_of(epoch)[start : start + self._preset.keypoint_batch]
        x = network_input([self._data.photo[i] for i in picks], self._preset.size).to(self._device)
        points = torch.from_numpy(np.stack([self._data.points[i] for i in picks])).to(self._device)
        loss = (self._predictor(x) - points).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        self._done, self._lost = self._done + 1, self._lost + loss.item()
        if batch + 1 == self._batches:
            self._mean, self._lost = self._lost / self._batches, 0.0
            log.info("keypoint predictor: epoch %d, %.1f px off", epoch + 1, self._mean**0.5)

    def _order_of(self, epoch: int) -> np.ndarray:
        """The photos in the order of an epoch; it follows from seed, step and epoch."""
        if self._order is None or self._order[0] != (self._step, epoch):
            random = np.random.default_rng((self._preset.seed, self._step, 1 << 22))
            for _ in range(epoch + 1):
                order = random.permutation(self._known)
            self._order = (self._step, epoch), order
        return self._order[1]
