"""Gives the cartoon's skin a share of the person's own skin colour.

The drawings the generator learns from paint every skin near-white. The person's colour is measured on the
crop at points of cheeks and forehead, the paint's at the same points of the cartoon. The change is a factor
on near-white paint inside face, ears and neck and wherever else the camera sees that skin, so that lines stay dark;
the whites of eyes become half as dark. (A mouth is often drawn less open than it is: a hole in the mask there would
leave a white chin.)
"""

from collections.abc import Iterator

import cv2
import numpy as np

from faces.align import inside_frame
from faces.colour import Steady, ramp
from faces.regions import fill, grown, neck

PAINT_FROM, PAINT_FULL = 150, 200  # darkest channel of a pixel from which it counts as paint, and counts in full
FACE = (1.18, 1.35, 1.05)  # the outline grown sideways (ears), upwards (forehead under the hair), downwards
OPEN = 1.5  # px of 64: lids closer than this show no white
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

    def __call__(self, small, t: float, tone: float) -> tuple[np.ndarray, np.ndarray] | None:
        """`finish.Small` at `t` seconds, tone in [0, 1] -> mask (64, 64) uint8 and RGB factors (3,), or None."""
        paint = _paint(small.cartoon)
        if self._steady.due(t):
            x, y = np.round(small.points[_POINTS]).astype(int).clip(0, paint.shape[0] - 1).T
            painted = (paint[y, x] > 128) & inside_frame(small.crop[y, x])
            if painted.sum() >= FEWEST:
                x, y = x[painted], y[painted]
                self._steady.add(_lit(small.crop[y, x]), _lit(small.cartoon[y, x, :3]), t)
        if not self._steady.known:
            return None
        # Grown over the thin lines inside the paint: a factor leaves them dark, a gap would bead them with white.
        mask = cv2.multiply(cv2.dilate(paint, _GROW), self._where(small), scale=1 / 255)
        return mask, self._steady.gain(tone, 0.1, 1.0)

    def whites(self, small, tone: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Likewise for the whites of open eyes: half as dark as the skin becomes, and grey; left at the paint's white
        they glow in a dark face."""
        if not self._steady.known:
            return None
        mask = np.zeros(small.crop.shape[:2], np.uint8)
        for eye in _open_eyes(small.points):
            fill(mask, eye, 255)
        mask = cv2.multiply(cv2.blur(mask, (3, 3)), _paint(small.cartoon), scale=1 / 255)
        return mask, np.full(3, np.sqrt(self._steady.gain(tone, 0.1, 1.0).mean()))

    def _where(self, small) -> np.ndarray:
        """(64, 64) uint8: face with ears and neck, and what the camera sees in the skin's colour, as bald heads, hands
        and cheeks in profile; without open eyes."""
        where = np.zeros(small.crop.shape[:2], np.uint8)
        fill(where, grown(small.points, FACE), 255)
        fill(where, neck(small.points), 255)
        alike = self._steady.alike(small.lab, ALIKE_FULL, ALIKE_FROM, LIGHTNESS) * inside_frame(small.crop)
        where = cv2.blur(cv2.max(where, alike), (5, 5))
        for eye in _open_eyes(small.points):
            fill(where, eye, 0)
        return where


def _open_eyes(points: np.ndarray) -> Iterator[np.ndarray]:
    """Outlines of the eyes that show a white, a little inside the lids."""
    for eye in (points[indices] for indices in _EYES):
        if float(np.ptp(eye[:, 1])) > OPEN:
            middle = eye.mean(axis=0)
            yield middle + (eye - middle) * 0.8


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
