"""Gives the cartoon's hair a share of the person's own hair colour.

The drawings know only brown hair. Where long hair or a fringe runs out of the crop, brown would end in black
or blond. Measured above the forehead, where the cartoon draws something dark; applied around the face
wherever the camera sees about the measured colour, so that a shirt keeps its own.
"""

import cv2
import numpy as np

from faces.colour import Steady, ramp
from faces.regions import fill, grown

FACE = (1.02, 0.8, 1.02)  # up to the brows: never hair; above them a fringe may hang
CROWN = (1.3, 1.9, 0.0)  # around the upper half of the face: where hair is looked for
FEWEST = 40  # px of 64 x 64 that must be drawn dark for a measurement: bald heads have none
DARK_FROM, DARK_FULL = 215, 170  # brightest channel of the cartoon under which it may be hair, and is in full
ALIKE_FULL, ALIKE_FROM = 22, 45  # CIELAB distance to the measured colour: hair in full, and no hair
BRIGHTEST = 1.95  # factors are kept in uint8 as parts of 128


class HairTone:
    """Remembers one person's hair and the paint's colour."""

    def __init__(self):
        self._steady = Steady()

    def __call__(self, small, t: float, tone: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """`finish.Small` at `t` seconds, tone in [0, 1] -> mask (64, 64) uint8 with its RGB factors (3,); none before
        hair was seen."""
        drawn = _drawn(small)
        if self._steady.due(t):
            crown = np.zeros_like(drawn)
            fill(crown, grown(small.points, CROWN), 255)
            where = (cv2.min(drawn, crown) > 128) & (small.cartoon[..., 3] > 128)
            if where.sum() >= FEWEST:
                self._steady.add(small.crop[where].mean(axis=0), small.cartoon[..., :3][where].mean(axis=0), t)
        if not self._steady.known:
            return []
        alike = self._steady.alike(small.lab, ALIKE_FULL, ALIKE_FROM)
        mask = cv2.blur(cv2.multiply(drawn, alike, scale=1 / 255), (3, 3))
        return [(mask, self._steady.gain(tone, 0.2, BRIGHTEST))]


def _drawn(small) -> np.ndarray:
    """(64, 64) uint8: 255 where the cartoon is dark outside the face."""
    red, green, blue, _ = cv2.split(small.cartoon)
    dark = cv2.LUT(cv2.max(cv2.max(red, green), blue), ramp(DARK_FROM, DARK_FULL))
    fill(dark, grown(small.points, FACE), 0)
    return dark
