"""One crop geometry for training, live video and paste: five points onto a fixed template."""

import cv2
import numpy as np

from livetoon.errors import DataError

CROP = 256  # px, side of every crop
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
    return cv2.warpAffine(frame, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=WHITE)


def inverse(matrix: np.ndarray) -> np.ndarray:
    """(2, 3) frame -> crop -> (2, 3) float64 crop -> frame."""
    return cv2.invertAffineTransform(np.asarray(matrix, np.float64))


def move(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """points: (N, 2) through matrix (2, 3) -> (N, 2) float32."""
    return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
