"""Gives the cartoon's skin a share of the person's own skin colour.

The drawings the generator learns from paint every skin near-white. The person's colour is measured on the
crop at points of cheeks and forehead, the paint's at the same points of the cartoon. The change is a factor
on near-white paint inside face, ears and neck and wherever else the camera sees that skin, so that lines stay dark;
the whites of open eyes become half as dark. (A mouth is often drawn less open than it is: a hole in the mask there
would leave a white chin.)
"""

from collections.abc import Iterator

import cv2
import numpy as np

from faces.align import inside_frame
from faces.colour import Steady, ramp
from faces.regions import fill, grown, neck

PAINT_FROM, PAINT_FULL = 150, 200  # darkest channel of a pixel from which it counts as paint, and counts in full
FACE = (1.18, 1.35, 1.05)  # the outline grown sideways (ears), upwards (forehead under the hair), downwards
CLOSED, OPEN = 1.4, 2.4  # px of 64 between the lids: eyes without a white, and those that show all of it
ALIKE_FULL, ALIKE_FROM = 12, 22  # CIELAB distance to the skin: skin anywhere in full, and no skin
LIGHTNESS = 0.4  # of a distance in L: a bald head is lit from above, a hand lies in the shade
SHINE = 1.15  # times the median, brighter than which skin shines
FEWEST = 4  # of the 16 points that must lie on paint for a measurement
_POINTS = [50, 101, 118, 205, 187, 36, 280, 330, 347, 425, 411, 266, 9, 151, 107, 336]
_EYES = (
    [33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246],
    [263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466],
)
_GROW = np.ones((3, 3), np.uint8)


class SkinTone:
    """Remembers one person's skin and the paint's colour."""

    def __init__(self):
        self._steady = Steady()

    def __call__(self, small, t: float, tone: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """`finish.Small` at `t` seconds, tone in [0, 1] -> masks (64, 64) uint8 with their RGB factors (3,): of the
        skin, and of the whites of open eyes, which become half as dark and grey (left at the paint's white they glow
        in a dark face). None before a skin was seen."""
        paint = _paint(small.cartoon)
        if self._steady.due(t):
            x, y = np.round(small.points[_POINTS]).astype(int).clip(0, paint.shape[0] - 1).T
            painted = (paint[y, x] > 128) & inside_frame(small.crop[y, x])
            if painted.sum() >= FEWEST:
                x, y = x[painted], y[painted]
                self._steady.add(_lit(small.crop[y, x]), _lit(small.cartoon[y, x, :3]), t)
        if not self._steady.known:
            return []
        gain = self._steady.gain(tone, 0.1, 1.0)
        # Grown over the thin lines inside the paint: a factor leaves them dark, a gap would bead them with white.
        skin = cv2.multiply(cv2.dilate(paint, _GROW), self._where(small), scale=1 / 255)
        whites = cv2.multiply(_whites(small.points), paint, scale=1 / 255)
        return [(skin, gain), (whites, np.full(3, np.sqrt(gain.mean())))]

    def _where(self, small) -> np.ndarray:
        """(64, 64) uint8: face with ears and neck, and what the camera sees in the skin's colour, as bald heads, hands
        and cheeks in profile; without the whites of open eyes."""
        where = np.zeros(small.crop.shape[:2], np.uint8)
        fill(where, grown(small.points, FACE), 255)
        fill(where, neck(small.points), 255)
        alike = self._steady.alike(small.lab, ALIKE_FULL, ALIKE_FROM, LIGHTNESS) * inside_frame(small.crop)
        where = cv2.blur(cv2.max(where, alike), (5, 5))
        for eye, openness in _eyes(small.points):
            fill(where, eye, round(255 * (1 - openness)))
        return where


def _eyes(points: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """Outlines of both eyes, a little inside the lids, and how open each is, 0 to 1: a blink does not flash, and narrow
    eyes, which are drawn without an iris, show no white crescent."""
    for eye in (points[indices] for indices in _EYES):
        middle = eye.mean(axis=0)
        yield middle + (eye - middle) * 0.8, float(np.interp(np.ptp(eye[:, 1]), (CLOSED, OPEN), (0, 1)))


def _whites(points: np.ndarray) -> np.ndarray:
    """(64, 64) uint8: how much of a pixel lies inside an open eye."""
    mask = np.zeros((64, 64), np.uint8)
    for eye, openness in _eyes(points):
        fill(mask, eye, round(255 * openness))
    return cv2.blur(mask, (3, 3))


def _paint(rgba: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 -> (H, W) uint8: 255 where it is bright in every channel, so near-white and of low chroma."""
    red, green, blue, _ = cv2.split(rgba)
    return cv2.LUT(cv2.min(cv2.min(red, green), blue), ramp(PAINT_FROM, PAINT_FULL))


def _lit(colours: np.ndarray) -> np.ndarray:
    """(N, 3) -> (3,): mean of the brighter half. Paint shows skin in the light; with its shade it looks like a tan. But
    what is far above the middle shines, dark skin most of all, and is no colour of it."""
    order = np.argsort(colours.sum(axis=1, dtype=np.int32))
    lit = colours[order[len(order) // 2 :]].mean(axis=0)
    return np.minimum(lit, SHINE * np.median(colours, axis=0))
