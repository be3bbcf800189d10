"""What a data folder holds: every layout, what is kept for validation, points, and folders that hold nothing."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from faces.align import COORDINATES, TEMPLATE
from livetoon.errors import DataError
from trainer.collect import collect


def grey(path: Path, value: int, side: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((side, side, 3), value, np.uint8))


def values(pictures: list[np.ndarray]) -> list[int]:
    return sorted(int(picture[0, 0, 0]) for picture in pictures)


LAYOUTS = {
    "ours": ["many/photo", "many/cartoon", "few/photo", "few/cartoon"],
    "below train": ["train/many/photo", "train/many/cartoon", "train/few/photo", "train/few/cartoon"],
    "public, named": ["trainA/many", "trainB/many", "trainA/few", "trainB/few"],
    "public, numbered": ["trainA/0", "trainB/0", "trainA/1", "trainB/1"],
    "basic group without a folder": ["photo", "cartoon", "few/photo", "few/cartoon"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, tmp_path):
    for number, place in enumerate(LAYOUTS[layout]):
        grey(tmp_path / place / "a.png", 10 + number)
        grey(tmp_path / place / "b.png", 10 + number)
    for held in ("test/many/photo", "testA/many", "testB/many"):
        grey(tmp_path / held / "c.png", 99)
    found = collect([tmp_path], [], ["many", "few"], [("many",), ("few",)], 32).train
    seen = {group: (values(each.photo), values(each.cartoon)) for group, each in found.items()}
    assert seen == {"many": ([10, 10], [11, 11]), "few": ([12, 12], [13, 13])}


def test_pictures_without_groups_are_the_basic_groups(tmp_path):
    grey(tmp_path / "trainA" / "a.png", 1)
    grey(tmp_path / "trainB" / "a.png", 2)
    found = collect([tmp_path], [], ["many", "few"], [("many",)], 32)
    assert values(found.train["many"].photo) == [1] and values(found.train["many"].cartoon) == [2]
    assert not found.train["few"].photo


def test_folders_add_up_and_pictures_come_at_the_size_that_is_asked_for(pairs, tmp_path):
    other = Path(shutil.copytree(pairs, tmp_path / "other"))
    found = collect([pairs, other], [], ["many", "few"], [("many",), ("few",)], 48).train
    assert (len(found["many"].photo), len(found["few"].cartoon)) == (12, 4)
    assert {picture.shape for each in found.values() for picture in each.photo} == {(48, 48, 3)}


def test_groups_that_are_left_out_are_not_read(pairs, tmp_path):
    folder = Path(shutil.copytree(pairs, tmp_path / "data"))
    (folder / "few" / "photo" / "0.png").write_bytes(b"broken")
    assert list(collect([folder], [], ["many"], [("many",)], 32).train) == ["many"]


def test_a_large_set_spares_pictures_for_validation_and_a_small_one_is_its_own(tmp_path):
    for number in range(60):
        grey(tmp_path / "photo" / f"{number}.png", number)
        grey(tmp_path / "cartoon" / f"{number % 8}.png", 100 + number % 8)
    found = collect([tmp_path], [], ["many"], [("many",)], 32)
    train, kept = values(found.train["many"].photo), values(found.validation["many"].photo)
    assert len(kept) == 6 and sorted(train + kept) == list(range(60))
    assert values(found.validation["many"].cartoon) == values(found.train["many"].cartoon) == list(range(100, 108))
    assert found.spared == {"many": ("photo",)}  # so held-out photos are judged against cartoons that train
    again = collect([tmp_path], [], ["many"], [("many",)], 32)
    assert values(again.validation["many"].photo) == kept


@pytest.mark.parametrize("spare", [{}, {"many": ["cartoon"]}, {"few": ["photo"]}])
def test_a_set_that_may_not_spare_any_trains_with_all(spare, tmp_path):
    for number in range(60):
        grey(tmp_path / "photo" / f"{number}.png", number)
    grey(tmp_path / "cartoon" / "0.png", 100)
    found = collect([tmp_path], [], ["many"], [("many",)], 32, spare=spare)
    assert found.spared == {} and values(found.train["many"].photo) == list(range(60))
    assert len(found.validation["many"].photo) == 50


def test_a_pool_of_groups_needs_one_that_has_pictures(tmp_path):
    for place in ("many/photo", "many/cartoon", "few/photo"):
        grey(tmp_path / place / "a.png", 5)
    (tmp_path / "few" / "cartoon").mkdir(parents=True)
    collect([tmp_path], [], ["many", "few"], [("many", "few")], 32)
    with pytest.raises(DataError, match=r"^cartoon of few: no pictures in .*; found groups: few, many$"):
        collect([tmp_path], [], ["many", "few"], [("many",), ("few",)], 32)


def test_a_missing_group_of_numbered_folders_is_told_which_number_it_has(tmp_path):
    for place in ("trainA/0", "trainB/0", "trainA/1"):
        grey(tmp_path / place / "a.png", 5)
    with pytest.raises(DataError, match=r"^cartoon of few: no .*; numbered folders begin at 0: 0 \(many\), 1 \(few\)$"):
        collect([tmp_path], [], ["many", "few"], [("many",), ("few",)], 32)


@pytest.mark.parametrize("make", ["nothing", "a file", "an empty folder", "folders of another name"])
def test_folders_to_learn_nothing_from_are_named(make, tmp_path):
    folder = tmp_path / "data"
    if make == "a file":
        folder.write_text("pictures")
    elif make != "nothing":
        (folder / "faces" if make == "folders of another name" else folder).mkdir(parents=True)
    with pytest.raises(DataError, match=r"data: no (such folder|pictures to learn from)"):
        collect([folder], [], ["many"], [("many",)], 32)


def write_points(path: Path, **rows) -> Path:
    """A list with ten numbers for each file; keys are files, written `__` for `/` and without their ending."""
    lines = [f"{name.replace('__', '/')}.png,{','.join(map(str, each))}" for name, each in rows.items()]
    path.write_text("\n".join([f"file,{','.join(COORDINATES)}", *lines, ""]))
    return path


def marks_of(train) -> dict[int, list[float] | None]:
    """By the shade of the photo."""
    pairs = zip(train.photo, train.points, strict=True)
    return {int(photo[0, 0, 0]): marks if marks is None else marks.tolist() for photo, marks in pairs}


def test_pictures_of_one_name_in_several_groups_have_their_own_points(tmp_path):
    for shade, group in enumerate(("many", "few", "other")):
        grey(tmp_path / group / "photo" / "a.png", shade)
        grey(tmp_path / group / "cartoon" / "a.png", 100 + shade)
    listed = write_points(tmp_path / "points.csv", many__photo__a=[5] * 10, few__photo__a=[6] * 10)
    groups = ["many", "few", "other"]
    found = collect([tmp_path], [], groups, [tuple(groups)], 32, listed).train
    seen = [marks_of(found[group])[shade] for shade, group in enumerate(groups)]
    assert seen == [[5] * 10, [6] * 10, None]


def test_photos_of_a_table_come_with_its_points(tmp_path):
    for domain in ("photo", "cartoon"):
        grey(tmp_path / "data" / "kids" / domain / "a.png", 3, side=64)
    columns = ",".join(["file", "age", "sex", *COORDINATES])
    five = (TEMPLATE / 2 + (4, 3)).ravel()  # so that the crop of 64 px is half of the picture
    rows = [f"{number}.png,5,F,{','.join(map(str, five))}" for number in range(3)]
    for number in range(3):
        grey(tmp_path / f"{number}.png", 7 + number, side=160)
    (tmp_path / "table.csv").write_text("\n".join([columns, *rows, ""]))
    places = [tmp_path / "data"], [tmp_path / "table.csv"], ["kids"], [("kids",)], 64
    found = collect(*places).train["kids"]
    assert [marks is None for marks in found.points] == [True, False, False, False]
    for marks in found.points[1:]:
        np.testing.assert_allclose(marks, (TEMPLATE / 4).ravel(), atol=1e-3)
    older = collect(*places, table_points=False).train["kids"]
    assert len(older.photo) == 4 and older.points == [None] * 4


@pytest.mark.parametrize(
    ("points", "fits"),
    [([-3] * 10, True), ([-4] * 10, False), ([67] * 10, True), ([5] * 9 + [68], False), ([68] + [5] * 9, False)],
)
def test_points_outside_of_their_picture_are_refused(points, fits, tmp_path):
    for domain in ("photo", "cartoon"):
        grey(tmp_path / domain / "a.png", 3, side=64)
    listed = write_points(tmp_path / "points.csv", a=points)
    arguments = [tmp_path], [], ["many"], [("many",)], 32, listed
    if fits:
        assert len(collect(*arguments).train["many"].points) == 1
        return
    with pytest.raises(DataError, match=r"^--points: .*photo/a.png: its points lie outside of the picture of 64x64 px"):
        collect(*arguments)


def test_points_of_the_pictures_that_crops_were_cut_from_are_refused(tmp_path):
    """CelebA's list has the names of the crops that trainer.prepare makes of its pictures."""
    for domain in ("photo", "cartoon"):
        grey(tmp_path / "many" / domain / "a.png", 3, side=256)
    own = write_points(tmp_path / "crop_points.csv", many__photo__a=TEMPLATE.ravel())
    raw = write_points(tmp_path / "celeba.csv", a=[69, 109, 106, 113, 77, 142, 73, 152, 108, 154])
    by_hand = write_points(tmp_path / "by-hand.csv", a=TEMPLATE.ravel() + 5)
    arguments = [tmp_path], [], ["many"], [("many",)], 256
    for listed in (own, by_hand):
        assert collect(*arguments, listed).train["many"].points[0] is not None
    sentence = r"celeba.csv: its points of a.png are not those of .*photo/a.png, a crop .*; name .*crop_points.csv$"
    with pytest.raises(DataError, match=sentence):
        collect(*arguments, raw)


def test_points_move_with_their_photos(tmp_path):
    grey(tmp_path / "photo" / "a.png", 1, side=64)
    grey(tmp_path / "photo" / "b.png", 2, side=64)
    grey(tmp_path / "cartoon" / "a.png", 3, side=64)
    marks = ",".join(map(str, range(10)))
    (tmp_path / "points.csv").write_text(f"file,{','.join(COORDINATES)}\nphotos/a.png,{marks}\n")
    train = collect([tmp_path], [], ["many"], [("many",)], 32, tmp_path / "points.csv").train["many"]
    marks = {int(photo[0, 0, 0]): each for photo, each in zip(train.photo, train.points, strict=True)}
    assert np.allclose(marks[1], np.arange(10) / 2) and marks[2] is None
