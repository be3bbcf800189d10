"""Gives the cartoon's skin a share of the person's own skin colour.

The drawings the generator learns from paint every skin near-white. The person's colour is measured on the
crop, at points of cheeks and forehead, in CIELAB; the paint's own colour at the same points of the cartoon.
Both are steadied over a second. The change is a factor per channel on near-white paint inside face, ears
and neck, so that lines stay dark; eyes stay as drawn. (A mouth is often drawn less open than it is: a hole in
the mask there would leave a white chin.)
"""

import math

import cv2
import numpy as np

from faces.align import move
from faces.landmarks import OVAL

MEASURE_EVERY_S = 0.1
STEADY_S = 1.0  # light from a screen flickers faster than this, a person's skin does not change
PAINT_FROM, PAINT_FULL = 150, 200  # darkest channel of a pixel from which it counts as paint, and counts in full
OPEN = 1.5  # px of 64: lids closer than this show no white
FEWEST = 4  # of the 16 points that must lie on paint for a measurement
_CHEEKS = [50, 101, 118, 205, 187, 36, 280, 330, 347, 425, 411, 266, 9, 151, 107, 336]
_EYES = (
    [33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246],
    [263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466],
)
_JAW = [172, 152, 397]  # its left corner, the chin, its right corner
_SMALL = 64  # px, side on which paint and skin are found


class SkinTone:
    """Remembers one person's skin and paint colour; `reset` for another person.

    >>> import numpy
    >>> cartoon = numpy.full((256, 256, 4), 255, numpy.uint8)
    >>> SkinTone()(cartoon, cartoon[..., :3], numpy.zeros((0, 2)), numpy.eye(2, 3), 0.0, 0.5) is cartoon
    True
    """

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        """Forget the colours: the next ones are taken as they are."""
        self._lab: np.ndarray | None = None

    def __call__(
        self, cartoon: np.ndarray, crop: np.ndarray, landmarks: np.ndarray, matrix: np.ndarray, t: float, tone: float
    ) -> np.ndarray:
        """The coloured cartoon, or `cartoon` itself when there is nothing to do.

        cartoon: (S, S, 4) uint8 RGBA; crop: (S, S, 3) uint8 RGB; landmarks: (468, 2) px of the frame; matrix: (2, 3)
        frame -> crop; t: seconds; tone in [0, 1].
        """
        if tone <= 0 or not len(landmarks):
            return cartoon
        side = cartoon.shape[0]
        points = move(matrix, landmarks) * (_SMALL / side)
        small = cv2.resize(cartoon, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA)
        paint = _paint(small)
        if self._lab is None or t - self._t >= MEASURE_EVERY_S:
            at = np.round(points[_CHEEKS]).astype(int).clip(0, _SMALL - 1)
            at = at[paint[at[:, 1], at[:, 0]] > 128]
            if len(at) >= FEWEST:
                person = cv2.resize(crop, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA)
                self._steady(np.stack([_colour(person, at), _colour(small, at)]), t)
        if self._lab is None:
            return cartoon
        # Grown over the thin lines inside the paint: a factor leaves them dark, a gap would bead them with white.
        mask = cv2.multiply(cv2.dilate(paint, np.ones((3, 3), np.uint8)), _skin_region(points), scale=1 / 255)
        table = 255 - np.arange(256)[:, None] * (1 - np.append(_gain(*self._lab, tone), 1.0))
        factors = cv2.LUT(cv2.cvtColor(mask, cv2.COLOR_GRAY2RGBA), np.round(table).astype(np.uint8)[None])
        return cv2.multiply(cartoon, cv2.resize(factors, (side, side)), scale=1 / 255)

    def _steady(self, lab: np.ndarray, t: float) -> None:
        """Take in (2, 3) CIELAB of person and paint, low-passed."""
        share = 1.0 if self._lab is None else 1 - math.exp((self._t - t) / STEADY_S)
        self._lab = lab if self._lab is None else self._lab + share * (lab - self._lab)
        self._t = t


def _paint(rgba: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 -> (H, W) uint8: 255 where it is bright in every channel, so near-white and of low chroma."""
    red, green, blue, _ = cv2.split(rgba)
    darkest = cv2.min(cv2.min(red, green), blue)
    ramp = (np.arange(256) - PAINT_FROM) * (255 / (PAINT_FULL - PAINT_FROM))
    return cv2.LUT(darkest, ramp.clip(0, 255).astype(np.uint8))


def _colour(picture: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Mean colour of the brighter half of the points (N, 2) x, y -> (3,) CIELAB (L 0 to 100).

    Paint shows skin in the light: the middle of lit and shaded cheek looks like a tan.
    """
    colours = picture[at[:, 1], at[:, 0], :3].astype(np.float32) / 255
    bright = colours[np.argsort(colours.sum(axis=1))[len(colours) // 2 :]].mean(axis=0)
    return cv2.cvtColor(bright[None, None], cv2.COLOR_RGB2LAB)[0, 0]


def _gain(person: np.ndarray, paint: np.ndarray, tone: float) -> np.ndarray:
    """Factor per channel (3,) that takes the paint's colour the share `tone` of the way to the person's."""
    aim = paint + tone * (person - paint)
    rgb = cv2.cvtColor(np.stack([aim, paint])[None].astype(np.float32), cv2.COLOR_LAB2RGB)[0]
    return (rgb[0].clip(0.02, 1) / rgb[1].clip(0.02, 1)).clip(0.1, 1)


def _skin_region(points: np.ndarray) -> np.ndarray:
    """(64, 64) uint8: face with ears and neck, without open eyes; points: (468, 2) px of the 64."""
    region = np.zeros((_SMALL, _SMALL), np.uint8)
    oval = points[OVAL]
    centre = oval.mean(axis=0)
    # The outline of the mesh leaves out ears and the forehead under the hair.
    away = oval - centre
    _fill(region, centre + away * np.where(away[:, 1:] < 0, (1.18, 1.35), (1.18, 1.05)), 255)
    left, chin, right = points[_JAW]
    down = np.array([0, 1.1 * (chin[1] - left[1]) + 6])
    _fill(region, np.stack([left, chin, right, right + down, left + down]), 255)
    region = cv2.blur(region, (5, 5))
    for hole in (points[eye] for eye in _EYES):
        if float(np.ptp(hole[:, 1])) > OPEN:
            _fill(region, hole.mean(axis=0) + (hole - hole.mean(axis=0)) * 0.8, 0)
    return region


def _fill(mask: np.ndarray, polygon: np.ndarray, value: int) -> None:
    cv2.fillPoly(mask, [np.round(polygon * 16).astype(np.int32)], value, lineType=cv2.LINE_AA, shift=4)
