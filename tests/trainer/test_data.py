"""Data folders: every layout that is promised, masks, and the table of photos."""

import shutil

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from faces.tables import HELD_OUT, held_out
from livetoon.errors import DataError, ModelError
from trainer import data


def test_layouts(pairs, tmp_path):
    flat = tmp_path / "flat"
    shutil.copytree(pairs / "many", flat / "train")
    assert len(data.load([flat], [], ["any"], 64)["any"].photos) == 6
    both = data.load([flat, pairs], [], ["many", "few"], 64)
    assert (len(both["many"].photos), len(both["few"].photos)) == (12, 2)


@pytest.mark.parametrize("names", [("many", "few"), ("0", "1")])
def test_public_folders_hold_pairs_by_name(names, pairs, tmp_path):
    for name, group in zip(names, ("many", "few"), strict=True):
        shutil.copytree(pairs / group / "photo", tmp_path / "trainA" / name)
        shutil.copytree(pairs / group / "cartoon", tmp_path / "trainB" / name)
    (tmp_path / "trainB" / names[1] / "1.png").unlink()
    ours, public = (data.load([folder], [], ["many", "few"], 64) for folder in (pairs, tmp_path))
    assert (len(public["many"].photos), len(public["few"].photos)) == (6, 1)
    assert np.array_equal(public["many"].photos, ours["many"].photos)
    assert np.array_equal(public["many"].cartoons, ours["many"].cartoons)


def test_public_folders_without_groups_hold_pairs_of_the_basic_one(pairs, tmp_path):
    shutil.copytree(pairs / "many" / "photo", tmp_path / "trainA")
    shutil.copytree(pairs / "many" / "cartoon", tmp_path / "trainB")
    assert len(data.load([tmp_path], [], ["many"], 64)["many"].photos) == 6


def test_a_missing_group_of_numbered_folders_is_told_which_number_it_has(pairs, tmp_path):
    shutil.copytree(pairs / "many" / "photo", tmp_path / "trainA" / "0")
    shutil.copytree(pairs / "many" / "cartoon", tmp_path / "trainB" / "0")
    with pytest.raises(DataError, match=r"^few: no pairs in .*; numbered folders begin at 0: 0 \(many\), 1 \(few\)$"):
        data.load([tmp_path], [], ["many", "few"], 64)


def test_test_pictures_never_train(pairs, tmp_path):
    shutil.copytree(pairs / "many", tmp_path / "train")
    shutil.copytree(pairs / "many", tmp_path / "test")
    assert len(data.load([tmp_path], [], ["any"], 64)["any"].photos) == 6


def test_a_photo_without_its_drawing_is_no_pair(pairs, tmp_path):
    shutil.copytree(pairs / "few", tmp_path / "few")
    (tmp_path / "few" / "cartoon" / "1.png").unlink()
    assert len(data.load([tmp_path], [], ["few"], 64)["few"].photos) == 1


@pytest.mark.parametrize("make", ["nothing", "empty"])
def test_folders_without_pairs_are_named(make, tmp_path):
    folder = tmp_path / "folder"
    if make == "empty":
        folder.mkdir()
    with pytest.raises(DataError, match="folder"):
        data.load([folder], [], ["many"], 64)


def test_the_mask_is_the_person(pairs):
    group = data.load([pairs], [], ["many"], 64)["many"]
    for photo, alpha in zip(group.photos, group.alphas, strict=True):
        person = (photo.min(axis=2) < 240).astype(np.uint8)
        core = cv2.erode(person, np.ones((5, 5), np.uint8))
        assert (alpha[core == 1] > 127).all()
        assert (alpha[person == 0] <= 127).all()
        assert alpha[0].max() == 0


def test_white_inside_a_person_stays_inside():
    photo = np.full((64, 64, 3), 255, np.uint8)
    cv2.circle(photo, (32, 32), 20, (90, 60, 50), -1)
    cv2.circle(photo, (32, 32), 8, (255, 255, 255), -1)
    assert data.person_mask(photo)[32, 32] == 255


