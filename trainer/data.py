"""Pictures for training: what lies in a data folder, decoded once, with the mask of each person.

In data folders (layout.py) a photo and a drawing of the same name are a pair. Photos without a drawing come from a
table: a CSV with `file`, `age`, `sex` (F/M) and five points (`left_eye_x`, ..., `mouth_right_y`), as the all_age_faces
table has them. Where it has a column `gray`, rows that say 1 there are left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from faces.align import COORDINATES, POINTS, align_matrix, crop, move
from faces.groups import group_of
from faces.pictures import pictures, read
from faces.tables import held_out, read_table
from livetoon.errors import DataError, ModelError
from trainer.layout import numbers_explained, training_places


@dataclass
class Group:
    """One group's pictures. photos, cartoons: (S, S, 3) uint8 RGB; alphas: (S, S) uint8, 255 = person.

    names: of the photos' files. unpaired: photos without a drawing; unpaired_alphas: their persons, empty where nobody
    marked them. drawings: without a photo.
    """

    photos: list[np.ndarray] = field(default_factory=list)
    cartoons: list[np.ndarray] = field(default_factory=list)
    alphas: list[np.ndarray] = field(default_factory=list)
    unpaired: list[np.ndarray] = field(default_factory=list)
    unpaired_alphas: list[np.ndarray] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    drawings: list[np.ndarray] = field(default_factory=list)


def load(
    folders: Sequence[Path],
    tables: Sequence[Path],
    groups: Sequence[str],
    size: int,
    segment: Callable[[np.ndarray], np.ndarray] | None = None,
    drawings: bool = False,
) -> dict[str, Group]:
    """Every pair of `folders` and every unpaired photo of `tables`, by group; `segment` marks the persons of these.
    drawings: those without a photo too.

    DataError names a group that has nothing to learn from, and what was found instead.
    """
    found = {group: Group() for group in groups}
    seen: set[str] = set()
    for folder in folders:
        for name, photo, cartoon in _pairs(Path(folder), groups):
            seen.add(name)
            if name not in found:
                continue
            picture = read(photo, size)
            found[name].photos.append(picture)
            found[name].cartoons.append(read(cartoon, size))
            found[name].alphas.append(person_mask(picture))
            found[name].names.append(photo.name)
        for name, path in _drawings(Path(folder), groups) if drawings else ():
            seen.add(name)
            if name in found:
                found[name].drawings.append(read(path, size))
    for table in tables:
        for name, picture, _ in aligned(Path(table), size):
            if name in found:
                found[name].unpaired.append(picture)
                if segment is not None:
                    found[name].unpaired_alphas.append(segment(picture))
    for name in groups:
        if not found[name].photos:
            raise DataError(
                f"{name}: no pairs in {', '.join(map(str, folders))} (photo/NAME beside cartoon/NAME, or trainA/NAME "
                f"beside trainB/NAME); found: {', '.join(sorted(seen)) or 'none'}"
                f"{numbers_explained(map(Path, folders), groups)}"
            )
    return found


def _pairs(folder: Path, groups: Sequence[str]) -> list[tuple[str, Path, Path]]:
    """(group, photo, drawing) of every pair in a data folder."""
    places = training_places(folder, groups)
    pairs = []
    for place in places:
        beside = [each for each in places if (each.group, each.home) == (place.group, place.home)]
        if place.domain == "photo":
            drawn = {path.stem: path for each in beside if each.domain == "cartoon" for path in pictures(each.folder)}
            pairs += [(place.group, path, drawn[path.stem]) for path in pictures(place.folder) if path.stem in drawn]
    return pairs


def _drawings(folder: Path, groups: Sequence[str]) -> list[tuple[str, Path]]:
    """(group, drawing) of every drawing without a photo."""
    paired = {cartoon for _, _, cartoon in _pairs(folder, groups)}
    drawn = [place for place in training_places(folder, groups) if place.domain == "cartoon"]
    return [(place.group, path) for place in drawn for path in pictures(place.folder) if path not in paired]


def person_mask(photo: np.ndarray) -> np.ndarray:
    """Alpha of a person on white: (S, S, 3) uint8 RGB -> (S, S) uint8.

    Background is what is near-white and connected to the border; the rest is drawn in by a pixel, because the
    outermost one is mixed with white, and softened.
    """
    white = (photo.min(axis=2) >= 244).astype(np.uint8)
    white = cv2.morphologyEx(white, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels = cv2.connectedComponents(white, connectivity=4)
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    background = np.isin(labels, border[border > 0])
    person = cv2.morphologyEx((~background).astype(np.uint8) * 255, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    person = cv2.erode(person, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
    return cv2.GaussianBlur(person, (5, 5), 1.0, borderType=cv2.BORDER_REPLICATE)


def segmenter(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """A network that marks the person, (1, S, S, 3) float32 RGB in [0, 1] -> S x S values in [0, 1], as a function
    of any (H, W, 3) uint8 RGB: (H, W) uint8, 255 = person. MediaPipe's selfie segmentation is laid out so."""
    session = open_network("--masks", path)
    entry = session.get_inputs()[0]
    if len(entry.shape) != 4 or entry.shape[-1] != 3 or not isinstance(entry.shape[1], int):
        raise ModelError(f"--masks {path}: takes {entry.shape}, expected (1, S, S, 3)")

    def segment(picture: np.ndarray) -> np.ndarray:
        side, (height, width) = entry.shape[1], picture.shape[:2]
        small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        mask = session.run(None, {entry.name: small[None].astype(np.float32) / 255})[0].reshape(side, side)
        return (cv2.resize(mask, (width, height)).clip(0, 1) * 255).round().astype(np.uint8)

    return segment


def open_network(option: str, path: Path):
    """An ONNX network as an onnxruntime session; ModelError begins with the `option` that named it."""
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own, one for each cause
        raise ModelError(f"{option} {path}: not a network that can be read ({str(error).splitlines()[0]})") from None


def aligned(table: Path, size: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Group, crop (size, size, 3) uint8 RGB and five points (ten float32 px of the crop) of each row that may train."""
    rows = read_table(table, COORDINATES)
    unseen = held_out([row["file"] for row in rows])
    aligned = []
    for row in rows:
        name = group_of(row["age"], row["sex"] == "F")
        if name is None or row["file"] in unseen or row.get("gray") == "1":
            continue
        points = np.array([[row[f"{point}_x"], row[f"{point}_y"]] for point in POINTS], np.float32)
        matrix = align_matrix(points, size)
        cut = crop(read(table.parent / row["file"]), matrix, size)
        aligned.append((name, cut, move(matrix, points).ravel()))
    return aligned
