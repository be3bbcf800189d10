"""What stays the same in a video keeps its drawing: neither noise nor a turn of the head must make a cartoon boil.

Sameness is looked for in the camera's picture, not in what was drawn of it: noise there is small and known, while a
network may answer it with anything.
"""

import functools
import math
from collections.abc import Hashable

import cv2
import numpy as np

SAME, OTHER = 2.5, 6.0  # grey levels of 128 px pictures: noise of a webcam, and something that moved
FORGET_S = 0.5  # after a longer gap everything starts anew
SIDE = 128  # px, side on which movement is looked for in a crop
STILL_S = 0.15  # where the crop shows the same a drawing follows as slowly as this


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
        return _share(grey, before, step, self._still_s)


def _share(grey: np.ndarray, before: np.ndarray, step: float, still_s: float) -> np.ndarray:
    changed = cv2.blur(cv2.absdiff(grey, before).astype(np.float32), (5, 5))
    still = 1 - math.exp(-step / still_s)
    return still + (1 - still) * ((changed - SAME) / (OTHER - SAME)).clip(0, 1)


class Calm:
    """One face's drawings in a video.

    The drawing before goes along with what it shows (dense optical flow of the crop, DIS, arXiv 1603.03590), and the
    new one counts in full only where the crop is not what the flow makes of the crop before: an eye that opens, a hand.

    >>> drawing, crop = np.full((256, 256, 4), 200, np.uint8), np.full((256, 256, 3), 90, np.uint8)
    >>> Calm()(drawing, crop, 0.0) is drawing
    True
    """

    def __init__(self):
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._drawn: np.ndarray | None = None
        self._grey: np.ndarray | None = None
        self._t = -math.inf
        self._kind: Hashable = None

    def __call__(self, drawing: np.ndarray, crop: np.ndarray, t: float, kind: Hashable = None) -> np.ndarray:
        """drawing: (S, S, 4) uint8 of crop (S, S, 3) uint8 RGB at `t` seconds -> (S, S, 4) uint8: where the crop shows
        the same as before, nearly what was drawn of it. kind: how it is drawn; one of another kind is shown at once."""
        grey = cv2.cvtColor(cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        drawn, step, side = self._drawn, t - self._t, drawing.shape[0]
        if drawn is not None and drawn.shape == drawing.shape and kind == self._kind and 0 < step < FORGET_S:
            flow = self._flow.calc(grey, self._grey, None)
            share = _share(grey, _moved(self._grey, flow), step, STILL_S)
            before = _moved(drawn, cv2.resize(flow, (side, side), interpolation=cv2.INTER_LINEAR) * (side / SIDE))
            share = cv2.resize(share, (side, side), interpolation=cv2.INTER_LINEAR)
            drawing = cv2.blendLinear(drawing, before, share, 1 - share)
        self._drawn, self._grey, self._t, self._kind = drawing, grey, t, kind
        return drawing


def _moved(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """picture: (N, N) or (N, N, 4) uint8; flow: (N, N, 2) float32 px from each pixel to where it was."""
    places = flow + _places(picture.shape[0])
    return cv2.remap(picture, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@functools.lru_cache(4)
def _places(side: int) -> np.ndarray:
    """(N, N, 2) float32: x and y of each pixel."""
    return np.dstack(np.meshgrid(np.arange(side), np.arange(side))).astype(np.float32)
