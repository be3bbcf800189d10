"""How a person's face is lit, and how dark cheeks, jaw and temples are: the broad light and shade of the crop, given to
the drawing.

Networks that learned from one group's drawings paint every face as evenly lit white paper; without a man's darker jaw
and an old person's hollows, people and judges see a young woman. How bright the whole face is stays the drawing's.
"""

import cv2
import numpy as np

from faces.align import inside_frame
from faces.landmarks import OVAL
from faces.regions import fill

BROAD = 1.0  # px of 64: light and shade are what is broader than this
DARK = 16  # grey levels added to both: between two blacks there is no factor
DARKEST, LIGHTEST = 0.5, 1.15  # factors: lighter, and pale paint burns out
INSIDE = 128  # of the face's mask, from which a pixel counts as the face's


def light(drawn: np.ndarray, crop: np.ndarray, points: np.ndarray, share: float) -> np.ndarray:
    """drawn, crop: (S, S, 3) uint8 RGB, small copies; points: (468, 2) px of them; share in [0, 1] of the way from the
    drawing's light and shade to the person's, in the logarithm -> (S, S) float32: the factor of each pixel, 1 outside
    the face and in the middle of what is in it.

    >>> grey = np.full((64, 64, 3), 90, np.uint8)
    >>> set(light(grey, grey, np.random.default_rng(0).uniform(9, 50, (468, 2)), 0.5).ravel()) == {1.0}
    True
    """
    face = np.zeros(crop.shape[:2], np.uint8)
    fill(face, points[OVAL], 255)
    inside = (face >= INSIDE) & inside_frame(crop)
    if not inside.any():
        return np.ones(face.shape, np.float32)
    person, paint = (
        cv2.GaussianBlur(cv2.cvtColor(each, cv2.COLOR_RGB2GRAY), (0, 0), BROAD).astype(np.float32) + DARK
        for each in (crop, drawn)
    )
    ratio = person / paint
    factor = cv2.pow(ratio / np.median(ratio[inside]), share).clip(DARKEST, LIGHTEST)
    return 1 + (factor - 1) * (cv2.blur(face, (5, 5)) / np.float32(255))
