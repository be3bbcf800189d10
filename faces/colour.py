"""A person's colour and the paint's, steadied over time, the factor that takes one towards the other, and how much
of a grey level counts as one of them."""

import functools
import math

import cv2
import numpy as np

MEASURE_EVERY_S = 0.1
STEADY_S = 1.0  # light from a screen flickers faster than this, a person's own colours do not change


class Steady:
    """CIELAB (L 0 to 100) of person and paint, low-passed."""

    def __init__(self):
        self._lab: np.ndarray | None = None
        self._t = 0.0

    @property
    def known(self) -> bool:
        """Whether anything was measured yet."""
        return self._lab is not None

    def due(self, t: float) -> bool:
        """Whether it is time to measure again at `t` seconds."""
        return self._lab is None or t - self._t >= MEASURE_EVERY_S

    def add(self, person: np.ndarray, paint: np.ndarray, t: float) -> None:
        """Take in two mean colours (3,) float32 RGB in [0, 255]."""
        rgb = np.stack([person, paint])[None].astype(np.float32) / 255
        lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0]
        share = 1.0 if self._lab is None else 1 - math.exp((self._t - t) / STEADY_S)
        self._lab = lab if self._lab is None else self._lab + share * (lab - self._lab)
        self._t = t

    def alike(self, lab: np.ndarray, full: float, none: float, lightness: float = 1.0) -> np.ndarray:
        """(H, W, 3) float32 CIELAB -> (H, W) uint8: 255 up to a distance of `full` to the person, 0 from `none` on;
        lightness: what L counts for, so that what lies in the shade can be alike."""
        distance = np.sqrt(np.square((lab - self._lab[0]) * (lightness, 1, 1)).sum(axis=2))
        return ((none - distance) * (255 / (none - full))).clip(0, 255).astype(np.uint8)

    def gain(self, share: float, low: float, high: float) -> np.ndarray:
        """(3,) RGB factors that take the paint `share` of the way to the person, between `low` and `high`."""
        person, paint = self._lab
        both = np.stack([paint + share * (person - paint), paint])[None].astype(np.float32)
        rgb = cv2.cvtColor(both, cv2.COLOR_LAB2RGB)[0].clip(0.02, 1)
        return (rgb[0] / rgb[1]).clip(low, high)


@functools.cache
def ramp(start: int, full: int) -> np.ndarray:
    """(256,) uint8 table for cv2.LUT: 0 up to `start`, 255 from `full` on; falling where `full` is the lower one."""
    return ((np.arange(256) - start) * (255 / (full - start))).clip(0, 255).astype(np.uint8)
