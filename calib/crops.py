"""Crops to calibrate and to judge with, read from folders of pictures."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from livetoon.errors import DataError, UsageError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


def read_crops(folders: Sequence[Path], count: int, size: int) -> np.ndarray:
    """(up to count, size, size, 3) uint8 RGB, as many from each folder, spread evenly over its sorted files.

    Of more folders than `count`, some give none. A picture is taken whole when it is square, otherwise its middle.
    UsageError for a folder without pictures, DataError for a file that is none.
    """
    share = max(1, count // len(folders))
    paths = [path for folder in folders for path in _spread(_pictures(Path(folder)), share)]
    return np.stack([_read(path, size) for path in _spread(paths, count)])


def _pictures(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    if not paths:
        raise UsageError(f"{folder}: no pictures in it ({', '.join(ENDINGS)})")
    return paths


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    return [paths[index] for index in np.unique(np.linspace(0, len(paths) - 1, count).astype(int))]


def _read(path: Path, size: int) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise DataError(f"{path}: not a picture that can be read")
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = picture[top : top + side, left : left + side]
    return cv2.cvtColor(cv2.resize(middle, (size, size), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
