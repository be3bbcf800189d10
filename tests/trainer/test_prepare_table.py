"""Tables of pictures: groups, ages and points, and what is wrong in them."""

import csv
from pathlib import Path

import pytest

from faces.align import COORDINATES
from livetoon.errors import DataError
from trainer.prepare_table import read_labels

HAND_SET = (204, 102, 247, 105, 223, 126, 200, 139, 247, 141)


def write_table(path: Path, rows: list[dict]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_a_table_knows_pictures_that_were_moved_by_their_name(tmp_path):
    found = [tmp_path / "in" / name for name in ("x/a.png", "x/b.png", "y/b.png")]
    rows = [{"file": f"elsewhere/{name}", "group": "kids"} for name in ("a.png", "b.png")]
    write_table(tmp_path / "t.csv", rows)
    labels = read_labels(tmp_path / "in", found, tmp_path / "t.csv", None, None)
    assert list(labels) == found[:1]  # which b.png is meant nobody knows


def test_without_groups_the_tables_own_names_count(tmp_path):
    write_table(tmp_path / "t.csv", [{"file": "a.png", "group": "pirates"}])
    found = {tmp_path / "in/a.png"}
    assert read_labels(tmp_path / "in", found, tmp_path / "t.csv", None, None)[tmp_path / "in/a.png"].group == "pirates"


POINTS_ROW = {"file": "a.png", **dict(zip(COORDINATES, HAND_SET, strict=True))}


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"file": "a.png", "age": "5"}, "has no column group, nor age and sex"),
        ({"name": "a.png", "group": "kids"}, "has no column file"),
        ({"file": "b.png", "group": "kids"}, "none of its files lies in"),
        ({"file": "a.png", "group": "../out"}, r"line 2: '\.\./out' cannot name a group \(expected letters"),
        ({"file": "a.png", "group": "photo"}, r"line 2: 'photo' cannot name a group \(it means something else"),
        ({"file": "a.png", "age": "old", "sex": "F"}, "line 2: age is 'old', expected a number"),
        ({"file": "a.png", "age": "5", "sex": "w"}, "line 2: sex is 'w', expected F or M"),
        ({**POINTS_ROW, "group": "kids", "nose_x": ""}, "line 2: nose_x is '', expected a number"),
        ({**POINTS_ROW, "group": "kids", "nose_x": "inf"}, "line 2: nose_x is 'inf', expected a number"),
        ({**POINTS_ROW, "group": "kids", "left_eye_x": "400"}, "line 2: left_eye lies right of right_eye"),
        ({**POINTS_ROW, "group": "kids", "nose_x": "204", "nose_y": "102"}, "line 2: two of the five points"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:30],
)
def test_what_is_wrong_in_a_table_is_named(row, sentence, tmp_path):
    write_table(tmp_path / "t.csv", [row])
    with pytest.raises(DataError, match=rf"t\.csv:? {sentence}"):
        read_labels(tmp_path / "in", {tmp_path / "in/a.png"}, tmp_path / "t.csv", None, None)


def test_points_need_all_their_columns(tmp_path):
    write_table(tmp_path / "p.csv", [{"file": "a.png", "left_eye_x": 3}])
    with pytest.raises(DataError, match="has no column left_eye_y, right_eye_x"):
        read_labels(tmp_path / "in", {tmp_path / "in/a.png"}, None, tmp_path / "p.csv", None)
