"""What did not move in a video keeps its drawing: a camera's noise must not make a cartoon shimmer.

Movement is looked for in the camera's picture, not in what was drawn of it: noise there is small and known, while a
network may answer it with anything.
"""

import math
from collections.abc import Hashable

import cv2
import numpy as np

SAME, OTHER = 2.5, 6.0  # grey levels of 128 px pictures: noise of a webcam, and something that moved
FORGET_S = 0.5  # after a longer gap everything starts anew
SIDE = 128  # px, side on which movement is looked for in a crop
STILL_S = 0.15  # where nothing moves a drawing follows as slowly as this


class Moved:
    """How much of what is new counts, from picture to picture."""

    def __init__(self, still_s: float):
        self._still_s = still_s
        self.reset()

    def reset(self) -> None:
        """Forget the video: the next picture is all new."""
        self._grey: np.ndarray | None = None
        self._t = -math.inf

    def __call__(self, grey: np.ndarray, t: float) -> np.ndarray | None:
        """grey: (N, N) uint8 at `t` seconds -> (N, N) float32 in [0, 1]: the share of the new picture that counts, 1
        where something moved; None when there is nothing before it."""
        before, step = self._grey, t - self._t
        self._grey, self._t = grey, t
        if before is None or before.shape != grey.shape or not 0 < step < FORGET_S:
            return None
        moved = cv2.blur(cv2.absdiff(grey, before).astype(np.float32), (5, 5))
        still = 1 - math.exp(-step / self._still_s)
        return still + (1 - still) * ((moved - SAME) / (OTHER - SAME)).clip(0, 1)


class Calm:
    """One face's drawings in a video.

    >>> drawing, crop = np.full((256, 256, 4), 200, np.uint8), np.full((256, 256, 3), 90, np.uint8)
    >>> Calm()(drawing, crop, 0.0) is drawing
    True
    """

    def __init__(self):
        self._moved = Moved(STILL_S)
        self._drawn: np.ndarray | None = None
        self._kind: Hashable = None

    def __call__(self, drawing: np.ndarray, crop: np.ndarray, t: float, kind: Hashable = None) -> np.ndarray:
        """drawing: (S, S, 4) uint8 of crop (S, S, 3) uint8 RGB at `t` seconds -> (S, S, 4) uint8: where the crop did
        not change, nearly what was drawn before. kind: how it is drawn; one of another kind is shown at once."""
        if kind != self._kind:
            self._drawn, self._kind = None, kind
        grey = cv2.cvtColor(cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        share = self._moved(grey, t)
        if share is not None and self._drawn is not None and self._drawn.shape == drawing.shape:
            share = cv2.resize(share, drawing.shape[:2], interpolation=cv2.INTER_LINEAR)
            drawing = cv2.blendLinear(drawing, self._drawn, share, 1 - share)
        self._drawn = drawing
        return drawing
