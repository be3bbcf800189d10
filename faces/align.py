"""One crop geometry for training, live video and paste: five points onto a fixed template."""

import math
from collections.abc import Sequence

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


def inside_frame(crop: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 RGB of a crop -> (...) bool: False for what lies outside the camera's frame, which is white."""
    return crop.min(axis=-1) < WHITE[0]


def crop(frame: np.ndarray, matrix: np.ndarray, size: int = CROP) -> np.ndarray:
    """frame: (H, W, 3) uint8 RGB; matrix: (2, 3) frame -> crop -> (size, size, 3) uint8 RGB, white outside."""
    return crops(frame, [matrix], size)[0]


def crops(frame: np.ndarray, matrices: Sequence[np.ndarray], size: int = CROP) -> np.ndarray:
    """frame: (H, W, 3) uint8 RGB; matrices: (2, 3) each, frame -> crop -> (N, size, size, 3) uint8 RGB.

    A face much larger than the crop is averaged down by halves first, so that fine hair does not flicker. Outside the
    frame is white, but its edge goes on for two or three pixels: what is pasted back along it then holds no white.
    """
    frame = np.asarray(frame)
    cut = np.empty((len(matrices), size, size, 3), np.uint8)
    for matrix, picture in zip(matrices, cut, strict=True):
        _crop(frame, np.asarray(matrix, np.float64), picture)
    return cut


def _crop(frame: np.ndarray, matrix: np.ndarray, picture: np.ndarray) -> None:
    """Cut the crop of `matrix` into `picture` (S, S, 3)."""
    size = picture.shape[0]
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    times = halvings(scale)
    left, top, right, bottom = _reached(matrix, size, frame.shape, 2**times)
    part, matrix = frame[top:bottom, left:right], _moved(matrix, left, top)
    while times and min(part.shape[:2]) >= 4:
        height, width = part.shape[0] // 2, part.shape[1] // 2
        part = cv2.resize(part[: height * 2, : width * 2], (width, height), interpolation=cv2.INTER_AREA)
        # The middle of a large pixel lies half a small one further.
        matrix = _moved(matrix, 0.5, 0.5) * ((2, 2, 1), (2, 2, 1))
        times, scale = times - 1, scale * 2
    part = cv2.cvtColor(part, cv2.COLOR_RGB2RGBA)
    if not (left and top and right < frame.shape[1] and bottom < frame.shape[0]):
        edge = edge_px(scale)
        part, matrix = cv2.copyMakeBorder(part, *[edge] * 4, cv2.BORDER_REPLICATE), _moved(matrix, -edge, -edge)
    found = cv2.warpAffine(part, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=(*WHITE, 255))
    cv2.cvtColor(found, cv2.COLOR_RGBA2RGB, dst=picture)


def halvings(scale: float) -> int:
    """How often a picture is averaged down by halves before a warp, so that fine lines do not flicker; scale: px there
    for a px of the picture."""
    return max(0, math.ceil(math.log2(SAMPLED / scale)))


def edge_px(scale: float) -> int:
    """Px by which a frame's edge goes on outside: around a corner of which `paste` mixes four pixels of the crop, or of
    its half for a small face; scale: px of the crop for one of the frame."""
    return max(2, math.ceil(math.sqrt(2) / scale))


def warp(frame: np.ndarray, matrix: np.ndarray, size: int, **border) -> np.ndarray:
    """frame: (H, W, 3) uint8 through matrix (2, 3) -> (size, size, 3) uint8; border: as cv2.warpAffine takes it.

    Done with a fourth channel and on the part that is needed: OpenCV warps four channels in 0.25 ms and three in 0.6.
    """
    left, top, right, bottom = _reached(matrix, size, frame.shape)
    part = cv2.cvtColor(frame[top:bottom, left:right], cv2.COLOR_RGB2RGBA)
    matrix = _moved(np.asarray(matrix, np.float64), left, top)
    return cv2.cvtColor(
        cv2.warpAffine(part, matrix, (size, size), flags=cv2.INTER_LINEAR, **border), cv2.COLOR_RGBA2RGB
    )


def _moved(matrix: np.ndarray, x: float, y: float) -> np.ndarray:
    """The matrix (2, 3) for a picture whose pixel (0, 0) is pixel (x, y) of the one that `matrix` is for."""
    return np.hstack([matrix[:, :2], (matrix[:, 2] + matrix[:, :2] @ (x, y))[:, None]])


def _reached(matrix: np.ndarray, size: int, shape: tuple[int, ...], step: int = 1) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (exclusive) of the frame's pixels that a warp reads: at least one.

    step: side of a large pixel that is averaged before the warp. The part begins with a whole one, so that they lie
    on the frame's pixels in the same way wherever the face moves.
    """
    across, down = corners(inverse(matrix), size, size)
    around = 2 * step - 1
    spans = []
    for places, length in ((across, shape[1]), (down, shape[0])):
        first = min(max(math.floor(min(places)) - around, 0), length - 1) // step * step
        last = -(-(math.ceil(max(places)) + around + 1) // step) * step
        spans.append((first, max(min(last, length), first + 1)))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom


def corners(back: np.ndarray, width: int, height: int) -> tuple[list[float], list[float]]:
    """back: (2, 3) picture -> frame: x and y of the picture's corners in the frame, clockwise from the top left.

    In plain numbers, which are quicker than arrays of four.
    """
    right, bottom = width - 1, height - 1
    across, down = (
        [start, start + x * right, start + x * right + y * bottom, start + y * bottom] for x, y, start in back.tolist()
    )
    return across, down


def inverse(matrix: np.ndarray) -> np.ndarray:
    """(2, 3) frame -> crop -> (2, 3) float64 crop -> frame."""
    return cv2.invertAffineTransform(np.asarray(matrix, np.float64))


def move(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """points: (N, 2) through matrix (2, 3) -> (N, 2) float32."""
    return cv2.transform(points[None].astype(np.float32), matrix)[0] if len(points) else np.zeros((0, 2), np.float32)
