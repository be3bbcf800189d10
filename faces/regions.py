"""Parts of a head as polygons and masks, made from the 468 points."""

import cv2
import numpy as np

from faces.landmarks import OVAL

_JAW = [172, 152, 397]  # its left corner, the chin, its right corner


def grown(points: np.ndarray, factors: tuple[float, float, float]) -> np.ndarray:
    """(468, 2) -> (36, 2): the face's outline grown from its middle: sideways, upwards, downwards.

    The outline of the mesh leaves out the ears and all above the hairline.
    """
    sideways, upwards, downwards = factors
    oval = points[OVAL]
    away = oval - oval.mean(axis=0)
    factor = np.where(away[:, 1:] < 0, (sideways, upwards), (sideways, downwards))
    return oval.mean(axis=0) + away * factor


def neck(points: np.ndarray, wider: float = 1.0) -> np.ndarray:
    """(468, 2) -> (5, 2): from the corners of the jaw down by about the height of the lower face."""
    left, chin, right = points[_JAW]
    aside = (right - left) * (wider - 1) / 2
    down = np.array([0, 1.1 * (chin[1] - left[1]) + 0.12 * abs(right[0] - left[0])])
    return np.stack([left - aside, chin, right + aside, right + aside + down, left - aside + down])


def fill(mask: np.ndarray, polygon: np.ndarray, value: int) -> None:
    """Draw a polygon (N, 2) px into a uint8 mask, in place, with sixteenths of a pixel: whole ones would jump."""
    cv2.fillPoly(mask, [np.round(polygon * 16).astype(np.int32)], value, lineType=cv2.LINE_AA, shift=4)
