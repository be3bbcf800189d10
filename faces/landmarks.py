"""468 points of one face, from an upright crop around where it was a moment ago (FaceMesh)."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from faces import weights
from faces.align import warp
from faces.nets import Levels, open_net

SIDE = 192  # px, input of the network
MARGIN = 1.5  # side of the crop per longer side of the box around the points, as the network was trained

# One corner of each eye (left in the picture first), nose, corners of the mouth, the eyes' other corners. Nose: 4 lies
# where the tip lies in the usual 68 points; 1 is 7 px of a 256 px crop lower.
_FIVE = np.array([33, 263, 4, 61, 291, 133, 362])
# The face's outline, clockwise from the middle of the hairline (10) over the chin (152).
# fmt: off
OVAL = np.array([
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
])
# fmt: on


@dataclass(frozen=True)
class Mesh:
    """points: (468, 3) float32: x, y px of the picture, z in the same unit, nearer is smaller; presence in [0, 1];
    blur: 0 (sharp) to 1."""

    points: np.ndarray
    presence: float
    blur: float

    @cached_property
    def five(self) -> np.ndarray:
        """(5, 2) float32 px, see `five`."""
        return five(self.points)

    @cached_property
    def box(self) -> np.ndarray:
        """(4,) float32 px: the box around all points."""
        return np.concatenate([self.points.min(axis=0)[:2], self.points.max(axis=0)[:2]]).astype(np.float32)


class FaceMesh:
    """Fits the points inside a square turned with the face.

    >>> import numpy
    >>> mesh = FaceMesh()(numpy.zeros((64, 64, 3), numpy.uint8), numpy.array([[20., 20], [40, 20]]), (30., 30.), 40.)
    >>> mesh.points.shape, mesh.presence < 0.5
    ((468, 3), True)
    """

    def __init__(self, models: Path = weights.FOLDER):
        self._net = open_net(weights.path("face_landmark.tflite", models), levels=Levels(0, 255))

    def __call__(
        self, frame: np.ndarray, eyes: np.ndarray, centre: tuple[float, float], side: float
    ) -> Mesh:
        """frame: (H, W, 3) uint8 RGB; eyes: (2, 2) px, their line gives the turn; centre, side: the square in px."""
        dx, dy = (eyes[1] - eyes[0]).tolist()
        angle = math.atan2(dy, dx)
        scale = SIDE / max(float(side), 1.0)
        cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
        middle = (SIDE - 1) / 2
        matrix = np.array(
            [
                [cos, sin, middle - cos * centre[0] - sin * centre[1]],
                [-sin, cos, middle + sin * centre[0] - cos * centre[1]],
            ]
        )
        crop = warp(frame, matrix, SIDE, borderMode=cv2.BORDER_REPLICATE)
        found = self._net(crop[None])
        logit, values = sorted((array.ravel() for array in found.values()), key=len)
        moved = np.array([*matrix[:, 2], 0], np.float32)
        back = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, scale]], np.float32) / np.float32(scale * scale)
        mesh = (values.reshape(-1, 3) - moved) @ back
        return Mesh(mesh, 1 / (1 + math.exp(-float(logit[0]))), _blur(crop))


def square(points: np.ndarray) -> tuple[tuple[float, float], float]:
    """Centre and side of the network's square around a mesh (N, 2 or 3), turned with it.

    The box is measured along the eyes' line, so that a tilted head is not given a larger square.
    """
    (left_x, left_y), (right_x, right_y) = five(points)[:2].tolist()
    length = max(math.hypot(right_x - left_x, right_y - left_y), 1e-6)
    cos, sin = (right_x - left_x) / length, (right_y - left_y) / length
    upright = points[:, :2] @ np.array([[cos, -sin], [sin, cos]], np.float32)
    (low_x, low_y), (high_x, high_y) = upright.min(axis=0).tolist(), upright.max(axis=0).tolist()
    x, y = (low_x + high_x) / 2, (low_y + high_y) / 2
    return (cos * x - sin * y, sin * x + cos * y), max(high_x - low_x, high_y - low_y) * MARGIN


def five(points: np.ndarray) -> np.ndarray:
    """(468, 2 or 3) -> (5, 2): middle of each eye, tip of the nose, corners of the mouth."""
    found = points[_FIVE, :2].astype(np.float32)
    found[0] = (found[0] + found[5]) / 2
    found[1] = (found[1] + found[6]) / 2
    return found[:5]


def pose(points: np.ndarray) -> tuple[float, float, float]:
    """(468, 3) -> yaw, pitch, roll in degrees: right, down and clockwise in the picture are positive."""
    across = points[263] - points[33]
    down = points[152] - points[10]
    yaw = math.degrees(math.atan2(float(across[2]), math.hypot(float(across[0]), float(across[1]))))
    pitch = math.degrees(math.atan2(-float(down[2]), math.hypot(float(down[0]), float(down[1]))))
    roll = math.degrees(math.atan2(float(across[1]), float(across[0])))
    return yaw, pitch, roll


def _blur(crop: np.ndarray) -> float:
    """0 for a sharp face, 1 for one without any edge; its middle at half size, where noise counts less."""
    part = slice(SIDE // 4, SIDE * 3 // 4)
    small = cv2.resize(crop[part, part], (SIDE // 4, SIDE // 4), interpolation=cv2.INTER_AREA)
    _, spread = cv2.meanStdDev(cv2.Laplacian(cv2.extractChannel(small, 1), cv2.CV_16S))
    return 1 / (1 + (float(spread[0, 0]) / 8) ** 2)
