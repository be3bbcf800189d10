"""Whether something moved beside the faces that are known: there a new one may have come."""

from collections.abc import Iterable

import cv2
import numpy as np

from faces.detect import longer_side

WIDTH, HEIGHT = 80, 60  # px, of the small grey picture that is compared: a face of 40 px in 640 has 25 of its px
LEVEL = 10  # grey levels, of 255: three times what a camera's noise leaves after the blur
PIXELS = 4  # as many must have changed
BESIDE, ABOVE = 0.75, 0.5  # how far a person moves around a known face, in its sides; below it everything is theirs


class Changes:
    """Compares a frame with the one that was noted last.

    >>> import numpy
    >>> changes = Changes()
    >>> wall = numpy.zeros((480, 640, 3), numpy.uint8)
    >>> changes.note(wall)
    >>> changes.found(wall, []), changes.found(wall + 200, [numpy.array([300, 200, 340, 260])])
    (False, False)
    >>> wall[100:200, 100:200] = 200
    >>> changes.found(wall, []), changes.found(wall, [numpy.array([110, 90, 190, 190])])
    (True, False)
    """

    def __init__(self):
        self._before: np.ndarray | None = None

    def note(self, frame: np.ndarray) -> None:
        """Compare with this frame (H, W, 3) uint8 RGB from now on."""
        self._before = _small(frame)

    def found(self, frame: np.ndarray, faces: Iterable[np.ndarray]) -> bool:
        """Whether `frame` differs from the noted one elsewhere than around `faces`, boxes (4,) px. A change of the
        whole picture's brightness is none."""
        if self._before is None:
            return True
        change = _small(frame) - self._before
        beside = np.full((HEIGHT, WIDTH), 255, np.uint8)
        scale = np.array([WIDTH / frame.shape[1], HEIGHT / frame.shape[0]] * 2)
        for box in faces:
            reach = (box + np.array([-BESIDE, -ABOVE, BESIDE, 0]) * longer_side(box)) * scale
            left, top, right = (max(0, int(value)) for value in reach[:3].tolist())
            beside[top:, left : right + 1] = 0
        change -= cv2.mean(change, beside)[0]
        change[beside == 0] = 0
        return int(np.count_nonzero(np.abs(change) > LEVEL)) >= PIXELS


def _small(frame: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (60, 80) float32: its green, a few pixels of it, blurred against their noise."""
    few = cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
    return cv2.blur(cv2.extractChannel(few, 1), (3, 3)).astype(np.float32)
