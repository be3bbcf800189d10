"""Which group's style draws a face: looks at a crop, weighs the looks of a track, keeps to its choice.

The rule: under 13 is `kids`, over 60 is `elderly`, everyone between is `young-women` or `young-men` by sex.
So 13 to 17 and 41 to 60 are drawn as the young of their sex: the drawings know no group of their own for
them, and being drawn young by mistake offends less than being drawn old. A group that the model lacks, or
that is none of these four, is never chosen by itself; the first group stands in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from faces import weights
from faces.align import CROP
from faces.nets import open_net

AUTO = "auto"
KIDS_BELOW, ELDERLY_ABOVE = 13, 60  # years
YOUNG_FROM, YOUNG_TO = 18, 40
SIDE = 80  # px, input of the network
CUT = 32  # px of a 256 px crop left out at each side: hair and shoulders say less than the face
AGES = np.arange(91)  # years, one output of the network for each; the last stands for 90 and more

FIRST_LOOKS, FIRST_EVERY_S = 8, 0.12  # a new face is judged within its first second
EVERY_S = 1.5  # and then now and then: 1 ms a look is 0.03 ms a frame
STEADY_S = 1.0  # another group must lead for this long before it draws
MEMORY_LOOKS = 20  # looks over which probabilities are averaged
MAX_YAW_DEG, MAX_BLUR = 35, 0.8  # a turned or smeared face says little


@dataclass(frozen=True)
class Look:
    """female: probability in [0, 1]; ages: (91,) float32, probability of each of `AGES`, sums to 1."""

    female: float
    ages: np.ndarray

    @property
    def age(self) -> float:
        """Expected age in years."""
        return float(self.ages @ AGES)


class Looker:
    """The age and sex network.

    >>> import numpy
    >>> 0 <= Looker()(numpy.zeros((256, 256, 3), numpy.uint8)).female <= 1
    True
    """

    def __init__(self, models: Path = weights.FOLDER):
        self._net = open_net(weights.path("age_sex.onnx", models))

    def __call__(self, crop: np.ndarray) -> Look:
        """crop: (256, 256, 3) uint8 RGB, aligned -> what one look says. About 1 ms."""
        found = self._net(network_input(crop)[None])
        return Look(float(found["female"].ravel()[0]), found["ages"].ravel().copy())


def network_input(crop: np.ndarray) -> np.ndarray:
    """(S, S, 3) uint8 RGB, a whole crop of any size -> (3, 80, 80) float32 in [-1, 1]: its middle."""
    cut = round(CUT * crop.shape[0] / CROP)
    middle = np.ascontiguousarray(crop[cut:-cut, cut:-cut])
    small = cv2.resize(middle, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return small.transpose(2, 0, 1).astype(np.float32) / np.float32(127.5) - np.float32(1)


def group_of(age: int, female: bool) -> str | None:
    """The group that a face of known age (years) and sex surely belongs to; None for 13 to 17 and 41 to 60."""
    if age < KIDS_BELOW:
        return "kids"
    if age > ELDERLY_ABOVE:
        return "elderly"
    if YOUNG_FROM <= age <= YOUNG_TO:
        return "young-women" if female else "young-men"
    return None


def shares(look: Look, groups: Sequence[str]) -> np.ndarray:
    """Probability of each of `groups` by the rule above -> (len(groups),) float32, sums to 1."""
    kid = float(look.ages[AGES < KIDS_BELOW].sum())
    old = float(look.ages[AGES > ELDERLY_ABOVE].sum())
    between = max(0.0, 1 - kid - old)
    by_name = {
        "kids": kid,
        "elderly": old,
        "young-women": between * look.female,
        "young-men": between * (1 - look.female),
    }
    found = np.array([by_name.get(group, 0.0) for group in groups], np.float32)
    found[0] += max(0.0, 1 - float(found.sum()))
    return found


class Router:
    """One track's group: averages looks and changes its mind only after a second of steady evidence."""

    def __init__(self, groups: Sequence[str]):
        self._groups = tuple(groups)
        self._mean = np.zeros(len(self._groups), np.float32)
        self._looks = 0
        self._last_look: float | None = None
        self._choice = 0
        self._rival, self._rival_since = 0, 0.0

    @property
    def group(self) -> str:
        """The group that draws this face now."""
        return self._groups[self._choice]

    def wants_look(self, t: float, yaw: float, blur: float) -> bool:
        """Whether a look at `t` seconds is due and would say something."""
        if self._last_look is None:
            return True
        if abs(yaw) > MAX_YAW_DEG or blur > MAX_BLUR:
            return False
        due = FIRST_EVERY_S if self._looks < FIRST_LOOKS or self._rival != self._choice else EVERY_S
        return t - self._last_look >= due

    def add(self, look: Look, t: float) -> None:
        """Take in a look made at `t` seconds."""
        self._looks += 1
        share = 1 / min(self._looks, MEMORY_LOOKS)
        self._mean = self._mean + np.float32(share) * (shares(look, self._groups) - self._mean)
        leader = int(self._mean.argmax())
        if self._last_look is None:
            self._choice = self._rival = leader
        if leader != self._rival:
            self._rival, self._rival_since = leader, t
        if self._rival != self._choice and t - self._rival_since >= STEADY_S:
            self._choice = self._rival
        self._last_look = t
