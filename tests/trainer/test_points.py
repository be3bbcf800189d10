"""Lists of five points: how they are written, whose they are, and what is none."""

from pathlib import Path

import numpy as np
import pytest

from faces.align import COORDINATES
from livetoon.errors import DataError
from trainer.points import belonging, read_points


@pytest.mark.parametrize(
    ("photos", "rows", "found"),
    [
        (["d/kids/photo/a.png", "d/old/photo/a.png"], ["kids/photo/a.png", "old/photo/a.png"], [0, 1]),
        (["d/kids/photo/a.png", "d/old/photo/a.png"], ["a.png"], [0, 0]),
        (["d/kids/photo/a.png", "d/old/photo/a.png"], ["a.png", "old/photo/a.png"], [0, 1]),
        (["d/kids/photo/a.png", "d/old/photo/a.png"], ["kids/photo/a.png"], [0, None]),
        (["d/photo/a.png"], ["images/a.png"], [0]),
        (["d/photo/a.png"], ["images/a.png", "more/a.png"], [None]),
        (["d/photo/a.png"], ["./photo/a.png", "b.png"], [0]),
        (["a.png"], ["images/x/y/a.png"], [0]),
        (["d/photo/a.png"], ["photo.a.png"], [None]),
        (["d/photo/a.png"], [], [None]),
    ],
)
def test_points_are_those_of_the_row_that_names_the_photo_most_closely(photos, rows, found, tmp_path):
    lines = [f"{row},{','.join([str(number)] * 10)}" for number, row in enumerate(rows)]
    (tmp_path / "points.csv").write_text("\n".join([f"file,{','.join(COORDINATES)}", *lines, ""]))
    points = read_points(tmp_path / "points.csv") if rows else {}
    told = belonging([Path(photo) for photo in photos], points)
    assert [told[Path(photo)][0] if Path(photo) in told else None for photo in photos] == found


def test_celebas_list_is_read(tmp_path):
    rows = ["2", "lefteye_x lefteye_y righteye_x ...", "000001.jpg  69 109 106 113 77 142 73 152 108 154"]
    (tmp_path / "list.txt").write_text("\n".join([*rows, "000002.jpg 1 2 3 4 5 6 7 8 9 10", ""]))
    found = read_points(tmp_path / "list.txt")
    assert found["000001.jpg"].tolist() == [69, 109, 106, 113, 77, 142, 73, 152, 108, 154]
    assert found["000002.jpg"].dtype == np.float32 and len(found) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"file,left_eye_x\na.png,1\n",
        f"file,{','.join(COORDINATES)}\na.png,1,2,3\n".encode(),
        f"file,{','.join(COORDINATES)}\na.png,{','.join(['x'] * 10)}\n".encode(),
        f"file,{','.join(COORDINATES)}\na.png,{','.join(['nan'] * 10)}\n".encode(),
        b"1\nheader\na.jpg 1 2 3\n",
        b"\xff\xfe\x00",
    ],
    ids=["empty", "a column", "short", "words", "nan", "a short line", "no text"],
)
def test_points_that_are_none_are_refused(content, tmp_path):
    (tmp_path / "points").write_bytes(content)
    with pytest.raises(DataError, match=r"--points .*points: (expected CelebA's landmark list|cannot be read)"):
        read_points(tmp_path / "points")


def test_points_that_are_not_there_are_named(tmp_path):
    with pytest.raises(DataError, match=r"--points .*nowhere.csv: cannot be read"):
        read_points(tmp_path / "nowhere.csv")
