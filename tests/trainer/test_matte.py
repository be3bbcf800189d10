import csv
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from faces.align import COORDINATES
from faces.matte import SIDE, Matte
from faces.tables import held_out
from trainer import matte, matte_judge
from trainer.matte_network import MatteNetwork
from trainer.matte_people import Photo, dressed, placed
from trainer.matte_scenes import KINDS, Scenes, room_of


def person(side: int = 96) -> Photo:
    """Head and shoulders in two colours before white, the shoulders cut at both sides."""
    picture, alpha = np.full((side, side, 3), 255, np.uint8), np.zeros((side, side), np.uint8)
    for shown, head, body in ((picture, (200, 150, 120), (40, 60, 120)), (alpha, 255, 255)):
        cv2.rectangle(shown, (0, side * 3 // 4), (side, side), body, -1)
        cv2.ellipse(shown, (side // 2, side // 2), (side // 4, side // 3), 0, 0, 360, head, -1)
    return Photo(picture, alpha)


def taken() -> Photo:
    """The astronaut as she was taken, with a rough mask and her own points."""
    picture = data.astronaut()[:256, 60:380].copy()
    alpha = np.zeros(picture.shape[:2], np.uint8)
    cv2.ellipse(alpha, (164, 118), (72, 100), 0, 0, 360, 255, -1)
    points = np.array([(144, 102), (187, 105), (165, 130), (148, 155), (183, 157)], np.float32)
    return Photo(picture, alpha, points)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes([person(), taken()])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A folder as the tables are: ten pictures of the astronaut."""
    folder = tmp_path_factory.mktemp("table")
    (folder / "images").mkdir()
    values = dict(zip(COORDINATES, taken().points.ravel().tolist(), strict=True))
    rows = []
    for index in range(10):
        name = f"images/{index}.png"
        cv2.imwrite(str(folder / name), cv2.cvtColor(taken().picture, cv2.COLOR_RGB2BGR))
        rows.append({"file": name, "age": 30, "sex": "F", **values})
    with open(folder / "table.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_scenes_of_every_kind_follow_from_their_random_numbers(scenes, kind):
    for seed in range(8):
        picture, alpha = scenes(np.random.default_rng(seed), kind)
        assert picture.shape == (SIDE, SIDE, 3) and alpha.shape == (SIDE, SIDE)
        assert picture.dtype == alpha.dtype == np.uint8
        assert (alpha.max() == 0) == (kind == "empty")
        again = scenes(np.random.default_rng(seed), kind)
        assert np.array_equal(picture, again[0]) and np.array_equal(alpha, again[1])


def test_people_stand_at_the_lower_edge_from_a_third_to_all_of_the_height():
    heights = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        _, alpha, _ = placed(dressed(person(), random), 4 / 3, random)
        rows = np.flatnonzero((alpha > 127).any(axis=1))
        assert rows[-1] == SIDE - 1, seed
        heights.append(SIDE - rows[0])
    assert min(heights) < 0.45 * SIDE and max(heights) > 0.95 * SIDE
    assert min(heights) > 0.3 * SIDE


def test_shoulders_that_a_photo_cuts_are_round_and_a_body_goes_on_below():
    photo, head = person(), 48
    for seed in range(10):
        body = dressed(photo, np.random.default_rng(seed)).alpha
        left, middle = (body.shape[1] - 96) // 2, body.shape[1] // 2
        assert photo.alpha[73, 0] == 255 and body[73, left] == 0, seed
        assert (body[73:, middle] == 255).all(), seed
        assert (body[-1] > 127).sum() > 1.3 * head, seed


def test_a_frame_is_squeezed_as_much_as_it_is_wide():
    """The same person and the same random numbers: in a frame twice as wide half as wide in the square."""
    upright = SimpleNamespace(uniform=lambda low, high: (low + high) / 2, normal=lambda *_: 0.0)
    seen = [placed(person(), shape, upright)[1] > 127 for shape in (1.0, 2.0)]
    widths = [int(each[-20].sum()) for each in seen]
    assert widths[1] == pytest.approx(widths[0] / 2, abs=2)
    assert np.array_equal(seen[0].any(axis=1), seen[1].any(axis=1))


def test_rooms_come_from_where_nobody_is():
    photo = taken()
    room = room_of(photo)
    assert room.shape[0] == room.shape[1] >= 48
    everywhere = Photo(photo.picture, np.full_like(photo.alpha, 255), photo.points)
    assert room_of(everywhere) is None


def test_pictures_that_a_table_holds_out_never_train(table):
    marked = []

    def segment(picture):
        marked.append(picture)
        return taken().alpha

    photos = matte.photos_as_taken([table], segment)
    assert len(held_out([f"images/{index}.png" for index in range(10)])) == 2
    assert len(photos) == 8 and len(marked) == 2 * 8


def test_masks_that_are_unsure_teach_nothing(table):
    assert matte.photos_as_taken([table], lambda picture: np.full(picture.shape[:2], 120, np.uint8)) == []


def test_points_lie_on_the_kept_photo_as_on_the_file(table):
    photo = matte.photos_as_taken([table], lambda picture: taken().alpha)[0]
    scale = photo.alpha.shape[0] / 256
    np.testing.assert_allclose((photo.points + 0.5) / scale - 0.5, taken().points, atol=0.5)


def test_the_network_learns_what_it_is_shown(monkeypatch):
    """Bright rectangles: after a hundred small batches it finds others of them."""
    monkeypatch.setattr(matte, "BATCH", 4)

    def rectangles(random):
        picture, alpha = np.full((SIDE, SIDE, 3), 60, np.uint8), np.zeros((SIDE, SIDE), np.uint8)
        left, top = random.integers(8, 64, 2)
        part = np.s_[top : top + 56, left : left + 56]
        picture[part], alpha[part] = 200, 255
        return picture, alpha

    network = matte.train(rectangles, 100)
    x, alpha, _ = matte.batch_of(rectangles, np.random.default_rng(99))
    with torch.no_grad():
        found = network(torch.from_numpy(x)).sigmoid().numpy()
    assert ((found > 0.5) == (alpha > 0.5)).mean() > 0.97


def test_the_exported_file_says_what_the_network_says_and_is_small(tmp_path):
    torch.manual_seed(1)
    network, file = MatteNetwork().eval(), tmp_path / "net.onnx"
    matte.export(network, file)
    assert file.stat().st_size < 300_000
    picture = data.astronaut()[:128, 160:288].copy()
    x = torch.from_numpy(matte.network_input(picture)[None])
    with torch.no_grad():
        expected = network(x).sigmoid().numpy()
    np.testing.assert_allclose(Matte(file=file)._net(x.numpy())["alpha"], expected, atol=5e-3)


def test_the_command_trains_and_measures(pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(matte, "BATCH", 2)
    monkeypatch.setattr(matte, "KEPT_EVERY", 1)
    out, figures = tmp_path / "matte.onnx", tmp_path / "figures.json"
    assert matte.main(["train", "--data", str(pairs), "--steps", "2", "--out", str(out)]) == 0
    assert Matte(file=out)(data.astronaut()).shape == (512, 512)
    capsys.readouterr()
    evaluate = ["evaluate", "--data", str(pairs), "--out", str(out), "--json", str(figures)]
    assert matte.main(evaluate) == 0
    assert "outline right %" in capsys.readouterr().out
    assert '"photos": 8' in figures.read_text()


def test_figures_of_the_truth_are_perfect_and_of_its_opposite_are_not():
    scenes = matte_judge.frames([person(256).picture])
    truth = iter([alpha for _, alpha in scenes] + [255 - alpha for _, alpha in scenes])
    right = matte_judge.figures(lambda picture: next(truth), scenes)
    wrong = matte_judge.figures(lambda picture: next(truth), scenes)
    assert right == {"accuracy": 1, "error": 0, "outline_accuracy": 1, "outline_error": 0}
    assert wrong["accuracy"] < 0.01 and wrong["error"] > 0.9


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["train", "--out", "x.onnx"], 2, "--data: name at least one folder"),
        (["train", "--data", "{pairs}"], 2, "--out: say where"),
        (["train", "--data", "{pairs}", "--out", "x.onnx", "--steps", "0"], 2, "--steps: expected at least 1"),
        (["train", "--data", "{pairs}", "--out", "/nowhere/x.onnx"], 2, "/nowhere/x.onnx: its folder is not there"),
        (["train", "--data", "{pairs}", "--out", "x.onnx", "--photos", "{table}"], 2, "--photos: needs --masks"),
        (["train", "--data", "/nowhere", "--out", "x.onnx"], 1, "/nowhere: no such folder"),
        (
            ["train", "--data", "{pairs}", "--out", "x.onnx", "--photos", "{table}", "--masks", "{table}/table.csv"],
            1,
            "not a network that can be read",
        ),
    ],
    ids=["no data", "no out", "no steps", "no folder", "no masks", "no such data", "no network"],
)
def test_wrong_use_is_one_sentence(pairs, table, tmp_path, monkeypatch, capsys, arguments, code, sentence):
    monkeypatch.chdir(tmp_path)
    assert matte.main([argument.format(pairs=pairs, table=table) for argument in arguments]) == code
    assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_photos_that_keep_their_background_teach_nothing(tmp_path, capsys):
    (tmp_path / "photo").mkdir()
    cv2.imwrite(str(tmp_path / "photo" / "a.png"), taken().picture)
    assert matte.main(["train", "--data", str(tmp_path), "--out", str(tmp_path / "x.onnx"), "--steps", "1"]) == 1
    assert "no photo there stands on white" in capsys.readouterr().err
