"""What one look at a face says: its age, its sex and whether it wears glasses, by a small network of our own."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from faces import weights
from faces.align import CROP
from faces.nets import open_brought, open_net

FILE = "age_sex.onnx"
SIDE = 96  # px, input of the network
CUT = 32  # px of a 256 px crop left out at each side: hair and shoulders say less than the face
AGES = np.arange(91)  # years, one output of the network for each; the last stands for 90 and more


@dataclass(frozen=True)
class Look:
    """female, glasses: probabilities in [0, 1]; ages: (91,) float32, probability of each of `AGES`, sums to 1."""

    female: float
    ages: np.ndarray
    glasses: float = 0.0

    @property
    def age(self) -> float:
        """Expected age in years."""
        return float(self.ages @ AGES)

    def between(self, first: int, last: int) -> float:
        """Probability of an age from `first` to `last` years, both included."""
        return float(self.ages[(first <= AGES) & (last >= AGES)].sum())


class Looker:
    """The network, as trainer/groups.py writes it.

    >>> import numpy
    >>> 0 <= Looker()(numpy.zeros((256, 256, 3), numpy.uint8)).female <= 1
    True
    """

    def __init__(self, models: Path = weights.FOLDER, file: Path | None = None):
        """file: another network than the shipped one, whose hash is not checked."""
        outputs = ("female", "ages", "glasses")
        self._net = open_brought(file, (1, 3, SIDE, SIDE), outputs) if file else open_net(weights.path(FILE, models))

    def __call__(self, crop: np.ndarray) -> Look:
        """crop: (S, S, 3) uint8 RGB, aligned, S = 256 or another size -> what one look says."""
        found = self._net(network_input(crop)[None])
        female, glasses = (float(found[name].ravel()[0]) for name in ("female", "glasses"))
        return Look(female, found["ages"].ravel().copy(), glasses)


def network_input(crop: np.ndarray) -> np.ndarray:
    """(S, S, 3) uint8 RGB, a whole crop of any size -> (3, 96, 96) float32 in [-1, 1]: its middle."""
    cut = round(CUT * crop.shape[0] / CROP)
    middle = np.ascontiguousarray(crop[cut:-cut, cut:-cut])
    small = cv2.resize(middle, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return small.transpose(2, 0, 1).astype(np.float32) / np.float32(127.5) - np.float32(1)
