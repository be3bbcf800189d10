"""How many faces are found, and what is taken for one: photos of tables, a picture of several people, and face-free
crops, for the shipped search and for any other detector."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from faces.pictures import read
from faces.still import FaceFinder
from faces.tables import Person
from livetoon.errors import DataError

FACE_FREE = 500  # crops
# Pictures of scikit-image's wheel without a person: things, textures, a cat, print, the moon.
EMPTY = (
    "brick",
    "cell",
    "chelsea",
    "clock",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "hubble_deep_field",
    "moon",
    "page",
    "text",
)
EMPTY_SIDES = (96, 160, 240)  # px of the crops
CROP_SEED = 7


def face_free(count: int = FACE_FREE) -> Iterator[tuple[str, np.ndarray]]:
    """Name and (S, S, 3) uint8 RGB of `count` crops without a face: places and sizes follow from one seed."""
    from skimage import data

    pictures = {}
    for name in EMPTY:
        try:
            picture = getattr(data, name)()
        except Exception:  # a picture that this version of scikit-image would have to fetch
            continue
        pictures[name] = _as_colour(picture)
    if not pictures:
        raise DataError("scikit-image brings no pictures; install livetoon's [dev] extra")
    random = np.random.default_rng(CROP_SEED)
    for number in range(count):
        name = sorted(pictures)[number % len(pictures)]
        picture = pictures[name]
        side = min(int(random.choice(EMPTY_SIDES)), *picture.shape[:2])
        top, left = (int(random.integers(0, room - side + 1)) for room in picture.shape[:2])
        yield f"{name} {left},{top} {side}", np.ascontiguousarray(picture[top : top + side, left : left + side])


def _as_colour(picture: np.ndarray) -> np.ndarray:
    if picture.dtype != np.uint8:
        picture = (255 * (picture.astype(np.float64) / picture.max())).astype(np.uint8)
    return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB) if picture.ndim == 2 else picture[..., :3]


def found_share(people: Sequence[Person], finder: FaceFinder) -> dict[str, object]:
    """Share of the pictures in which a face is found, and the names of the others."""
    missed = [person.file for person in people if finder(read(person.path)) is None]
    return {"pictures": len(people), "found": round(1 - len(missed) / len(people), 4), "missed": missed}


def false_faces(finder: FaceFinder) -> dict[str, object]:
    """Crops without a face in which one is found."""
    taken = [name for name, picture in face_free() if finder(picture) is not None]
    return {"crops": FACE_FREE, "false": len(taken), "taken": taken}


def seen_at_once(picture: Path, update: Callable[[np.ndarray], Sequence[object]]) -> int:
    """Faces that live video sees in a picture of several people, at its full size."""
    return len(update(read(picture)))
