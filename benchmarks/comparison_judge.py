"""What tells a comparison's methods apart: how near drawings of held-out photos come to held-out drawings.

KID is over all pairs, although the sets are of unequal size: the published subsets, of the smaller set, here of two to
forty drawings, would leave all but a few pictures unused in each.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from benchmarks.comparison_data import STYLE, judging
from trainer.identity_files import load_face_id
from trainer.metrics import change, fid, open_features
from trainer.networks.branches import draw
from trainer.sampling import network_input

FOLDS = 10  # of the photos, each left out once


class Judge:
    """Draws the held-out photos and compares them with the held-out drawings."""

    def __init__(self, work: Path, groups: tuple[str, ...], size: int, identity: Path | None):
        self._features, self._size = open_features(), size
        self.name = self._features.name
        self._pictures = {
            name: {domain: judging(work, name, domain, size) for domain in ("photo", "cartoon")}
            for name in (*groups, STYLE)
        }
        self._real = {
            name: self._features(network_input(sets["cartoon"], size)) for name, sets in self._pictures.items()
        }
        self._identity = None
        if identity is not None:
            self._identity = load_face_id(identity)

    def __call__(self, generator, names: tuple[str, ...], branch: str | None = None) -> dict[str, dict]:
        """Figures of each of `names`; generator None: the photo as it is. branch: who draws, None: each its own."""
        figures: dict[str, dict] = {"kid": {}, "kid_error": {}, "folds": {}, "fid": {}, "identity": {}, "change": {}}
        for name in names:
            photos = network_input(self._pictures[name]["photo"], self._size)
            with torch.inference_mode():
                drawn = photos if generator is None else drawn_by(generator, photos, branch or name)
                seen, real = self._features(drawn), self._real[name]
                figures["kid"][name], folds = kid_with_folds(seen, real)
                figures["folds"][name] = folds
                figures["kid_error"][name] = jackknife_error(folds)
                if self.name.startswith("inception"):
                    figures["fid"][name] = fid(seen, real)
                if self._identity is not None:
                    vectors = [self._identity(some) for some in (photos, drawn)]
                    figures["identity"][name] = float((vectors[0] * vectors[1]).sum(dim=1).mean())
                figures["change"][name] = change(photos, drawn)
        return {key: value for key, value in figures.items() if value}


def drawn_by(generator: nn.Module, photos: Tensor, group: str) -> Tensor:
    """(N, 3, S, S) drawn by a generator of nearly that size, picture by picture so that batches never matter."""
    side = generator.settings.get("size", photos.shape[-1])
    fitted = photos if side == photos.shape[-1] else interpolate(photos, size=(side, side), mode="bilinear")
    drawn = torch.cat([draw(generator, one, group) for one in fitted.split(1)]).clamp(-1, 1)
    return drawn if side == photos.shape[-1] else interpolate(drawn, size=photos.shape[-2:], mode="bilinear")


def kid_with_folds(drawn: np.ndarray, real: np.ndarray) -> tuple[float, list[float]]:
    """KID (arXiv 1801.01401, equation 4) of features (N, D) and (M, D) over all pairs, N and M may
    differ; and the same with every FOLDS-th drawn picture left out, in turn."""

    def kernel(a, b):
        return (a @ b.T / a.shape[1] + 1) ** 3

    x, y = drawn.astype(np.float64), real.astype(np.float64)
    within_y = kernel(y, y)
    of_real = (within_y.sum() - np.trace(within_y)) / (len(y) * (len(y) - 1))
    within, between = kernel(x, x), kernel(x, y)

    def over(kept: np.ndarray) -> float:
        inner = within[np.ix_(kept, kept)]
        of_drawn = (inner.sum() - np.trace(inner)) / (len(kept) * (len(kept) - 1))
        return float(of_drawn + of_real - 2 * between[kept].mean())

    everything = np.arange(len(x))
    folds = [everything[everything % FOLDS != fold] for fold in range(min(FOLDS, len(x)))] if len(x) > 2 else []
    return over(everything), [over(kept) for kept in folds]


def jackknife_error(values: list[float]) -> float | None:
    """Standard error of an estimate from its values with one fold left out (Efron and Stein 1981)."""
    spread = np.array(values)
    return float(math.sqrt((len(values) - 1) / len(values) * ((spread - spread.mean()) ** 2).sum())) if values else None
