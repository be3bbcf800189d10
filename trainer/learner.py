"""What the loop needs of a method that learns; one class for each method (translation.py, live.py)."""

from typing import Any, Protocol

import numpy as np

from trainer.checkpoint import Parts


class Learner(Protocol):
    """Networks, optimizers and the data they learn from."""

    def stages(self) -> list[tuple[int, int]]:
        """(number, steps) of each stage, in order."""

    def begin(self, stage: int) -> None:
        """Called once before the first step of a stage; not when a run is resumed within it."""

    def enter(self, stage: int) -> None:
        """Called before the first step of a stage in this process, begun or resumed."""

    def batches(self, stage: int, step: int) -> Any:
        """What step `step` sees. Depends on nothing but its arguments, so threads may make it ahead."""

    def prepare(self, stage: int, step: int) -> bool:
        """Do a part, seconds long, of what comes before a step; returns whether there was any left. Between two parts
        a run can be saved; `step` does what is left by then."""

    def step(self, stage: int, step: int, batches: Any) -> dict[str, float]:
        """Learn once; returns the figures."""

    def advice(self) -> list[str]:
        """Sentences that are due about how training goes."""

    def parts(self) -> Parts:
        """What a checkpoint holds."""

    def state(self) -> dict:
        """The rest of it, as JSON; `judge` names what validation's score is made of, where there is one."""

    def resume(self, parts: Parts, state: dict) -> None:
        """Go on from what a checkpoint held: `parts` after restoring, and its state."""

    def sheet(self, stage: int, step: int) -> np.ndarray:
        """A grid of pictures, (H, W, 3) uint8 RGB, always of the same photos."""

    def validate(self, stage: int, step: int) -> dict[str, float]:
        """Figures on held-out-validation pictures where they are due after `step` steps; `score` among them, the lower
        the better, tells the best checkpoint."""
