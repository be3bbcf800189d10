"""`python -m faces.groups evaluate`, through the command and on looks whose answer is known."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from faces import groups, judge
from faces.judge import Judged, figures, truth_of
from faces.looks import AGES, Look
from faces.tables import Person


def person(group=None, sex=None, age=None, ethnicity=None, glasses=None) -> Person:
    return Person("a.jpg", Path("a.jpg"), age, None if sex is None else sex == "F", glasses, group, ethnicity)


def look(age: int, female: float, glasses: float = 0.0) -> Look:
    return Look(female, (age == AGES).astype(np.float32), glasses)


@pytest.mark.parametrize(
    ("row", "truth"),
    [
        (person("kids", "F", 5), "kids"),
        (person("young", "F", 25), "young-women"),
        (person("young", "M", 25), "young-men"),
        (person("elderly", "M"), "elderly"),
        (person("young-men"), "young-men"),
        (person("middle", "F", 50), None),
        (person("teens", "F", 15), None),
        (person("young"), None),
        (person(None, "M", 12), "kids"),
        (person(None, "M", 15), None),
        (person(None, "M"), None),
    ],
)
def test_the_truth_of_a_row(row, truth):
    assert truth_of(row) == truth


def test_figures_of_known_looks():
    told_right, told_wrong = look(30, 0.9), look(30, 0.1)
    rows = [Judged(person("young", "F", 30, "Asian"), "young-women", told_right)] * 3
    rows += [Judged(person("young", "F", 30, "White"), "young-women", told_wrong)]
    rows += [Judged(person("kids", "M", 8, "White"), "kids", look(8, 0.3))] * 3
    rows += [Judged(person("kids", "M", 8, "Asian"), "kids", None)]
    rows += [Judged(person("middle", "F", 50), None, look(50, 0.9))]
    said = figures(rows)
    assert said["balanced_accuracy"] == pytest.approx(0.75)
    low, high = said["interval"]
    assert 0 < low < 0.75 < high <= 1
    assert said["per_group"] == {
        "young-women": {"accuracy": 0.75, "pictures": 4},
        "kids": {"accuracy": 0.75, "pictures": 4},
    }
    assert said["per_ethnicity"]["Asian"]["balanced_accuracy"] == pytest.approx(0.5)
    assert said["per_ethnicity"]["White"]["balanced_accuracy"] == pytest.approx(0.5)
    assert said["confusion"]["young-women"]["young-men"] == 1
    assert said["confusion"]["kids"]["no face"] == 1
    assert said["others"] == {"middle": {"young-women": 1}}
    assert said["sex_accuracy"] == pytest.approx(7 / 8)
    assert said["age_error_years"] == 0
    text = judge.report(said)
    assert "balanced accuracy 75.0 %" in text and "(middle)" in text and "Asian" in text


def test_a_baby_of_no_year_is_too_young_for_its_sex_to_be_judged():
    rows = [Judged(person("kids", "F", age), "kids", look(age, 0.1)) for age in (0, 3)]
    assert "sex_accuracy" not in figures(rows)
    assert figures([*rows, Judged(person("kids", "F", 4), "kids", look(4, 0.9))])["sex_accuracy"] == 1


def test_glasses_are_judged_where_both_kinds_are_known():
    rows = [
        Judged(person(glasses=True), None, look(30, 0.5, 0.9)),
        Judged(person(glasses=True), None, look(30, 0.5, 0.2)),
    ]
    assert "glasses" not in figures([*rows, Judged(person("kids"), "kids", look(8, 0.5))])
    rows += [Judged(person(glasses=False), None, look(30, 0.5, 0.1)), Judged(person("kids"), "kids", look(8, 0.5))]
    assert figures(rows)["glasses"] == {"balanced_accuracy": 0.75, "with": 2, "without": 1}


def test_a_table_about_glasses_alone_is_judged_by_them():
    rows = [Judged(person(glasses=True), None, look(30, 0.5, 0.9)), Judged(person(glasses=False), None, look(30, 0.5))]
    text = judge.report(figures(rows))
    assert text == "glasses 100.0 % balanced (1 with, 1 without)"


@pytest.fixture
def photos(tmp_path):
    """A table of the astronaut, a wall, and one of no sure group; its pictures lie in another folder."""
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), cv2.cvtColor(data.astronaut()[:260, 90:350], cv2.COLOR_RGB2BGR))
    cv2.imwrite(str(folder / "wall.png"), np.full((200, 200, 3), 90, np.uint8))
    with open(tmp_path / "table.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("file", "age", "sex", "group"), ("a.png", 40, "F", "young"), ("wall.png", 8, "M", "kids")])
        writer.writerow(("a.png", 50, "F", "middle"))
    return tmp_path


def test_the_command_prints_and_writes_the_figures(photos, capsys):
    out = photos / "figures.json"
    command = ["evaluate", str(photos / "table.csv"), "--images", str(photos / "photos"), "--json", str(out)]
    assert groups.main(command) == 0
    printed = capsys.readouterr().out
    said = json.loads(out.read_text())
    assert said["confusion"]["kids"] == {"young-women": 0, "young-men": 0, "kids": 0, "elderly": 0, "no face": 1}
    assert said["per_group"]["young-women"]["pictures"] == 1
    assert sum(said["others"]["middle"].values()) == 1
    assert "balanced accuracy" in printed and "no face" in printed


def test_missing_pictures_are_counted_before_the_others_are_looked_at(photos, monkeypatch, capsys):
    (photos / "photos" / "wall.png").unlink()
    monkeypatch.setattr(judge, "look_at", None)
    assert groups.main(["evaluate", str(photos / "table.csv"), "--images", str(photos / "photos")]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "wall.png: no such file, as 1 of 3 pictures; --images DIR says where they lie" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.csv"], "nowhere.csv: No such file"),
        (["table.csv"], "a.png"),  # its pictures lie elsewhere
        (["table.csv", "--images", "photos", "--json", "nowhere/figures.json"], "its folder is not there"),
        (["table.csv", "--images", "photos", "--held-out"], "no row of kids, elderly, or young"),
        (["table.csv", "--images", "photos", "--network", "table.csv"], "table.csv"),
    ],
)
def test_what_cannot_be_judged_is_one_sentence(photos, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(photos)
    assert groups.main(["evaluate", *arguments]) in (1, 2)
    error = capsys.readouterr().err
    assert sentence in error.splitlines()[-1] and "Traceback" not in error
