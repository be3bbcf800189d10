"""Finds white that the generator drew where no person is.

Its drawings stand on white, so where it takes a piece of the room or a shirt for the person, it leaves
white smoke there. White is kept inside head and neck, and where the camera sees something as bright.
"""

import cv2
import numpy as np

from faces.colour import ramp
from faces.regions import fill, grown, neck

WHITE_FROM, WHITE_FULL = 180, 225  # darkest channel of the cartoon from which it counts as white, and in full
BRIGHTER_FROM, BRIGHTER_FULL = 15, 45  # levels by which the cartoon must outshine the camera
HEAD = (1.22, 1.65, 1.1)  # the face's outline grown sideways, upwards (a bald head) and downwards


def keep(small) -> np.ndarray:
    """`finish.Small` -> (64, 64) uint8: 255 where alpha stays, 0 where it is let go."""
    head = np.zeros(small.crop.shape[:2], np.uint8)
    fill(head, grown(small.points, HEAD), 255)
    fill(head, neck(small.points, 1.15), 255)
    head = cv2.blur(head, (9, 9))
    red, green, blue, _ = cv2.split(small.cartoon)
    white = cv2.LUT(cv2.min(cv2.min(red, green), blue), ramp(WHITE_FROM, WHITE_FULL))
    camera = cv2.cvtColor(small.crop, cv2.COLOR_RGB2GRAY)
    brighter = cv2.subtract(cv2.cvtColor(small.cartoon, cv2.COLOR_RGBA2GRAY), camera)
    stray = cv2.multiply(white, cv2.LUT(brighter, ramp(BRIGHTER_FROM, BRIGHTER_FULL)), scale=1 / 255)
    stray = cv2.multiply(cv2.blur(stray, (3, 3)), cv2.bitwise_not(head), scale=1 / 255)
    return cv2.bitwise_not(stray)
