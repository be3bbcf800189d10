"""How a person's face is lit, and how dark cheeks, jaw and temples are: the broad light and shade of the crop, given to
the drawing.

Networks that learned from one group's drawings paint every face as evenly lit white paper; without a man's darker jaw
and an old person's hollows, people and judges see a young woman.
"""

import functools

import cv2
import numpy as np

from faces.landmarks import OVAL
from faces.regions import fill

BROAD = 1.0  # px of 64: light and shade are what is broader than this
DARK = 16  # grey levels added to both: between two blacks there is no factor
DARKEST, LIGHTEST = 0.5, 1.3  # factors
_RATIO = 128  # ratio 1 in uint8


def light(drawn: np.ndarray, crop: np.ndarray, points: np.ndarray, share: float) -> np.ndarray:
    """drawn, crop: (S, S, 3) uint8 RGB, small copies; points: (468, 2) px of them; share in [0, 1] of the way from the
    drawing's light to the person's -> (S, S) float32: the factor of each pixel, 1 outside the face.

    >>> grey = np.full((64, 64, 3), 90, np.uint8)
    >>> set(light(grey, grey, np.random.default_rng(0).uniform(9, 50, (468, 2)), 0.5).ravel()) == {1.0}
    True
    """
    person, paint = (
        cv2.GaussianBlur(cv2.cvtColor(each, cv2.COLOR_RGB2GRAY), (0, 0), BROAD) for each in (crop, drawn)
    )
    ratio = cv2.divide(cv2.add(person, DARK), cv2.add(paint, DARK), scale=_RATIO)
    face = np.zeros(person.shape, np.uint8)
    fill(face, points[OVAL], 255)
    return 1 + (cv2.LUT(ratio, _factors(round(share, 3))) - 1) * (cv2.blur(face, (5, 5)) / np.float32(255))


@functools.lru_cache(8)
def _factors(share: float) -> np.ndarray:
    """(256,) float32: ratio in parts of `_RATIO` -> factor."""
    return np.power(np.maximum(np.arange(256), 1) / _RATIO, share).clip(DARKEST, LIGHTEST).astype(np.float32)
