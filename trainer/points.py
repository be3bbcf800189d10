"""The five points of photos, for the keypoint loss: lists of them, whose they are, and whether they can be.

    left eye, right eye, nose, left and right of the mouth, each x, y in px of the photo's file; left is left in it

Crops of trainer.prepare have other points than the pictures that they were cut from, and the same names: OUT has a list
of its own, crop_points.csv.
"""

import csv
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from faces.align import COORDINATES
from livetoon.errors import DataError
from trainer.layout import root_of

CROP_POINTS = "crop_points.csv"
BESIDE = 0.05  # of the longer side: so far a point may lie outside, where the border cuts a face off
MOVED = 0.25  # mean distance, in eye distances, from which points are those of another picture; hands differ by 0.1


def read_points(path: Path) -> dict[str, np.ndarray]:
    """Name of a picture, or where it lies below its folder (`kids/photo/a.png`) -> ten float32 pixels.

    CelebA's `list_landmarks_align_celeba.txt` (a count, a header, then name and ten numbers) or a CSV with `file` and
    `left_eye_x` ... `mouth_right_y`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--points {path}: cannot be read ({error})") from None
    lines = text.splitlines()
    try:
        if lines and "," not in lines[0]:
            rows = [line.split() for line in lines[2:] if line.strip()]
            found = {_key(name): np.array(values, np.float32) for name, *values in rows}
        else:
            table = list(csv.DictReader(lines))
            found = {_key(row["file"]): np.array([row[name] for name in COORDINATES], np.float32) for row in table}
    except (KeyError, ValueError, TypeError):
        found = {}
    if not found or any(values.shape != (10,) or not np.isfinite(values).all() for values in found.values()):
        raise DataError(
            f"--points {path}: expected CelebA's landmark list (name and ten numbers a line) or a CSV with file, "
            f"{', '.join(COORDINATES)}"
        )
    return found


def points_of(photos: Collection[Path], listed: Path, folders: Iterable[Path]) -> dict[Path, np.ndarray]:
    """What the list `listed` says of `photos`, which lie in the data folders `folders`.

    DataError where it has other points for a crop than trainer.prepare, which made it.
    """
    found = belonging(photos, read_points(listed))
    for folder in map(root_of, folders):
        own = folder / CROP_POINTS
        if own.is_file() and not own.samefile(listed):
            _check_crops(found, listed, {folder / file: points for file, points in read_points(own).items()}, own)
    return found


def belonging(photos: Collection[Path], points: Mapping[str, np.ndarray]) -> dict[Path, np.ndarray]:
    """The points of each photo whose path ends as a list says; those of another folder where its name tells it: one
    row and one photo alone are called so."""
    deepest = max((len(Path(file).parts) for file in points), default=0)
    rows, shown = Counter(Path(file).name for file in points), Counter(photo.name for photo in set(photos))
    alone = {Path(file).name: each for file, each in points.items() if rows[Path(file).name] == 1}
    found = {}
    for photo in photos:
        depths = range(min(deepest, len(photo.parts)), 0, -1)
        ending = next((end for depth in depths if (end := "/".join(photo.parts[-depth:])) in points), None)
        if ending is not None:
            found[photo] = points[ending]
        elif shown[photo.name] == 1 and photo.name in alone:
            found[photo] = alone[photo.name]
    return found


def check_inside(points: np.ndarray, photo: Path, width: int, height: int) -> None:
    """DataError where points (ten px) lie outside of their picture of that size."""
    beside, x, y = BESIDE * max(width, height), points[::2], points[1::2]
    if min(x.min(), y.min()) < -beside or x.max() > width + beside or y.max() > height + beside:
        raise DataError(
            f"--points: {photo}: its points lie outside of the picture of {width}x{height} px; expected px of this "
            f"file (crops of trainer.prepare have theirs in {CROP_POINTS})"
        )


def _key(file: str) -> str:
    return "/".join(Path(file).parts)


def _check_crops(found: Mapping[Path, np.ndarray], listed: Path, crops: Mapping[Path, np.ndarray], own: Path) -> None:
    for photo, points in found.items():
        if (true := crops.get(photo)) is not None:
            five, known = points.reshape(5, 2), true.reshape(5, 2)
            apart = np.linalg.norm(five - known, axis=1).mean() / max(np.linalg.norm(known[1] - known[0]), 1e-6)
            if apart > MOVED:
                raise DataError(
                    f"--points {listed}: its points of {photo.name} are not those of {photo}, a crop that "
                    f"trainer.prepare made, but of another picture; name {own}"
                )
