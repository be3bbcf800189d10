"""What is done to a cartoon before it is pasted: skin and hair take the person's colours, the drawing some of the
person's own lines (detail.py), stray white is let go.

All masks are found on 64 px copies of crop and cartoon; the cartoon itself is touched by multiplications alone,
with a factor for each channel and pixel.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from faces.align import move
from faces.detail import ONE as DETAIL_ONE
from faces.detail import detail
from faces.hair import HairTone
from faces.skin import SkinTone
from faces.stray import keep

SMALL = 64  # px, side on which masks are found
ONE = 128  # factor 1 in uint8: factors reach from 0 to 2


@dataclass(frozen=True)
class Small:
    """cartoon: (64, 64, 4) uint8 RGBA; crop: (64, 64, 3) uint8 RGB; points: (468, 2) float32 px of these."""

    cartoon: np.ndarray
    crop: np.ndarray
    points: np.ndarray

    @functools.cached_property
    def lab(self) -> np.ndarray:
        """(64, 64, 3) float32: CIELAB of the crop, L 0 to 100; skin and hair both ask for it."""
        return cv2.cvtColor(self.crop.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


class Finish:
    """Remembers one person's colours.

    >>> cartoon = np.full((256, 256, 4), 255, np.uint8)
    >>> Finish()(cartoon, cartoon[..., :3], np.zeros((0, 2)), np.eye(2, 3), 0.0, 0.5, 0.5) is cartoon
    True
    """

    def __init__(self):
        self._skin, self._hair = SkinTone(), HairTone()

    def __call__(
        self,
        cartoon: np.ndarray,
        crop: np.ndarray,
        landmarks: np.ndarray,
        matrix: np.ndarray,
        t: float,
        tone: float,
        own: float = 0.0,
    ) -> np.ndarray:
        """The finished cartoon, or `cartoon` itself when no landmarks are known.

        cartoon: (S, S, 4) uint8 RGBA; crop: (S, S, 3) uint8 RGB; landmarks: (468, 2) px of the frame; matrix: (2, 3)
        frame -> crop; t: seconds; tone in [0, 1]: share of the person's own skin and hair colour; own in
        [0, 1]: share of their own lines.
        """
        if not len(landmarks):
            return cartoon
        side = cartoon.shape[0]
        small = _small(crop)
        points = move(matrix, landmarks) * np.float32(SMALL / side)
        factors = self._factors(Small(_small(cartoon), small, points), t, tone)
        finished = cv2.multiply(cartoon, cv2.resize(factors, (side, side)), scale=1 / ONE)
        if own > 0:
            factor = detail(crop, small, own)
            factors = cv2.merge([factor, factor, factor, np.full_like(factor, DETAIL_ONE)])
            finished = cv2.multiply(finished, factors, scale=1 / DETAIL_ONE)
        return finished

    def _factors(self, small: Small, t: float, tone: float) -> np.ndarray:
        """(64, 64, 4) uint8: the factor of each channel, in parts of 128."""
        factors = np.full((SMALL, SMALL, 4), ONE, np.uint8)
        parts = self._skin(small, t, tone) + self._hair(small, t, tone) if tone > 0 else []
        for mask, gain in parts:
            table = ONE * (1 + np.arange(256)[:, None] / 255 * (np.append(gain, 1.0) - 1))
            taken = cv2.LUT(cv2.cvtColor(mask, cv2.COLOR_GRAY2RGBA), np.rint(table).astype(np.uint8)[None])
            factors = cv2.multiply(factors, taken, scale=1 / ONE)
        cv2.mixChannels([cv2.convertScaleAbs(keep(small), alpha=ONE / 255)], [factors], [0, 3])
        return factors


def _small(picture: np.ndarray) -> np.ndarray:
    """At 64 px; four of each sixteen pixels are enough for masks, and take an eighth of the time."""
    return cv2.resize(picture, (SMALL, SMALL), interpolation=cv2.INTER_LINEAR)
