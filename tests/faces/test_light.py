"""A face's broad light and shade in its drawing."""

import cv2
import numpy as np
import pytest

from faces.align import align_matrix, crop, move
from faces.finish import SMALL, Finish
from faces.landmarks import OVAL, five
from faces.light import DARKEST, LIGHTEST, light


@pytest.fixture(scope="module")
def face(finders, portrait):
    """Crop, landmarks and matrix of the portrait."""
    mesh = finders.fit_detection(portrait, finders.wide(portrait)[0])
    matrix = align_matrix(five(mesh.points))
    return crop(portrait, matrix), mesh.points[:, :2], matrix


@pytest.fixture(scope="module")
def points(face) -> np.ndarray:
    """(468, 2) px of a small copy."""
    return move(face[2], face[1]) * np.float32(SMALL / 256)


def flat(level: float) -> np.ndarray:
    return np.full((SMALL, SMALL, 3), level, np.uint8)


def test_a_dark_cheek_is_dark_in_the_drawing_by_its_share_and_nothing_outside_the_face(points):
    camera = flat(150)
    camera[:, : SMALL // 2] = 75
    x, y = points[OVAL].mean(axis=0)
    left, right = (int(y), int(x) - 8), (int(y), int(x) + 8)
    for share in (0.5, 1.0):
        found = light(flat(150), camera, points, share)
        assert found[left] / found[right] == pytest.approx(((75 + 16) / (150 + 16)) ** share, rel=0.05)
        assert (found[:2] == 1).all() and (found[:, :2] == 1).all() and (found[:, -2:] == 1).all()


def test_a_darker_room_is_no_shade(points):
    dim = light(flat(200), flat(60), points, 1.0)
    assert np.abs(dim - 1).max() < 0.01


def test_a_thin_line_of_the_drawing_stays(points):
    drawn = flat(200)
    x, y = points[OVAL].mean(axis=0).astype(int)
    drawn[y, x - 8 : x + 8] = 30
    lit = light(drawn, flat(200), points, 1.0)[y, x] * 30
    assert lit < 60  # its surroundings are as light as the person's; the line is no shade to be taken away


@pytest.mark.parametrize("levels", [(0, 255), (255, 0)])
def test_factors_stay_within_bounds(points, levels):
    found = light(flat(levels[0]), flat(levels[1]), points, 1.0)
    assert found.min() >= DARKEST - 1e-6 and found.max() <= LIGHTEST + 1e-6


def test_a_face_lit_from_one_side_is_drawn_so_and_its_colour_stays(face):
    picture, landmarks, matrix = face
    lit = (picture * np.linspace(0.4, 1.0, 256)[None, :, None]).astype(np.uint8)
    paint = np.full((256, 256, 4), (200, 188, 183, 255), np.uint8)
    own = Finish()(paint, lit, landmarks, matrix, 0.0, 0.0, 1.0)[..., :3].astype(float)
    left, right = own[140:170, 85:100], own[140:170, 156:171]
    in_camera = lit[140:170, 85:100].mean() / lit[140:170, 156:171].mean()
    assert in_camera < 0.9 and left.mean() / right.mean() == pytest.approx(in_camera, abs=0.07)
    chroma = [cv2.cvtColor((part / 255).astype(np.float32), cv2.COLOR_RGB2LAB)[..., 1:] for part in (left, right)]
    assert np.abs(chroma[0].mean(axis=(0, 1)) - chroma[1].mean(axis=(0, 1))).max() < 4
