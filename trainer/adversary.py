"""Who tells drawings from what a live generator draws, and learns to while it does.

It looks at the faces alone: what is drawn lies on another drawing's surroundings, so that no background tells.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trainer import losses
from trainer.networks import build

WINDOW, LOOSE = 11 / 16, 1 / 16  # side of what is seen, and how far it may be off the middle; shares of the picture
SETTLE = 20  # iterations of the spectral norms before the first step


class Adversary:
    """judge: the patch discriminator of the U-GAT-IT family (5 layers); optimizer: its own."""

    def __init__(self, learning_rate: float, width: int = 32):
        self.judge = build("discriminator", layers=5, width=width)
        with torch.no_grad():  # its spectral norms begin with random vectors, and its first values may be anything
            for _ in range(SETTLE):
                self.judge(torch.zeros(1, 3, 32, 32))
        self.optimizer = torch.optim.Adam(self.judge.parameters(), learning_rate, betas=(0.5, 0.999))

    def to(self, device: torch.device) -> None:
        """Move what it computes with."""
        self.judge.to(device)

    def term(self, drawn: Tensor) -> Tensor:
        """The generator's term: how far `drawn`, (N, 3, s, s) in [-1, 1], is from what the judge takes for drawings."""
        self.judge.requires_grad_(False)
        return losses.least_squares(self.judge(drawn).logit, 1.0).mean()

    def learn(self, real: Tensor, drawn: Tensor) -> dict[str, float]:
        """One step of the judge: drawings are 1, what was drawn is 0. Figures: its loss, and what it says of real."""
        self.judge.requires_grad_(True)
        self.optimizer.zero_grad(set_to_none=True)
        of_real, of_drawn = self.judge(torch.cat([real, drawn])).logit.split([len(real), len(drawn)])
        loss = (losses.least_squares(of_real, 1.0).mean() + losses.least_squares(of_drawn, 0.0).mean()) / 2
        loss.backward()
        self.optimizer.step()
        return {"judge": loss.item(), "real": of_real.detach().mean().item()}


def surrounded(picture: Tensor, alpha: Tensor, real: Tensor) -> Tensor:
    """picture: (N, 3, S, S) in [-1, 1], laid by alpha (N, 1, S, S) on the surroundings of other drawings, `real`."""
    return alpha * picture + (1 - alpha) * real.roll(1, dims=0)


def window(size: int, place: Sequence[int]) -> tuple:
    """Index of the part that is seen, about the middle. place: random seed of its offset."""
    side, loose = int(size * WINDOW), int(size * LOOSE)
    y, x = (size - side) // 2 + np.random.default_rng(tuple(place)).integers(-loose, loose + 1, 2)
    return (..., slice(y, y + side), slice(x, x + side))
