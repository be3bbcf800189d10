"""Which faces are alike for calibration: cells of group, pose and light, and a choice that is even over them.

What a network's numbers span depends on whom it sees, from where and in which light; a folder of portraits is mostly
one kind, frontal and well lit.
"""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple, TypeVar

GROUPS = ("young-women", "young-men", "kids", "elderly")  # those that faces.groups tells apart
POSES = ("left", "front", "right")  # where the face looks, in the picture
LIGHTS = ("dark", "middle", "bright")

# FaceMesh's yaw of real turned heads is small: of 600 portraits a tenth lies beyond 12 degrees to either side
TURNED_DEG = 12
# Luma of the face, of 255. Of the same portraits a tenth is darker, a third brighter.
DARK_BELOW, BRIGHT_FROM = 105, 160

Item = TypeVar("Item")


class Cell(NamedTuple):
    """One kind of face."""

    group: str
    pose: str
    light: str

    def __str__(self) -> str:
        return "-".join(self)


CELLS = tuple(Cell(*parts) for parts in product(GROUPS, POSES, LIGHTS))


def cell_of(group: str, yaw: float, luma: float) -> Cell:
    """yaw: degrees, positive where the face looks to the right of the picture; luma: mean of the face, of 255.

    >>> str(cell_of("kids", -20.0, 90.0))
    'kids-left-dark'
    """
    pose = "front" if abs(yaw) < TURNED_DEG else "left" if yaw < 0 else "right"
    light = "dark" if luma < DARK_BELOW else "bright" if luma >= BRIGHT_FROM else "middle"
    return Cell(group, pose, light)


def order_of(name: str) -> str:
    """What candidates of one cell are sorted by: as good as chance, and the same on every machine."""
    return hashlib.sha256(name.encode()).hexdigest()


def even(found: Mapping[Cell, Sequence[Item]], count: int) -> dict[Cell, list[Item]]:
    """Up to `count` of what was found, the first of each cell, then the second of each that has one, and so on.

    >>> one, other = CELLS[:2]
    >>> even({one: [1, 2, 3], other: [4]}, 3) == {one: [1, 2], other: [4]}
    True
    """
    turns = [(turn, place, cell) for place, cell in enumerate(CELLS) for turn in range(len(found.get(cell, ())))]
    chosen: dict[Cell, list[Item]] = {}
    for turn, _, cell in sorted(turns)[:count]:
        chosen.setdefault(cell, []).append(found[cell][turn])
    return chosen
