"""Where the pictures of a data folder lie: the one place that knows how such folders look.

    DATA/[train/][<group>/]photo/*  and  cartoon/*          ours
    DATA/trainA/[<group>/]*         and  trainB/[<group>/]* as the public projects name them (A: photos); numbered
                                                            folders are groups in the order of --groups, from 0 on

Pictures of the same name in both domains are pairs, for those who want pairs (data.py).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from livetoon.errors import DataError

DOMAINS = ("photo", "cartoon")
PUBLIC = {"trainA": "photo", "trainB": "cartoon"}


class Place(NamedTuple):
    """A folder of pictures. home: what it has in common with the folder of the same pictures in the other domain."""

    group: str
    domain: str
    folder: Path
    home: str


def root_of(folder: Path) -> Path:
    """The folder itself, or `train` in it."""
    return folder / "train" if (folder / "train").is_dir() else folder


def training_places(folder: Path, groups: Sequence[str]) -> list[Place]:
    """Everything in a data folder; DataError where that is nothing, or numbers that do not fit `groups`."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected DATA/[group/]photo and DATA/[group/]cartoon")
    check_numbers(folder, groups)
    if found := places(folder, groups):
        return found
    raise DataError(
        f"{folder}: no pictures to learn from; expected DATA/[group/]photo and DATA/[group/]cartoon (or trainA "
        "and trainB): python -m trainer.prepare makes such a folder of any pictures"
    )


def places(folder: Path, groups: Sequence[str]) -> list[Place]:
    """What lies in a folder; pictures in no group's folder are the first group's."""
    root = root_of(folder)
    found = [
        Place(groups[0] if place == root else place.name, domain, place / domain, str(place))
        for place in (root, *_folders(root))
        for domain in DOMAINS
        if (place / domain).is_dir()
    ]
    for name, domain in PUBLIC.items():
        inner = [Place(_group_of(path.name, groups), domain, path, "public") for path in _folders(root / name)]
        found += inner or [Place(groups[0], domain, root / name, "public")] * (root / name).is_dir()
    return found


def check_numbers(folder: Path, groups: Sequence[str]) -> None:
    """DataError where numbered folders would be taken for other groups than was meant."""
    numbers = _numbers(folder, groups)
    if numbers and (numbers[0] > 0 or numbers[-1] >= len(groups)):
        raise DataError(
            f"{root_of(folder) / 'trainA'}, trainB: folders {', '.join(map(str, numbers))} for the groups "
            f"{', '.join(groups)}, but numbers begin at 0: expected {_legend(groups)}, or the groups' names"
        )


def numbers_explained(folders: Iterable[Path], groups: Sequence[str]) -> str:
    """What follows a sentence about missing pictures: which number is which group, where folders are numbered."""
    numbered = any(_numbers(folder, groups) for folder in folders)
    return f"; numbered folders begin at 0: {_legend(groups)}" if numbered else ""


def _legend(groups: Sequence[str]) -> str:
    return ", ".join(f"{number} ({group})" for number, group in enumerate(groups))


def _numbers(folder: Path, groups: Sequence[str]) -> list[int]:
    """Of the folders that stand for groups by their numbers, in both domains."""
    names = {path.name for name in PUBLIC for path in _folders(root_of(folder) / name)}
    return sorted({int(name) for name in names if name.isdecimal() and name not in groups})


def _group_of(name: str, groups: Sequence[str]) -> str:
    """A folder's group: its name, or the group of its number."""
    numbered = name.isdecimal() and name not in groups and int(name) < len(groups)
    return groups[int(name)] if numbered else name


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
