"""The four groups told apart by us, and by public age and sex networks at the thresholds that suit them best.

The opponents' thresholds are chosen on the very pictures that they are judged on; ours are the rule of faces/groups.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from faces.judge import GROUPS, truth_of
from faces.nets import open_net
from faces.pictures import read
from faces.still import FaceFinder
from faces.tables import Person

ROOM = 1.0  # side of the opponents' square per height of the face from brow to chin


@dataclass(frozen=True)
class Guess:
    """What an age and sex network says: years, and the probability of a woman."""

    age: float
    female: float


def opponents(folder: Path) -> dict[str, Callable[[np.ndarray], Guess]]:
    """Public networks that lie in `folder`, by name: (S, S, 3) uint8 RGB tight square of a face -> what it says."""
    found: dict[str, Callable[[np.ndarray], Guess]] = {}
    if (folder / "agegender_xception112.onnx").is_file():
        found["agegender_xception112"] = _xception(folder / "agegender_xception112.onnx")
    if (folder / "age-gender-retail-0013_fp16int8.xml").is_file():
        found["age-gender-retail-0013"] = _retail(folder / "age-gender-retail-0013_fp16int8.xml")
    return found


def _xception(path: Path) -> Callable[[np.ndarray], Guess]:
    net = open_net(path, (1, 3, 112, 112))

    def look(face: np.ndarray) -> Guess:
        small = cv2.resize(face, (112, 112), interpolation=cv2.INTER_AREA)
        found = net(small.transpose(2, 0, 1)[None].astype(np.float32))
        age, sex = sorted((values.ravel() for values in found.values()), key=len)
        return Guess(float(age[0]), float(sex[1]))

    return look


def _retail(path: Path) -> Callable[[np.ndarray], Guess]:
    net = open_net(path)

    def look(face: np.ndarray) -> Guess:
        small = cv2.resize(face, (62, 62), interpolation=cv2.INTER_AREA)[..., ::-1]
        found = net(small.transpose(2, 0, 1)[None].astype(np.float32))
        age, sex = sorted((values.ravel() for values in found.values()), key=len)
        return Guess(float(age[0]) * 100, float(sex[0]))

    return look


def best_accuracy(
    people: Sequence[Person], look: Callable[[np.ndarray], Guess], finder: FaceFinder
) -> dict[str, object]:
    """Balanced accuracy of an opponent at its best thresholds, and these: kids below, elderly from, women above."""
    truths, guesses = [], []
    for person in people:
        if (truth := truth_of(person)) is None:
            continue
        truths.append(GROUPS.index(truth))
        picture = read(person.path)
        found = finder(picture)
        guesses.append(None if found is None else look(tight(picture, found.points)))
    truth = np.array(truths)
    ages, female = (
        np.array([np.nan if guess is None else getattr(guess, part) for guess in guesses]) for part in ("age", "female")
    )
    best = (0.0, (0, 0, 0.0))
    for women_above in np.arange(0.2, 0.85, 0.05):
        sex = np.where(female > women_above, GROUPS.index("young-women"), GROUPS.index("young-men"))
        for kids_below in range(2, 32):
            for elderly_from in range(32, 80):
                told = np.where(
                    ages < kids_below,
                    GROUPS.index("kids"),
                    np.where(ages >= elderly_from, GROUPS.index("elderly"), sex),
                )
                right = (told == truth) & ~np.isnan(ages)
                accuracy = float(np.mean([right[truth == group].mean() for group in np.unique(truth)]))
                best = max(best, (accuracy, (kids_below, elderly_from, round(float(women_above), 2))))
    accuracy, thresholds = best
    return {"balanced_accuracy": round(accuracy, 4), "thresholds": list(thresholds)}


def tight(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The square around brow to chin that these networks were trained on: about 2.3 eye distances, a little below the
    eyes."""
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    side = ROOM * 2.3 * float(np.linalg.norm(points[1] - points[0]))
    x, y = (eyes * 0.55 + mouth * 0.45) - side / 2
    matrix = np.array([[1, 0, -x], [0, 1, -y]], np.float64)
    whole = max(2, round(side))
    return cv2.warpAffine(picture, matrix, (whole, whole), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
