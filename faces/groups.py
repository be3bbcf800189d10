"""Which group's style draws a face: rules say who belongs to a group, evidence over a track says which face does.

    look (faces/looks.py) -> share of each group by its rule -> averaged over the track -> a choice that is kept to

The rule of the four shipped groups: up to 14 years `kids`, from 53 on `elderly`, everybody between by sex. Drawings
know no group of their own for 13 to 17 and 41 to 60, so these ages go to the nearer group, but a little longer to the
young: being drawn young by mistake offends less than being drawn old. Groups are configuration: `RULES` has a few more,
and a file of rules adds others (`read_rules`). A group without a rule is never chosen by itself; the first group of a
model stands in for what no group of it takes.
"""

import argparse
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faces.looks import Look
from livetoon import cli
from livetoon.errors import UsageError
from livetoon.files import write_json

AUTO = "auto"
KIDS_BELOW, ELDERLY_ABOVE = 13, 60  # years: surely so
YOUNG_FROM, YOUNG_TO = 18, 40  # surely young
OLDEST = 200
AGE_BANDS = ((0, 14), (15, 52), (53, OLDEST))  # years of kids, young and elderly, as faces are sorted

EVERY_S = 0.3  # between looks: 1.5 ms every eighth frame
SOON_S = 0.12  # between looks at a new face, and while one or all of the last ones point to another group
FIRST_LOOKS = 8  # a new face is judged within its first second
STEADY_S = 1.0  # another group must lead for this long before it draws
LEAD = 0.15  # by which another group must lead to count
NEWEST = 0.2  # weight of the newest look: evidence is forgotten within a second, so a swapped person is noticed
MAX_YAW_DEG, MAX_BLUR = 35, 0.8  # a turned or smeared face says little


@dataclass(frozen=True)
class Rule:
    """Who belongs to a group: sex "F", "M" or None for both, ages (first, last) in years or None for all, glasses True
    (with), False (without) or None (either)."""

    sex: str | None = None
    ages: tuple[int, int] | None = None
    glasses: bool | None = None

    def share(self, look: Look) -> float:
        """Probability that it holds, age, sex and glasses taken as independent."""
        age = 1.0 if self.ages is None else look.between(*self.ages)
        sex = 1.0 if self.sex is None else look.female if self.sex == "F" else 1 - look.female
        glasses = 1.0 if self.glasses is None else look.glasses if self.glasses else 1 - look.glasses
        return age * sex * glasses


TOLD_APART = ("young-women", "young-men", "kids", "elderly")  # the shipped model's, which live video tells apart
_KIDS, _YOUNG, _ELDERLY = AGE_BANDS
RULES: dict[str, Rule] = {
    "young-women": Rule("F", _YOUNG),
    "young-men": Rule("M", _YOUNG),
    "kids": Rule(ages=_KIDS),
    "elderly": Rule(ages=_ELDERLY),
    "women": Rule("F"),
    "men": Rule("M"),
    "women-with-glasses": Rule("F", glasses=True),
    "women-without-glasses": Rule("F", glasses=False),
    "men-with-glasses": Rule("M", glasses=True),
    "men-without-glasses": Rule("M", glasses=False),
}


def read_rules(path: Path) -> dict[str, Rule]:
    """`RULES`, and over them those of a JSON file: {"GROUP": {"sex": "F", "ages": [13, 40], "glasses": true}}, every
    key may be left out.

    UsageError for a file that cannot be read or says something else.
    """
    place = f"--group-rules {path}"
    expected = 'expected {"GROUP": {"sex": "F" or "M", "ages": [first, last], "glasses": true or false}}'
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{place}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # the second of brackets in brackets, thousands deep
        raise UsageError(f"{place} is not JSON ({error}); {expected}") from None
    if not isinstance(said, dict):
        raise UsageError(f"{place}: {expected}")
    return RULES | {name: _rule(rule, f"{place}: {name}", expected) for name, rule in said.items()}


def check_rules(rules: Mapping[str, Rule], groups: Collection[str]) -> None:
    """UsageError for a rule of a group that is neither in `groups`, those of the models, nor one of the usual names."""
    for name in rules:
        if name not in RULES and name not in groups:
            raise UsageError(f"--group-rules: there is no group {name}; there are {', '.join(groups)}")


