"""What tables say about pictures: their group, and five points of the face that somebody set by hand.

    file,group  or  file,age,sex  (F/M), and left_eye_x, left_eye_y, ... mouth_right_y where they are known

`file` is a path in the folder of pictures or beside the table, or a name that one picture alone has. Points are px of
the picture as it is seen, upright; left is left in the picture. Cells may be left empty where nothing is known.
"""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from faces.align import COORDINATES
from faces.groups import group_of
from faces.tables import lines
from livetoon.errors import DataError
from trainer.group_names import why_not

# Folders and sheets with a meaning of their own.
RESERVED = ("photo", "cartoon", "train", "test", "traina", "trainb", "testa", "testb", "dropped")


@dataclass(frozen=True)
class Label:
    """group: where it belongs, or None for the reason `why`; points: five of (x, y) px, or None."""

    group: str | None = None
    why: str = ""
    points: tuple[tuple[float, float], ...] | None = None


def check_group(name: str) -> str:
    """The name itself; DataError where no group, or no folder of one, can be called so."""
    why = "it means something else in a data folder" if name.lower() in RESERVED else why_not(name)
    if why:
        raise DataError(f"{name!r} cannot name a group ({why}); choose another name")
    return name


def read_labels(
    source: Path, found: Iterable[Path], table: Path | None, points: Path | None, groups: Sequence[str] | None
) -> dict[Path, Label]:
    """What `table` and `points` say about the pictures `found` in `source`, by picture. Points of `points` come before
    those of `table`; of the groups in `table` only `groups` count, where they are given.

    DataError names the missing column, or the line of a value that cannot be used.
    """
    found = set(found)
    labels: dict[Path, Label] = {}
    if table is not None:
        rows = _rows(table, source, found, ("file",))
        if not ({"group"} <= rows[0][2].keys() or {"age", "sex"} <= rows[0][2].keys()):
            raise DataError(f"{table} has no column group, nor age and sex; expected one of these beside file")
        for place, path, row in rows:
            group, why = _group(row, groups, place)
            labels[path] = Label(group, why, _points(row, place))
    if points is not None:
        for place, path, row in _rows(points, source, found, ("file", *COORDINATES)):
            if (five := _points(row, place)) is not None:
                labels[path] = replace(labels.get(path, Label(why=f"not in {table}")), points=five)
    return labels


def _rows(table: Path, source: Path, found: set[Path], needed: Sequence[str]) -> list[tuple[str, Path, dict]]:
    """Place (for messages), picture and values of each row that names one of `found`."""
    rows = []
    named: dict[str, list[Path]] = {}
    for path in found:
        named.setdefault(path.name, []).append(path)
    for place, row in lines(table, needed):
        values = {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}
        places = [Path(os.path.abspath(folder / values["file"])) for folder in (source, table.parent)]
        places = [path for path in places if path in found]
        if not places and len(alike := named.get(Path(values["file"]).name, [])) == 1:
            places = alike
        if places:
            rows.append((place, places[0], values))
    if not rows:
        raise DataError(f"{table}: none of its files lies in {source}; `file` is a path in it or beside the table")
    return rows


def _group(row: dict, groups: Sequence[str] | None, place: str) -> tuple[str | None, str]:
    named = row.get("group", "")
    if named and (groups is None or named in groups):
        try:
            return check_group(named), ""
        except DataError as error:
            raise DataError(f"{place}: {error}") from None
    if not (row.get("age") and row.get("sex")):
        return None, f"group {named!r} is none of {', '.join(groups or ())}" if named else "no group in the table"
    age = _number(row, "age", place)
    if row["sex"] not in ("F", "M"):
        raise DataError(f"{place}: sex is {row['sex']!r}, expected F or M")
    by_age = group_of(int(age), row["sex"] == "F")
    if by_age is None:
        return None, f"{age:g} years belong to no group for sure"
    return (by_age, "") if groups is None or by_age in groups else (None, f"{by_age} is none of {', '.join(groups)}")


def _points(row: dict, place: str) -> tuple[tuple[float, float], ...] | None:
    """Five points, or None where all of them are empty."""
    if not any(row.get(name) for name in COORDINATES):
        return None
    values = [_number(row, name, place) for name in COORDINATES]
    five = tuple(zip(values[::2], values[1::2], strict=True))
    left, right, _, mouth_left, mouth_right = five
    upright = left[1] + right[1] < mouth_left[1] + mouth_right[1]
    if upright and left[0] > right[0]:
        raise DataError(f"{place}: left_eye lies right of right_eye; left is left in the picture")
    if len(set(five)) < len(five):
        raise DataError(f"{place}: two of the five points lie in one place")
    return five


def _number(row: dict, name: str, place: str) -> float:
    try:
        value = float(row.get(name, ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{place}: {name} is {row.get(name, '')!r}, expected a number")
    return value