def test_table_photos_are_aligned_sorted_and_held_out(tmp_path, pairs):
    (tmp_path / "images").mkdir()
    header = "file,age,sex,group," + ",".join(f"{p}_{a}" for p in data.POINTS for a in "xy")
    points = "50,60,80,60,65,78,53,88,77,88"
    rows = []
    for number in range(410):
        age = (5, 25, 50, 70)[number % 4]
        rows.append(f"images/{number}.png,{age},F,x,{points}")
    (tmp_path / "table.csv").write_text("\n".join([header, *rows]))
    cv2.imwrite(str(tmp_path / "images" / "0.png"), np.full((128, 128, 3), 128, np.uint8))
    unseen = held_out([row.split(",")[0] for row in rows])
    assert len(unseen) == 82  # a fifth; never more than 400
    assert len(held_out([f"{number}.png" for number in range(2400)])) == HELD_OUT == 400
    for number in range(1, 410):
        shutil.copy(tmp_path / "images" / "0.png", tmp_path / "images" / f"{number}.png")
    found = data.load([pairs], [tmp_path / "table.csv"], ["many", "few"], 64)
    assert not found["many"].unpaired  # no such groups in the table
    shutil.copytree(pairs / "many", tmp_path / "data" / "kids")
    kids = data.load([tmp_path / "data"], [tmp_path / "table.csv"], ["kids"], 64)["kids"]
    expected = sum(row.split(",")[1] == "5" and row.split(",")[0] not in unseen for row in rows)
    assert len(kids.unpaired) == expected > 0
    assert kids.unpaired[0].shape == (64, 64, 3)


def dark_is_person(path, side=32):
    """A network that takes everything darker than 0.9 for the person."""
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["grey"], keepdims=1),
        helper.make_node("Less", ["grey", "limit"], ["dark"]),
        helper.make_node("Cast", ["dark"], ["mask"], to=TensorProto.FLOAT),
    ]
    constants = [numpy_helper.from_array(np.array([3]), "axes"), numpy_helper.from_array(np.float32(0.9), "limit")]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, side, side, 3])
    mask = helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, side, side, 1])
    graph = helper.make_graph(nodes, "dark", [image], [mask], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def test_a_network_marks_the_person_in_photos_of_any_size(pairs, tmp_path):
    dark_is_person(tmp_path / "dark.onnx")
    segment = data.segmenter(tmp_path / "dark.onnx")
    photo = cv2.cvtColor(cv2.imread(str(pairs / "many" / "photo" / "0.png")), cv2.COLOR_BGR2RGB)
    mask = segment(photo)
    assert mask.shape == photo.shape[:2] and mask.dtype == np.uint8
    assert np.mean((mask > 127) == (photo.mean(axis=2) < 230)) > 0.97


COLUMNS = ",".join(["file", "age", "sex", *(f"{p}_{a}" for p in data.POINTS for a in "xy")])
POINTS = "50,60,80,60,65,78,53,88,77,88"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (f"{COLUMNS}\na.png,5,F,{POINTS}\na.png,five,F,{POINTS}\n", "line 3: age is 'five', expected a number"),
        (f"{COLUMNS}\na.png,5,F,{POINTS.replace('78', '')}\n", "line 2: nose_y is '', expected a number"),
        (f"{COLUMNS}\na.png,nan,F,{POINTS}\n", "line 2: age is 'nan', expected a number"),
        (f"{COLUMNS}\na.png,5\n", "line 2: sex is missing"),
        (f"{COLUMNS}\n", "has no rows"),
        (f"{COLUMNS.replace('age', 'years')}\na.png,5,F,{POINTS}\n", "has no column age; expected file, age, sex"),
        (f"{COLUMNS}\nä.png,5,F,{POINTS}\n".encode("latin-1"), "not a table in UTF-8"),
    ],
    ids=["no number", "no point", "nan", "short", "empty", "no age", "latin-1"],
)
def test_what_is_wrong_in_a_table_is_named(content, sentence, tmp_path, pairs):
    table = tmp_path / "table.csv"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=f"table.csv:? {sentence}"):
        data.load([pairs], [table], ["many"], 64)


@pytest.mark.parametrize("content", [b"", b"no network"])
def test_masks_from_what_is_no_network_are_refused(content, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="not a network that can be read"):
        data.segmenter(tmp_path / "bad.onnx")


def test_a_table_without_points_is_refused(tmp_path, pairs):
    (tmp_path / "table.csv").write_text("file,age,sex\na.jpg,3,F\n")
    with pytest.raises(DataError, match=r"has no column left_eye_x, .*; expected file, age, sex, left_eye_x"):
        data.load([pairs], [tmp_path / "table.csv"], ["many"], 64)
