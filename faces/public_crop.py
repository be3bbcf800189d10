"""The crop that the published photo2cartoon family was trained with, for checkpoints that come from there.

Their rule, on 68 points: turned until the outer corners of the eyes are level; the box of all points, with 0.8 of its
height above, 0.3 below and 0.3 of its width at each side; the shorter side widened to a square. That is a turn, a scale
and a shift like ours, and on a face seen from the front nearly the same. But the box ends at the outermost points of
jaw and brows, which shake the most. So it is found in the face's own template crop, where the head's movements are
taken out, steadied there, and carried back by the five steady points.
"""

from collections.abc import Callable

import numpy as np

from faces.align import CROP, align_matrix, inverse, move
from faces.landmarks import five
from faces.smooth import OneEuro
from livetoon.errors import DataError, UsageError

# The 68 points in their usual order (iBUG 300-W): jaw, brows, nose, eyes, outer and inner lips, as points of the mesh.
# fmt: off
SIXTY_EIGHT = np.array([
    127, 234, 93, 132, 138, 136, 150, 176, 152, 400, 379, 365, 367, 361, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 321, 314, 17, 84, 91,
    78, 82, 13, 312, 308, 317, 14, 87,
])
# fmt: on
LIVETOON, PHOTO2CARTOON = "livetoon", "photo2cartoon"
OUTER_CORNERS = (36, 45)  # of the eyes, left in the picture first
ABOVE, BELOW, BESIDE = 0.8, 0.3, 0.3  # of the box's height, height and width
# A mouth that opens moves the chin and with it the whole crop: this slow, it breathes with the head's turns alone.
CUTOFF_HZ = 0.5

Framing = Callable[[np.ndarray, np.ndarray, float, int], np.ndarray]


def framing(name: str) -> Framing:
    """What frames one face, one of `FRAMINGS`: (points (5, 2) px, landmarks (468, 2) px, t seconds, size px) ->
    (2, 3) frame -> crop.

    UsageError for another name.
    """
    if name not in FRAMINGS:
        raise UsageError(f"crop {name!r}: choose one of {', '.join(FRAMINGS)}")
    return FRAMINGS[name]()


class HeadSquare:
    """Remembers how the square of one face lies in its template crop.

    >>> square = HeadSquare()
    >>> face = np.random.default_rng(0).uniform(50, 150, (468, 2)).astype(np.float32)
    >>> square(five(face), face, 0.0).shape
    (2, 3)
    """

    def __init__(self):
        self._steady = OneEuro(CUTOFF_HZ, 0.0)

    def __call__(self, points: np.ndarray, landmarks: np.ndarray, t: float, size: int = CROP) -> np.ndarray:
        """points: (5, 2) px, steadied; landmarks: (468, 2) px as they were fitted -> (2, 3) float64, frame -> crop."""
        raw = align_matrix(five(landmarks))
        corners = self._steady(head_square(move(raw, landmarks[SIXTY_EIGHT])), t)
        return square_matrix(move(inverse(align_matrix(points)), corners), size)


def head_square(points: np.ndarray) -> np.ndarray:
    """points: (68, 2) px -> (2, 2) float64 px: top left and bottom right corner of the turned square around the head.

    DataError when the corners of the eyes lie in one place or are not numbers.
    """
    points = np.asarray(points, np.float64)
    left, right = points[list(OUTER_CORNERS)]
    length = float(np.hypot(*(right - left)))
    if not (np.isfinite(points).all() and length > 1e-3):
        raise DataError("68 points that are numbers, with eyes that lie apart, are needed for this crop")
    cos, sin = (right - left) / length
    turn = np.array([[cos, sin], [-sin, cos]])  # until the eyes are level
    upright = points @ turn.T
    low, high = upright.min(axis=0), upright.max(axis=0)
    width, height = high - low
    low -= BESIDE * width, ABOVE * height
    high += BESIDE * width, BELOW * height
    middle, half = (low + high) / 2, float((high - low).max()) / 2
    return np.stack([middle - half, middle + half]) @ turn


def square_matrix(corners: np.ndarray, size: int = CROP) -> np.ndarray:
    """corners: (2, 2) px, top left and bottom right of a square -> (2, 3) float64, frame -> crop of `size` px."""
    top_left, bottom_right = (complex(*corner) for corner in np.asarray(corners, np.float64).tolist())
    # As complex numbers a turn with scale is one factor. The square ends at the outer edges of the crop's pixels.
    factor = complex(size, size) / (bottom_right - top_left)
    shift = complex(-0.5, -0.5) - factor * top_left
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def _template(points: np.ndarray, landmarks: np.ndarray, t: float, size: int = CROP) -> np.ndarray:
    return align_matrix(points, size)


FRAMINGS: dict[str, Callable[[], Framing]] = {LIVETOON: lambda: _template, PHOTO2CARTOON: HeadSquare}
