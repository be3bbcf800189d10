"""Photos and drawings that are no pairs: what lies in data folders, by group and domain, decoded once.

layout.py knows where they lie; photos alone may come from a table as well (data.py). Decoded pictures are kept at the
size that training needs.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from faces.align import POINTS
from faces.pictures import pictures, read, resized
from livetoon.errors import DataError
from trainer.data import aligned
from trainer.layout import DOMAINS, numbers_explained, training_places
from trainer.points import check_inside, points_of

VALIDATION_SHARE, VALIDATION_MOST = 10, 50  # a tenth of a set, at most 50, tells which checkpoint is the best
VALIDATION_FROM = 40  # pictures; a smaller set cannot spare any: it is validated on what it trains with


@dataclass
class Unpaired:
    """One group's pictures: (S, S, 3) uint8 RGB. points: of each photo, ten pixels of it, or None where unknown."""

    photo: list[np.ndarray] = field(default_factory=list)
    cartoon: list[np.ndarray] = field(default_factory=list)
    points: list[np.ndarray | None] = field(default_factory=list)


@dataclass
class Collected:
    """What trains, and what tells which checkpoint is the best; by group."""

    train: dict[str, Unpaired]
    validation: dict[str, Unpaired]
    spared: dict[str, tuple[str, ...]] = field(default_factory=dict)  # domains whose validation pictures do not train


def collect(
    folders: Sequence[Path],
    tables: Sequence[Path],
    groups: Sequence[str],
    needed: Sequence[Sequence[str]],
    size: int,
    points: Path | None = None,
    spare: Mapping[str, Collection[str]] | None = None,
    table_points: bool = True,
) -> Collected:
    """Every picture of `groups`; each of the `needed` pools of groups must have photos and drawings.

    points: CelebA's landmark list or a table.csv, for the keypoint loss. spare: the domains of each group that may keep
    pictures from training, all by default; what spares none is validated on what it trains with. table_points: whether
    photos of tables come with their points. DataError names a pool that has nothing, and what was found instead.
    """
    places = [place for folder in folders for place in training_places(Path(folder), groups)]
    paths = {
        (group, domain): [
            path
            for place in places
            if (place.group, place.domain) == (group, domain)
            for path in pictures(place.folder)
        ]
        for group in groups
        for domain in DOMAINS
    }
    photos = [path for (_, domain), each in paths.items() if domain == "photo" for path in each]
    given = points_of(photos, points, map(Path, folders)) if points else {}
    train = {group: Unpaired() for group in groups}
    validation = {group: Unpaired() for group in groups}
    for (group, domain), here in paths.items():
        may_spare = spare is None or domain in spare.get(group, ())
        kept = validation_names([path.name for path in here]) if may_spare else set()
        with ThreadPoolExecutor() as pool:
            decoded = list(pool.map(lambda path: _decoded(path, size, given.get(path)), here))
        for path, (picture, marks) in zip(here, decoded, strict=True):
            target = (validation if path.name in kept else train)[group]
            getattr(target, domain).append(picture)
            if domain == "photo":
                target.points.append(marks)
    for table in tables:
        for name, photo, marks in aligned(Path(table), size):
            if name in train:
                train[name].photo.append(photo)
                train[name].points.append(marks if table_points else None)
    apart = {group: tuple(name for name in DOMAINS if getattr(kept, name)) for group, kept in validation.items()}
    spared = {group: names for group, names in apart.items() if names}
    numbers = numbers_explained(map(Path, folders), groups)
    _complete(train, validation, needed, folders, ", ".join(sorted({place.group for place in places})) + numbers)
    return Collected(train, validation, spared)


def validation_names(names: Sequence[str]) -> set[str]:
    """Which pictures of a set do not train but tell the best checkpoint; none of a small set."""
    if len(names) < VALIDATION_FROM:
        return set()
    count = min(VALIDATION_MOST, len(names) // VALIDATION_SHARE)
    return set(sorted(names, key=lambda name: hashlib.sha256(b"validation " + name.encode()).hexdigest())[:count])


def _decoded(path: Path, size: int, marks: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """A picture at `size`, and its points there. marks: ten px of the file."""
    picture = read(path)
    height, width = picture.shape[:2]
    if marks is not None:
        check_inside(marks, path, width, height)
        marks = marks * np.tile([size / width, size / height], len(POINTS)).astype(np.float32)
    return resized(picture, size), marks


def _complete(train, validation, needed, folders, seen: str) -> None:
    for pool in needed:
        for domain in DOMAINS:
            if not any(getattr(train[group], domain) for group in pool):
                there = f"{domain} of {' or '.join(pool)}: no pictures in {', '.join(map(str, folders))}"
                raise DataError(f"{there}; found groups: {seen}")
    for group, kept in validation.items():
        for domain in DOMAINS:
            if not getattr(kept, domain):
                setattr(kept, domain, getattr(train[group], domain)[:VALIDATION_MOST])
