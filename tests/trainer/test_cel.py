"""People as animated films draw them: parts lie where the photo's do, and say what the photo says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from faces.align import TEMPLATE
from faces.landmarks import FaceMesh
from faces.looks import AGES, Look
from faces.pictures import read
from trainer import cel_parts, distill
from trainer.cel import cel, skin_colour
from trainer.checkpoint import save_generator
from trainer.distill_pairs import read_note
from trainer.networks import build
from trainer.pen import Pen, ellipse
from trainer.prepare_face import fitted


def look(age: int = 25, female: float = 1.0, glasses: float = 0.0) -> Look:
    return Look(female, (age == AGES).astype(np.float32), glasses)


@pytest.fixture(scope="module")
def points(portrait_crop) -> np.ndarray:
    return fitted(FaceMesh(), portrait_crop, TEMPLATE).points[:, :2]


@pytest.fixture
def paper() -> np.ndarray:
    """What a teacher without lines would draw: skin."""
    return np.full((256, 256, 3), (224, 180, 160), np.uint8)


def about(picture: np.ndarray, place: np.ndarray, reach: int = 14) -> np.ndarray:
    x, y = place.round().astype(int)
    return picture[y - reach : y + reach, x - reach : x + reach].astype(int)


def dark(part: np.ndarray) -> int:
    """Pixels of ink or iris."""
    return int((part.max(axis=2) < 110).sum())


def white(part: np.ndarray) -> int:
    return int((part.min(axis=2) > 235).sum())


def test_open_eyes_have_iris_and_light_and_shut_ones_a_line(portrait_crop, paper, points):
    shut = points.copy()
    for upper, lower in zip(cel_parts.UPPER_LIDS, cel_parts.LOWER_LIDS, strict=True):
        shut[upper] = shut[lower]
    drawn, asleep = (cel(portrait_crop, paper, where, look()) for where in (points, shut))
    for upper, lower in zip(cel_parts.UPPER_LIDS, cel_parts.LOWER_LIDS, strict=True):
        middle = points[upper + lower].mean(axis=0)
        assert dark(about(drawn, middle)) > 150 and white(about(drawn, middle)) > 40
        assert 20 < dark(about(asleep, middle)) < 120 and white(about(asleep, middle)) == 0


def test_eyes_look_where_the_photo_does(portrait_crop, points):
    """The right third of each opening is made dark, then the left one."""
    eyes = cel_parts.eyes_of(points, cel_parts.Who.of(look()))
    for eye in eyes:
        outline = np.vstack([eye.upper, eye.lower])
        left, right = outline[:, 0].min(), outline[:, 0].max()
        columns = np.arange(256)
        photos = []
        for third in (columns > right - (right - left) / 3, columns < left + (right - left) / 3):
            photo = np.full((256, 256, 3), 240, np.uint8)
            photo[:, third] = 20
            photos.append(photo)
        to_right, to_left = (eye.gaze(photo) * np.sign(eye.inwards[0]) for photo in photos)
        assert to_right > 0.2 and to_left < -0.2


def test_lips_apart_show_teeth_and_lips_together_a_line(portrait_crop, paper, points):
    middle = points[[13, 14]].mean(axis=0)
    shut, apart = points.copy(), points.copy()
    shut[cel_parts.LOWER_LIP] = shut[cel_parts.UPPER_LIP]
    apart[cel_parts.LOWER_LIP[1:-1]] = apart[cel_parts.UPPER_LIP[1:-1]] + [0, 16]
    shut, apart = (about(cel(portrait_crop, paper, where, look()), middle) for where in (shut, apart))
    assert white(apart) > 30 and white(shut) == 0
    assert ((apart[..., 0] - apart[..., 1]) > 70).sum() > 60  # the red behind the teeth


def test_age_sex_and_glasses_show(portrait_crop, paper, points):
    young, old, man, wearer = (
        cel(portrait_crop, paper, points, seen).astype(int)
        for seen in (look(), look(age=75), look(female=0.0), look(glasses=0.9))
    )
    fold = points[206]
    assert about(old, fold, 8).min(axis=2).min() < about(young, fold, 8).min(axis=2).min() - 30
    brows = [points[brow].mean(axis=0) for brow in cel_parts.BROWS]
    assert all(about(man, brow).sum() < about(young, brow).sum() for brow in brows)
    bridge = points[[133, 362]].mean(axis=0)
    assert dark(about(wearer, bridge, 8)) > 15 > dark(about(young, bridge, 8))


def test_sunglasses_hide_the_eyes(portrait_crop, paper, points):
    photo = portrait_crop.copy()
    for lower in cel_parts.LOWER_LIDS:
        x, y = points[lower].mean(axis=0).round().astype(int)
        photo[y - 18 : y + 24, x - 24 : x + 24] = 5
    drawn = cel(photo, paper, points, look(glasses=0.9))
    for lower in cel_parts.LOWER_LIDS:
        assert white(about(drawn, points[lower].mean(axis=0), 8)) == 0
        assert dark(about(drawn, points[lower].mean(axis=0), 8)) > 200


def test_a_background_stays_white_by_the_teachers_alpha(tmp_path, portrait_crop):
    """Without --masks: the shipped model knows who is in front, and the rules take colours from the photo."""
    (tmp_path / "photos").mkdir()
    Image.fromarray(portrait_crop).save(tmp_path / "photos" / "a.png")
    teacher = Path(distill.__file__).parents[1] / "engine/zoo/live/generator.safetensors"
    assert distill.main([str(teacher), str(tmp_path / "photos"), "--out", str(tmp_path / "pairs"), "--animated"]) == 0
    photo, cartoon = (read(next((tmp_path / "pairs").rglob(f"{side}/a.png"))) for side in ("photo", "cartoon"))
    white = photo.min(axis=2) == 255
    assert white.mean() > 0.2 and (cartoon[white].min(axis=1) > 225).mean() > 0.95


def test_skin_keeps_its_order_and_a_skins_hue():
    people = [np.array(colour) for colour in ((70, 45, 32), (120, 80, 60), (180, 135, 112), (228, 190, 172))]
    painted = [skin_colour(colour) for colour in people]
    sums = [colour.sum() for colour in painted]
    assert sums == sorted(sums) and sums[0] < 400 < sums[-1]  # dark skin stays dark
    for seen in (*people, np.array([150, 90, 150]), np.array([120, 120, 120]), np.array([60, 110, 60])):
        red, green, blue = skin_colour(seen)
        assert red > green > blue


def test_the_photos_own_colours_stay_beside_the_face(portrait_crop, paper, points):
    """The orange of the suit, which a teacher knows nothing of."""
    red, green, blue = cel(portrait_crop, paper, points, look())[236:250, 20:60].reshape(-1, 3).mean(axis=0)
    assert np.abs(portrait_crop[236:250, 20:60].reshape(-1, 3).mean(axis=0) - (red, green, blue)).max() < 60


def test_a_pen_covers_what_it_is_told_to():
    sheet = np.full((64, 64, 3), 200, np.uint8)
    pen = Pen(sheet)
    pen.shape(ellipse(np.array([31.5, 31.5]), np.array([10, 0]), np.array([0, 6])), (0, 0, 0))
    covered = (200.0 - pen.picture()[..., 0]) / 200
    assert covered.sum() == pytest.approx(np.pi * 60, rel=0.05)  # edges are an eighth of a pixel wider
    assert covered @ np.arange(64) @ np.ones(64) / covered.sum() == pytest.approx(31.5, abs=0.1)
    pen = Pen(sheet)
    pen.stroke(np.array([(12, 32), (32, 32), (52, 32)]), np.full(3, 4), (0, 0, 0), share=0.5)
    column = pen.picture()[:, 32, 0]
    assert column[32] == 100 and (200.0 - column).sum() / 100 == pytest.approx(4, abs=0.5)
    before = pen.picture()
    pen.shape(ellipse(np.array([-40, -40]), np.array([5, 0]), np.array([0, 5])), (0, 0, 0))  # beside the sheet
    assert (pen.picture() == before).all() and (sheet == 200).all()


def test_a_shape_keeps_its_colours_where_the_sheet_cuts_it():
    fade = np.array([(0, 0, 0), (200, 200, 200)])
    half, whole = Pen(np.zeros((64, 64, 3), np.uint8)), Pen(np.zeros((64, 64, 3), np.uint8))
    for pen, row in ((whole, 32), (half, 0)):
        pen.shape(ellipse(np.array([32, row]), np.array([12, 0]), np.array([0, 20])), fade)
    lower = whole.picture()[34:50, 32, 0].astype(int)
    assert np.abs(lower - half.picture()[2:18, 32, 0]).max() <= 2 and lower[0] > 95


def test_a_teacher_draws_animated_pairs(tmp_path, portrait_crop, capsys, caplog, monkeypatch):
    torch.manual_seed(0)
    save_generator(tmp_path / "live.safetensors", build("live", groups=["one"], widths=(4, 8, 8, 8), blocks=(0, 1, 0)))
    (tmp_path / "photos").mkdir()
    Image.fromarray(portrait_crop).save(tmp_path / "photos" / "a.png")
    Image.fromarray(np.full((256, 256, 3), 120, np.uint8)).save(tmp_path / "photos" / "wall.png")
    Image.fromarray(np.roll(portrait_crop, 110, axis=1)).save(tmp_path / "photos" / "aside.png")  # no aligned crop
    command = [str(tmp_path / "live.safetensors"), str(tmp_path / "photos"), "--out", str(tmp_path / "pairs")]
    assert distill.main(command) == 0
    assert "3 drawn" in capsys.readouterr().out
    assert distill.main([*command, "--animated"]) == 0 and distill.main([*command, "--animated"]) == 0
    told = capsys.readouterr()
    assert "1 drawn, 0 were done before, 2 left out" in told.out
    assert "0 drawn, 1 were done before, 2 left out" in told.out
    # Whom the rules cannot draw is not kept in another style either.
    assert [path.name for path in sorted((tmp_path / "pairs").rglob("*.png"))] == ["a.png", "a.png"]
    assert "left out: wall: no face is found" in caplog.text
    drawing = tmp_path / "pairs" / "one" / "cartoon" / "a.png"
    note = read_note(drawing)
    monkeypatch.setattr(distill, "_made_by", lambda *_: {"animated": "other rules"})
    assert distill.main([*command, "--animated"]) == 0 and read_note(drawing) != note
    eyes = read(drawing)[100:140, 70:186]
    assert (eyes.min(axis=2) > 235).sum() > 40 and dark(eyes) > 300
    assert distill.main([*command, "--animated", "--eyes", "1.5"]) == 2
    assert "--animated has proportions and colours of its own; leave --eyes" in capsys.readouterr().err
