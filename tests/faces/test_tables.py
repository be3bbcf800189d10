from pathlib import Path

import pytest

from faces.tables import Person, held_out, read_people
from livetoon.errors import DataError


def table(folder: Path, text: str) -> Path:
    file = folder / "table.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_rows_say_what_they_say_and_nothing_else(tmp_path):
    file = table(tmp_path, "file,age,sex,glasses,group,ethnicity\na.jpg,7,M,0,kids,Asian\nb.jpg,,,2,,\n")
    one, other = read_people(file)
    assert one == Person("a.jpg", tmp_path / "a.jpg", 7, False, False, "kids", "Asian")
    assert other == Person("b.jpg", tmp_path / "b.jpg", None, None, True, None, None)
    assert read_people(file, Path("photos"))[0].path == Path("photos/a.jpg")


def test_what_two_tables_say_of_a_picture_is_put_together(tmp_path):
    aged = Person("a.jpg", tmp_path / "a.jpg", age=7, female=False)
    worn = Person("a.jpg", tmp_path / "a.jpg", female=True, glasses=True)
    assert worn.completed(aged) == Person("a.jpg", tmp_path / "a.jpg", 7, True, True)
    assert worn.completed(None) == worn


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name,age\na.jpg,3\n", "has no column file"),
        ("file,age\n", "has no rows"),
        ("file,age\n,3\n", "line 2: file is missing"),
        ("file,age\na.jpg,old\n", "line 2: age is 'old', expected a number"),
        ("file,age\na.jpg,-1\n", "line 2: age is '-1', expected years from 0 on"),
        ("file,sex\na.jpg,F\nb.jpg,woman\n", "line 3: sex is 'woman', expected F or M"),
        ("file,glasses\na.jpg,yes\n", "line 2: glasses is 'yes', expected a number"),
    ],
)
def test_a_wrong_table_is_named_with_its_line(tmp_path, text, sentence):
    with pytest.raises(DataError, match=sentence):
        read_people(table(tmp_path, text))


def test_a_table_that_is_missing_or_no_text_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.csv: No such file"):
        read_people(tmp_path / "nowhere.csv")
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\x00file")
    with pytest.raises(DataError, match="not a table in UTF-8"):
        read_people(tmp_path / "table.csv")


def test_held_out_rows_follow_from_their_names_alone():
    names = [f"images/{number}.jpg" for number in range(50)]
    held = held_out(names)
    assert len(held) == 10
    assert held == held_out(list(reversed(names)))
    assert {Path(name).name for name in held} == held_out([Path(name).name for name in names])
