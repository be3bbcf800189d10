"""How well groups are told apart on the pictures of a table: what `python -m faces.groups evaluate` prints.

Every row whose group is one of the four is searched, aligned and looked at as live video does it, but once. A picture
in which no face is found counts as wrong.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faces.align import align_matrix, crop
from faces.groups import RULES, TOLD_APART, group_of, shares
from faces.looks import Look, Looker
from faces.pictures import read
from faces.still import FaceFinder
from faces.tables import Person, people_held_out, read_people
from livetoon.errors import DataError
from livetoon.progress import Progress
from livetoon.tables import table as as_table

GROUPS = TOLD_APART
NONE = "no face"
DRAWS = 2000  # of the bootstrap


@dataclass(frozen=True)
class Judged:
    """person: the row; truth: its group; look: None where no face was found."""

    person: Person
    truth: str | None
    look: Look | None

    @property
    def told(self) -> str | None:
        """The group that the look says."""
        return None if self.look is None else GROUPS[int(shares(self.look, GROUPS, RULES).argmax())]


def evaluate(table: Path, images: Path | None = None, only_held: bool = False, network: Path | None = None) -> dict:
    """The figures of a table, JSON-ready. images: folder of its files (default: the table's own); only_held: the rows
    that never train; network: an ONNX file as trainer/groups.py writes it instead of the shipped one.

    DataError where the table has no row of the four groups and none about glasses, or a picture cannot be read.
    """
    people = read_people(table, images)
    if only_held:
        people = people_held_out(people)
    if not any(truth_of(person) or person.glasses is not None for person in people):
        raise DataError(
            f"{table}: no row of kids, elderly, or young with a sex; expected file, sex and group (or age), or glasses"
        )
    if missing := [person.path for person in people if not person.path.is_file()]:
        raise DataError(
            f"{missing[0]}: no such file, as {len(missing)} of {len(people)} pictures; --images DIR says where they lie"
        )
    return {"table": table.name, **figures(look_at(people, Looker(file=network)))}


def look_at(people: Sequence[Person], looker: Looker) -> list[Judged]:
    """One look at the largest face of each picture."""
    finder, progress = FaceFinder("photo"), Progress()
    judged = []
    for number, person in enumerate(people, 1):
        picture = read(person.path)
        found = finder(picture)
        look = None if found is None else looker(crop(picture, align_matrix(found.points)))
        judged.append(Judged(person, truth_of(person), look))
        if number % 20 == 0:
            progress.tick(f"{number} of {len(people)} pictures")
    return judged


def truth_of(person: Person) -> str | None:
    """The group of a row, by its group and sex, or by age and sex; None for any other (teens, middle)."""
    if person.group in GROUPS:
        return person.group
    if person.group is None:
        known = person.age is not None and person.female is not None
        return group_of(person.age, person.female) if known else None
    if person.group == "young" and person.female is not None:
        return "young-women" if person.female else "young-men"
    return None


def figures(judged: Sequence[Judged]) -> dict:
    """balanced_accuracy (mean of the groups' recalls) with a bootstrap interval of 95 %, per_group, per_ethnicity, the
    confusion matrix, and what the other rows were told to be. All shares in [0, 1]."""
    rows = [each for each in judged if each.truth]
    columns = (*GROUPS, NONE)
    table = np.zeros((len(GROUPS), len(columns)), int)
    for each in rows:
        table[GROUPS.index(each.truth), columns.index(each.told or NONE)] += 1
    others: dict[str, Counter] = defaultdict(Counter)
    for each in judged:
        if not each.truth:
            others[each.person.group or "unknown"][each.told or NONE] += 1
    by_ethnicity = defaultdict(list)
    for each in rows:
        if each.person.ethnicity:
            by_ethnicity[each.person.ethnicity].append(each)
    return {
        **_accuracy(rows),
        "per_group": {
            group: {"accuracy": round(float(line[at] / line.sum()), 4), "pictures": int(line.sum())}
            for at, (group, line) in enumerate(zip(GROUPS, table, strict=True))
            if line.sum()
        },
        "per_ethnicity": {name: _accuracy(of) for name, of in sorted(by_ethnicity.items())},
        "confusion": {
            group: dict(zip(columns, line.tolist(), strict=True)) for group, line in zip(GROUPS, table, strict=True)
        },
        "others": {group: dict(told) for group, told in sorted(others.items())},
        **_apart(judged),
    }


def _accuracy(rows: Sequence[Judged]) -> dict:
    """Balanced accuracy over the groups that occur, its bootstrap interval (groups drawn apart), the pictures; empty
    without any."""
    right = {group: np.array([each.told == group for each in rows if each.truth == group], float) for group in GROUPS}
    right = {group: hits for group, hits in right.items() if len(hits)}
    if not right:
        return {}
    random = np.random.default_rng(0)
    drawn = np.mean(
        [hits[random.integers(0, len(hits), (DRAWS, len(hits)))].mean(axis=1) for hits in right.values()], axis=0
    )
    return {
        "balanced_accuracy": round(float(np.mean([hits.mean() for hits in right.values()])), 4),
        "interval": [round(float(edge), 4) for edge in np.percentile(drawn, (2.5, 97.5))],
        "pictures": len(rows),
    }


def _apart(judged: Sequence[Judged]) -> dict:
    """Sex (from 4 years on), age and glasses, each on the faces that were found and whose row says it."""
    seen = [each for each in judged if each.look is not None]
    said: dict[str, float] = {}
    sexed = [
        each for each in seen if each.person.female is not None and (each.person.age is None or each.person.age >= 4)
    ]
    if sexed:
        hits = [(each.look.female > 0.5) == each.person.female for each in sexed]
        said["sex_accuracy"] = round(float(np.mean(hits)), 4)
    aged = [each for each in seen if each.person.age is not None]
    if aged:
        errors = [abs(each.look.age - min(each.person.age, 90)) for each in aged]
        said["age_error_years"] = round(float(np.mean(errors)), 2)
    told = {wears: [] for wears in (True, False)}
    for each in seen:
        if each.person.glasses is not None:
            told[each.person.glasses].append((each.look.glasses > 0.5) == each.person.glasses)
    if all(told.values()):
        said["glasses"] = {
            "balanced_accuracy": round(float(np.mean([np.mean(hits) for hits in told.values()])), 4),
            "with": len(told[True]),
            "without": len(told[False]),
        }
    return said


def report(figures: dict) -> str:
    """The figures for people: the confusion matrix in pictures, accuracies in percent."""
    columns = {"truth": "group", **{name: name for name in (*GROUPS, NONE)}, "right": "right %"}
    rows = [
        {"truth": group, **line, "right": 100 * figures["per_group"][group]["accuracy"]}
        for group, line in figures["confusion"].items()
        if group in figures["per_group"]
    ]
    rows += [{"truth": f"({group})", **told} for group, told in figures["others"].items()]
    lines = [as_table(rows, columns), "", f"balanced accuracy {_percent(figures)}"] if figures["per_group"] else []
    lines += [f"  {name:10} {_percent(of)}" for name, of in figures["per_ethnicity"].items()]
    if "sex_accuracy" in figures:
        lines.append(f"sex right {100 * figures['sex_accuracy']:.1f} % (from 4 years on)")
    if "age_error_years" in figures:
        lines.append(f"age wrong by {figures['age_error_years']:.1f} years on average")
    if glasses := figures.get("glasses"):
        accuracy = 100 * glasses["balanced_accuracy"]
        lines.append(f"glasses {accuracy:.1f} % balanced ({glasses['with']} with, {glasses['without']} without)")
    return "\n".join(lines)


def _percent(of: dict) -> str:
    low, high = of["interval"]
    return f"{100 * of['balanced_accuracy']:.1f} % ({100 * low:.1f} to {100 * high:.1f}) of {of['pictures']} pictures"
