"""Tables of faces: CSV files whose rows name a picture and say who is on it.

The pictures of a table with the smallest sha256 of their name are held out: they never train, so that every measurement
finds them unseen.
"""

import csv
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from livetoon.errors import DataError

HELD_OUT = 400  # pictures of a table that never train, at most


def held_out(names: Sequence[str]) -> set[str]:
    """The names with the smallest sha256: 400 or, of a small table, a fifth."""
    count = min(HELD_OUT, len(names) // 5)
    return set(sorted(names, key=lambda name: hashlib.sha256(Path(name).name.encode()).hexdigest())[:count])


def read_table(table: Path, numbers: Sequence[str]) -> list[dict]:
    """Rows of a CSV with `file`, `age`, `sex` and the columns `numbers`; age (an int) and these as numbers.

    DataError names the column that is missing, or the line of a value that is none.
    """
    columns = ("file", "age", "sex", *numbers)
    rows = []
    for place, row in _some(table, columns):
        for name in columns:
            if row[name] is None:
                raise DataError(f"{place}: {name} is missing")
        rows.append(row | {name: _number(row, name, place) for name in numbers} | {"age": _age(row, place)})
    return rows


def _some(table: Path, columns: Sequence[str]) -> list[tuple[str, dict]]:
    if not (rows := lines(table, columns)):
        raise DataError(f"{table} has no rows")
    return rows


def lines(table: Path, columns: Sequence[str]) -> list[tuple[str, dict]]:
    """Place (for messages) and values of each row of a CSV; DataError when it cannot be read or lacks one of these
    columns."""
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
                raise DataError(f"{table} has no column {', '.join(missing)}; expected {', '.join(columns)}")
            return [(f"{table}: line {reader.line_num}", row) for row in reader]
    except OSError as error:
        raise DataError(f"{table}: {error.strerror}; expected a CSV with {', '.join(columns)}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: not a table in UTF-8, comma-separated ({error})") from None


def _number(row: dict, name: str, place: str) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{place}: {name} is {row[name]!r}, expected a number")
    return value


def _age(row: dict, place: str) -> int:
    """In years; a table that writes -1 for an age that nobody knows would make kids of them."""
    if (age := int(_number(row, "age", place))) < 0:
        raise DataError(f"{place}: age is {row['age']!r}, expected years from 0 on; leave it empty where it is unknown")
    return age


@dataclass(frozen=True)
class Person:
    """One row: file as the table names it, path of the picture; age in years, female, glasses, group and ethnicity:
    None where the table does not say."""

    file: str
    path: Path
    age: int | None = None
    female: bool | None = None
    glasses: bool | None = None
    group: str | None = None
    ethnicity: str | None = None

    def completed(self, other: "Person | None") -> "Person":
        """Itself, with what `other` says where it says nothing."""
        if other is None:
            return self
        mine, theirs = ([getattr(person, field.name) for field in fields(Person)] for person in (self, other))
        return Person(*(one if one is not None else another for one, another in zip(mine, theirs, strict=True)))


def read_people(table: Path, images: Path | None = None) -> list[Person]:
    """Rows of a CSV with `file` and any of `age`, `sex` (F/M), `glasses` (0 none), `group` and `ethnicity`, an empty
    value says nothing; `images`: folder of the files, without it that of the table.

    DataError names the table, or the line of a value that cannot be used.
    """
    folder = table.parent if images is None else images
    people = []
    for place, row in _some(table, ("file",)):
        if not row["file"]:
            raise DataError(f"{place}: file is missing")
        sex, glasses = row.get("sex"), row.get("glasses")
        if sex and sex not in ("F", "M"):
            raise DataError(f"{place}: sex is {sex!r}, expected F or M")
        people.append(
            Person(
                row["file"],
                folder / row["file"],
                _age(row, place) if row.get("age") else None,
                sex == "F" if sex else None,
                _number(row, "glasses", place) > 0 if glasses else None,
                row.get("group") or None,
                row.get("ethnicity") or None,
            )
        )
    return people


def people_held_out(people: Sequence[Person]) -> list[Person]:
    """Those of a table's people that `held_out` keeps back, in the same order."""
    names = held_out([person.file for person in people])
    return [person for person in people if person.file in names]