def _rule(said: object, place: str, expected: str) -> Rule:
    if not isinstance(said, dict) or said.keys() - {"sex", "ages", "glasses"}:
        raise UsageError(f"{place}: {expected}")
    sex, ages, glasses = said.get("sex"), said.get("ages"), said.get("glasses")
    whole = isinstance(ages, list) and len(ages) == 2 and all(type(age) is int for age in ages) and ages[0] <= ages[1]
    if sex not in (None, "F", "M") or not (ages is None or whole) or not (glasses is None or isinstance(glasses, bool)):
        raise UsageError(f"{place}: {expected}")
    return Rule(sex, None if ages is None else (ages[0], ages[1]), glasses)


def group_of(age: int, female: bool) -> str | None:
    """The group that a face of known age (years) and sex surely belongs to; None for 13 to 17 and 41 to 60."""
    if age < KIDS_BELOW:
        return "kids"
    if age > ELDERLY_ABOVE:
        return "elderly"
    if YOUNG_FROM <= age <= YOUNG_TO:
        return "young-women" if female else "young-men"
    return None


def shares(look: Look, groups: Sequence[str], rules: Mapping[str, Rule] = RULES) -> np.ndarray:
    """Probability of each of `groups` by its rule -> (len(groups),) float32, sums to 1; what no rule takes goes to the
    first group.

    >>> shares(Look(0.25, np.eye(91, dtype=np.float32)[30]), ("young-women", "young-men", "kids")).tolist()
    [0.25, 0.75, 0.0]
    """
    found = np.array([rules[group].share(look) if group in rules else 0.0 for group in groups], np.float32)
    found[0] += max(0.0, 1 - float(found.sum()))
    return found / found.sum()


class Router:
    """One track's group: the first look decides, then only a second of steady evidence changes it."""

    def __init__(self, groups: Sequence[str], rules: Mapping[str, Rule] = RULES):
        self._groups, self._rules = tuple(groups), rules
        self._mean = np.zeros(len(self._groups), np.float32)
        self._looks = 0
        self._last_look: float | None = None
        self._choice = self._rival = 0
        self._rival_since = 0.0
        self._doubted = False  # the newest look, or the evidence, is for another group

    @property
    def group(self) -> str:
        """The group that draws this face now."""
        return self._groups[self._choice]

    def wants_look(self, t: float, yaw: float, blur: float) -> bool:
        """Whether a look at `t` seconds is due and would say something."""
        if self._last_look is None:
            return True
        if abs(yaw) > MAX_YAW_DEG or blur > MAX_BLUR:
            return False
        due = SOON_S if self._looks < FIRST_LOOKS or self._doubted else EVERY_S
        return t - self._last_look >= due

    def add(self, look: Look, t: float) -> None:
        """Take in a look made at `t` seconds."""
        self._looks += 1
        newest = np.float32(max(1 / self._looks, NEWEST))
        seen = shares(look, self._groups, self._rules)
        self._mean = self._mean + newest * (seen - self._mean)
        leader = int(self._mean.argmax())
        if self._last_look is None:
            self._choice = leader
        elif self._mean[leader] - self._mean[self._choice] < LEAD:
            leader = self._choice
        if leader != self._rival:
            self._rival, self._rival_since = leader, t
        if self._rival != self._choice and t - self._rival_since >= STEADY_S:
            self._choice = self._rival
        self._doubted = self._rival != self._choice or int(seen.argmax()) != self._choice
        self._last_look = t


def arguments() -> argparse.ArgumentParser:
    """The command's options."""
    parser = cli.parser(
        "python -m faces.groups",
        "Say how well the groups are told apart on the pictures of a table.",
        "python -m faces.groups evaluate table.csv --images photos --json figures.json",
    )
    parser.add_argument("command", choices=("evaluate",))
    parser.add_argument("table", type=Path, metavar="TABLE.csv", help="file, sex, group or age; ethnicity, glasses")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the files (default: the table's)")
    parser.add_argument("--held-out", action="store_true", help="only the 400 rows that never train")
    parser.add_argument("--network", type=Path, metavar="FILE.onnx", help="another network than the shipped one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(_run, arguments(), argv)


def _run(options) -> None:
    from faces.judge import evaluate, report

    figures = evaluate(options.table, options.images, options.held_out, options.network)
    print(report(figures))
    if options.json is not None:
        write_json(options.json, figures)


if __name__ == "__main__":
    sys.exit(main())
