"""One real face whose place is known: the astronaut of scikit-image (NASA, public domain)."""

import cv2
import numpy as np
import pytest
from skimage import data

from faces.track import Finders

EYES = np.array([(204.5, 102.5), (247.0, 105.0)])  # px in the 512 px picture, middle of each eye


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """(512, 512, 3) uint8 RGB."""
    return data.astronaut()


@pytest.fixture(scope="session")
def finders() -> Finders:
    """The real networks, opened once."""
    return Finders()


class Scene:
    """The portrait in front of a plain wall, where and as large and as turned as asked."""

    def __init__(self, portrait: np.ndarray):
        self._portrait = portrait

    def matrix(self, x: float, y: float, scale: float, turn: float) -> np.ndarray:
        """Portrait px -> scene px; the middle between the eyes comes to (x, y)."""
        middle = EYES.mean(axis=0)
        matrix = cv2.getRotationMatrix2D(tuple(middle), turn, scale)
        matrix[:, 2] += np.array([x, y]) - middle
        return matrix

    def __call__(self, *faces, width=640, height=480) -> np.ndarray:
        """Each face: (x, y, scale, turn in degrees). Only head and neck of each are shown."""
        frame = np.full((height, width, 3), (96, 104, 112), np.uint8)
        head = np.zeros(self._portrait.shape[:2], np.uint8)
        cv2.ellipse(head, (224, 118), (78, 116), 0, 0, 360, 255, -1)
        for x, y, scale, turn in faces:
            matrix = self.matrix(x, y, scale, turn)
            warped = cv2.warpAffine(self._portrait, matrix, (width, height), flags=cv2.INTER_AREA)
            mask = cv2.warpAffine(head, matrix, (width, height)) > 127
            frame[mask] = warped[mask]
        return frame

    def eyes(self, x: float, y: float, scale: float, turn: float) -> np.ndarray:
        """(2, 2) px of the scene."""
        matrix = self.matrix(x, y, scale, turn)
        return EYES @ matrix[:, :2].T + matrix[:, 2]


@pytest.fixture(scope="session")
def scene(portrait) -> Scene:
    return Scene(portrait)
