"""Points that lie still when the face does and do not lag when it moves (One-Euro, Casiez et al. 2012)."""

import math

import numpy as np

# Chosen on tracked FaceMesh points at 30 fps, px of a 256 px crop. A scene whose motion is known: a still face strays
# 0.08 px, a moving one 0.45 (with a beta of 0.1, 0.07 and 1.9), and a pan of 200 px/s lags 0.1 frames (0.6) where it
# begins. Real clips: eyes shake 0.28 to 0.59 px above 3 Hz (0.24 to 0.69).
MIN_CUTOFF_HZ = 1.0
BETA_HZ_PER_PX_S = 1.0
SPEED_CUTOFF_HZ = 1.0


class OneEuro:
    """Low-pass filter whose cut-off rises with speed; one speed for all points, so that they keep their shape.

    >>> import numpy
    >>> steady = OneEuro()
    >>> steady(numpy.zeros((5, 2)), 0.0).shape
    (5, 2)
    """

    def __init__(self, min_cutoff: float = MIN_CUTOFF_HZ, beta: float = BETA_HZ_PER_PX_S):
        self._min_cutoff = min_cutoff
        self._beta = beta
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next points are taken as they are."""
        self._value = None

    @property
    def velocity(self) -> np.ndarray:
        """(2,) float32, px per second of the points' mean; zero before the second call."""
        return np.array((0, 0) if self._value is None else self._speed, np.float32)

    def __call__(self, points: np.ndarray, t: float, unit: float = 1.0) -> np.ndarray:
        """points: (N, 2) px at `t` seconds -> (N, 2) float32 px. A time that does not advance changes nothing.

        unit: px of the points for each px of the crop, in which speed counts: a near face moves and shakes in more.
        """
        points = np.asarray(points, np.float64)
        # Two plain numbers, which are quicker than arrays of two.
        x, y = (points.sum(axis=0) / len(points)).tolist()
        if self._value is None or len(points) != len(self._value):
            self._value, self._mean, self._speed, self._t = points, (x, y), (0.0, 0.0), t
            return points.astype(np.float32)
        step = t - self._t
        if step <= 0:
            return self._value.astype(np.float32)
        share = _share(SPEED_CUTOFF_HZ, step)
        self._speed = tuple(
            speed + share * ((now - before) / step - speed)
            for speed, now, before in zip(self._speed, (x, y), self._mean, strict=True)
        )
        pace = math.hypot(*self._speed) / unit
        self._value = self._value + _share(self._min_cutoff + self._beta * pace, step) * (points - self._value)
        self._mean, self._t = (x, y), t
        return self._value.astype(np.float32)


def _share(cutoff_hz: float, step_s: float) -> float:
    """Weight of the newest value for a first-order low pass."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff_hz * step_s))
