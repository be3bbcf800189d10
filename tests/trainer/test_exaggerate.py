"""A drawing's proportions and colours in the pairs that a teacher draws."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from faces.pictures import read
from trainer.checkpoint import save_generator
from trainer.distill import Settings, distill, main
from trainer.distill_looks import Looks
from trainer.exaggerate import AS_THEY_ARE, Proportions, exaggerate
from trainer.networks import build

POINTS = np.array([(99, 119), (157, 119), (128, 156), (102, 176), (154, 176)], np.float32)


def dots() -> np.ndarray:
    """White, with a black disc of radius 8 in each eye, on the nose and on the mouth."""
    face = np.full((256, 256, 3), 255, np.uint8)
    for x, y in (*POINTS[:3], POINTS[3:].mean(axis=0)):
        cv2.circle(face, (round(float(x)), round(float(y))), 8, (0, 0, 0), -1)
    return face


def dark(picture: np.ndarray, point: np.ndarray) -> int:
    x, y = np.round(point).astype(int)
    return int((picture[y - 16 : y + 17, x - 16 : x + 17, 1] < 128).sum())


def test_each_part_grows_or_shrinks_in_its_place():
    before = dots()
    after = exaggerate(before, POINTS, Proportions(eyes=1.5, nose=0.8, mouth=0.8))
    for eye in POINTS[:2]:
        assert 1.6 < dark(after, eye) / dark(before, eye) < 2.4  # an area; the magnification fades outwards
    for part in (POINTS[2], POINTS[3:].mean(axis=0)):
        assert 0.6 < dark(after, part) / dark(before, part) < 0.85
    assert (after[:80] == before[:80]).all() and (after[230:] == before[230:]).all()


def test_as_they_are_changes_nothing():
    assert not AS_THEY_ARE and (exaggerate(dots(), POINTS, AS_THEY_ARE) == dots()).all()


def test_a_crop_without_a_face_stays(portrait_crop):
    looks = Looks(Proportions(eyes=1.5), 0.7)
    wall = np.full((256, 256, 3), 120, np.uint8)
    assert looks.shaped(wall) is wall and looks.coloured(wall, wall) is wall
    assert np.abs(looks.shaped(portrait_crop).astype(int) - portrait_crop).mean() > 1


def test_the_drawing_takes_the_persons_skin(portrait_crop):
    paper = np.full((256, 256, 3), (250, 242, 238), np.uint8)
    own = Looks(AS_THEY_ARE, 1.0).coloured(paper, portrait_crop)[150:170, 88:100].reshape(-1, 3).mean(axis=0)
    camera = portrait_crop[150:170, 88:100].reshape(-1, 3).mean(axis=0)
    assert np.abs(own - camera).mean() < 0.6 * np.abs(paper[0, 0] - camera).mean()


@pytest.mark.parametrize(
    ("option", "said"),
    [("--eyes=3", "--eyes 3: expected 0.5 to 2"), ("--own-colours=2", "--own-colours 2: expected 0 to 1")],
)
def test_values_that_make_no_face_are_refused(option, said, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    assert (
        main([str(tmp_path / "no.safetensors"), str(tmp_path / "photos"), "--out", str(tmp_path / "out"), option]) == 2
    )
    assert said in capsys.readouterr().err


def test_a_teacher_draws_the_photo_with_other_proportions_and_its_pair_stays(tmp_path, portrait_crop):
    torch.manual_seed(0)
    save_generator(tmp_path / "live.safetensors", build("live", groups=["one"], widths=(4, 8, 8, 8), blocks=(0, 1, 0)))
    Image.fromarray(portrait_crop).save((tmp_path / "photos").mkdir() or tmp_path / "photos" / "a.png")
    made = {}
    for name, settings in (("plain", Settings()), ("large", Settings(proportions=Proportions(eyes=1.5)))):
        assert distill(tmp_path / "live.safetensors", [tmp_path / "photos"], tmp_path / name, settings)["made"] == 1
        assert distill(tmp_path / "live.safetensors", [tmp_path / "photos"], tmp_path / name, settings)["made"] == 0
        made[name] = [read(tmp_path / name / "one" / side / "a.png") for side in ("photo", "cartoon")]
    again = distill(tmp_path / "live.safetensors", [tmp_path / "photos"], tmp_path / "plain", Settings(own_colours=0.5))
    assert again["made"] == 1  # other options: drawn anew
    eyes = np.s_[100:140, 70:186]
    assert np.abs(made["plain"][1][eyes].astype(int) - made["large"][1][eyes]).mean() > 0.5
    assert np.abs(made["plain"][0][eyes].astype(int) - made["large"][0][eyes]).mean() < 3
