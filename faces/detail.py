"""A person's own lines in the drawing: wrinkles, beard, glasses, the set of the eyes.

    grey crop -> what a pixel is darker or lighter than its surroundings by -> factor on the drawing

What networks learned from one group's drawings smooth away comes back as a share of the crop's local contrast
(an unsharp mask, taken from one picture and given to another). Light and colour of a whole side of a face are
none of it, and what a camera's noise makes is left out.
"""

import functools

import cv2
import numpy as np

from faces.align import inside_frame

ONE = 192  # factor 1 in uint8
FINE, COARSE = 0.8, 10.0  # px of a 256 crop: below, noise; above, how a room is lit
COARSE_SIDE = 64  # px, side on which the surroundings are found
DARK = 16  # grey levels added to everything: what is nearly black has no contrast that could be told from noise
NOISE = 0.03  # logarithm of a contrast that counts as none, and is taken off every other
DARKEST, LIGHTEST = 0.4, 1.1  # factors
LEAST = 0.02  # share of the surroundings that must lie inside the frame to be told by


def detail(crop: np.ndarray, small: np.ndarray, share: float) -> np.ndarray:
    """crop: (S, S, 3) uint8 RGB; small: (64, 64, 3), the same crop; share in [0, 1] of its local contrast, in the
    logarithm -> (S, S) uint8: the factor of each pixel of its drawing, in parts of `ONE`.

    >>> set(detail(np.full((256, 256, 3), 90, np.uint8), np.full((64, 64, 3), 90, np.uint8), 0.5).ravel()) == {ONE}
    True
    """
    side = crop.shape[0]
    fine = cv2.GaussianBlur(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (7, 7), FINE * side / 256)
    coarse = cv2.resize(_surroundings(small), (side, side), interpolation=cv2.INTER_LINEAR)
    ratio = cv2.divide(cv2.add(fine, DARK), cv2.add(coarse, DARK), scale=_RATIO)
    return cv2.LUT(ratio, _factors(round(share, 3)))


def _surroundings(small: np.ndarray) -> np.ndarray:
    """(64, 64) uint8: how bright it is around each pixel, the white beyond the camera's frame left out."""
    grey, sigma = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), COARSE * COARSE_SIDE / 256
    blurred = cv2.GaussianBlur(grey, (0, 0), sigma)
    inside = inside_frame(small)
    if inside.all():
        return blurred
    known = cv2.erode(inside.astype(np.float32), np.ones((3, 3)))  # a pixel at the edge is half white
    share = cv2.GaussianBlur(known, (0, 0), sigma)
    of = cv2.GaussianBlur(grey * known, (0, 0), sigma)
    return np.where(share > LEAST, of / np.maximum(share, LEAST), blurred).round().astype(np.uint8)


_RATIO = 128  # ratio 1 in uint8


@functools.lru_cache(8)
def _factors(share: float) -> np.ndarray:
    """(256,) uint8: ratio in parts of `_RATIO` -> factor in parts of `ONE`."""
    contrast = np.log(np.maximum(np.arange(256), 1) / _RATIO)
    told = np.sign(contrast) * np.maximum(0, np.abs(contrast) - NOISE)
    return np.rint(np.exp(share * told).clip(DARKEST, LIGHTEST) * ONE).astype(np.uint8)
