"""One crop geometry for training, live video and paste: five points onto a fixed template."""

import math

import cv2
import numpy as np

from livetoon.errors import DataError

CROP = 256  # px, side of every crop
POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
COORDINATES = tuple(f"{point}_{axis}" for point in POINTS for axis in "xy")  # their columns in tables
# Where eyes (at the left and right of the picture), nose tip and mouth corners lie in the crop, px.
TEMPLATE = np.array([(99, 119), (157, 119), (128, 156), (102, 176), (154, 176)], np.float32)
WHITE = (255, 255, 255)
SAMPLED = 0.6  # crop px per frame px from which taking the nearest four pixels is enough


def align_matrix(points: np.ndarray, size: int = CROP) -> np.ndarray:
    """points: (5, 2) px -> (2, 3) float64, frame -> crop of `size` px: the turn, scale and shift (no shear, no
    mirror) with the least squared distance to the template.

    Raises DataError when the points are not numbers or all lie in one place.
    """
    points = np.asarray(points, np.float64)
    if points.shape != TEMPLATE.shape:
        raise DataError(f"expected five points (5, 2), got {points.shape}")
    if not np.isfinite(points).all() or float(np.ptp(points, axis=0).max()) < 1e-3:
        raise DataError("five points that are numbers and lie apart are needed to align a face")
    centred = points - points.mean(axis=0)
    spread = float((centred**2).sum())
    target = TEMPLATE.astype(np.float64) * (size / CROP)
    aim = target - target.mean(axis=0)
    # As complex numbers a turn with scale is one factor, and least squares is one division.
    factor = ((centred[:, 0] - 1j * centred[:, 1]) @ (aim[:, 0] + 1j * aim[:, 1])) / spread
    turn = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.hstack([turn, (target.mean(axis=0) - turn @ points.mean(axis=0))[:, None]])


def crop(frame: np.ndarray, matrix: np.ndarray, size: int = CROP) -> np.ndarray:
    """frame: (H, W, 3) uint8 RGB; matrix: (2, 3) frame -> crop -> (size, size, 3) uint8 RGB, white outside.

    A face much larger than the crop is averaged down by halves first, so that fine hair does not flicker.
    """
    frame, matrix = np.asarray(frame), np.asarray(matrix, np.float64)
    while float(np.hypot(matrix[0, 0], matrix[1, 0])) < SAMPLED and min(frame.shape[:2]) >= 4:
        height, width = frame.shape[0] // 2, frame.shape[1] // 2
        frame = cv2.resize(frame[: height * 2, : width * 2], (width, height), interpolation=cv2.INTER_AREA)
        # The middle of a large pixel lies half a small one further.
        matrix = np.hstack([matrix[:, :2] * 2, (matrix[:, 2] + matrix[:, :2] @ np.full(2, 0.5))[:, None]])
    return warp(frame, matrix, size, borderMode=cv2.BORDER_CONSTANT, borderValue=(*WHITE, 255))


def warp(frame: np.ndarray, matrix: np.ndarray, size: int, **border) -> np.ndarray:
    """frame: (H, W, 3) uint8 through matrix (2, 3) -> (size, size, 3) uint8; border: as cv2.warpAffine takes it.

    Done with a fourth channel and on the part that is needed: OpenCV warps four channels in 0.25 ms and three in 0.6.
    """
    left, top, right, bottom = _reached(matrix, size, frame.shape)
    part = cv2.cvtColor(frame[top:bottom, left:right], cv2.COLOR_RGB2RGBA)
    matrix = np.hstack([matrix[:, :2], (matrix[:, 2] + matrix[:, :2] @ (left, top))[:, None]])
    return cv2.cvtColor(
        cv2.warpAffine(part, matrix, (size, size), flags=cv2.INTER_LINEAR, **border), cv2.COLOR_RGBA2RGB
    )


def _reached(matrix: np.ndarray, size: int, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (exclusive) of the frame's pixels that a warp reads: at least one."""
    across, down = corners(inverse(matrix), size, size)
    width, height = shape[1], shape[0]
    left = min(max(math.floor(min(across)) - 1, 0), width - 1)
    top = min(max(math.floor(min(down)) - 1, 0), height - 1)
    right = max(min(math.ceil(max(across)) + 2, width), left + 1)
    bottom = max(min(math.ceil(max(down)) + 2, height), top + 1)
    return left, top, right, bottom


def corners(back: np.ndarray, width: int, height: int) -> tuple[list[float], list[float]]:
    """back: (2, 3) picture -> frame: x and y of the picture's corners in the frame, clockwise from the top left.

    In plain numbers, which are quicker than arrays of four.
    """
    right, bottom = width - 1, height - 1
    across, down = (
        [start, start + x * right, start + x * right + y * bottom, start + y * bottom]
        for x, y, start in back.tolist()
    )
    return across, down


def inverse(matrix: np.ndarray) -> np.ndarray:
    """(2, 3) frame -> crop -> (2, 3) float64 crop -> frame."""
    return cv2.invertAffineTransform(np.asarray(matrix, np.float64))


def move(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """points: (N, 2) through matrix (2, 3) -> (N, 2) float32."""
    return cv2.transform(points[None].astype(np.float32), matrix)[0] if len(points) else np.zeros((0, 2), np.float32)
