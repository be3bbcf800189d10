"""A face with the proportions of a drawing: larger eyes, a smaller nose and mouth.

Unpaired drawings teach a network how to paint, hardly how to move an eye by ten pixels. So the photo is given the
drawing's proportions first, and what a teacher draws of it becomes the drawing of the photo as it was (distill.py).
"""

from dataclasses import dataclass

import cv2
import numpy as np

REACH = 0.52  # of an eye's magnification, in eye distances: the two just touch


@dataclass(frozen=True)
class Proportions:
    """Factors of each part's size, 1: as it is."""

    eyes: float = 1.0
    nose: float = 1.0
    mouth: float = 1.0

    def __bool__(self) -> bool:
        return (self.eyes, self.nose, self.mouth) != (1.0, 1.0, 1.0)


AS_THEY_ARE = Proportions()


def exaggerate(picture: np.ndarray, points: np.ndarray, proportions: Proportions) -> np.ndarray:
    """picture: (H, W, 3) uint8 RGB; points: (5, 2) px, eyes, nose, corners of the mouth -> a picture alike, in which
    each part is larger or smaller by its factor and the rest of the face gives way smoothly.

    >>> plain = np.full((64, 64, 3), 7, np.uint8)
    >>> face = np.array([(25, 30), (39, 30), (32, 39), (26, 44), (38, 44)], np.float32)
    >>> bool((exaggerate(plain, face, Proportions(eyes=1.5)) == plain).all())
    True
    """
    points = np.asarray(points, np.float32)
    distance = float(np.linalg.norm(points[1] - points[0]))
    mouth = points[3:].mean(axis=0)
    parts = [
        (points[0], REACH * distance, proportions.eyes),
        (points[1], REACH * distance, proportions.eyes),
        (points[2], 0.40 * distance, proportions.nose),
        (mouth, 0.62 * distance, proportions.mouth),
    ]
    height, width = picture.shape[:2]
    places = np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))
    source = places.copy()
    for centre, reach, factor in parts:
        away = places - centre
        near = np.maximum(0, 1 - (away**2).sum(axis=2, keepdims=True) / reach**2) ** 2  # 1 in the middle, 0 outside
        source -= away * near * (1 - 1 / factor)
    return cv2.remap(picture, source, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
