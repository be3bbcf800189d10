"""A person's own lines in the drawing."""

import cv2
import numpy as np
import pytest

from faces.detail import DARKEST, LIGHTEST, ONE, detail
from faces.finish import Finish


def factors(crop: np.ndarray, share: float = 0.5) -> np.ndarray:
    return detail(crop, cv2.resize(crop, (64, 64), interpolation=cv2.INTER_AREA), share) / ONE


def skin(level: float = 150.0) -> np.ndarray:
    return np.full((256, 256, 3), level, np.float32)


def pixels(picture: np.ndarray) -> np.ndarray:
    return picture.round().clip(0, 255).astype(np.uint8)


def test_a_line_is_drawn_by_its_share_of_contrast_and_nothing_beside_it():
    face = skin()
    face[126:132, 60:200] = 90  # a frame of glasses, a wrinkle
    half, whole = (factors(pixels(face), share) for share in (0.5, 1.0))
    contrast = np.log((90 + 16) / (150 + 16))
    assert np.log(whole[128, 100:160]).mean() == pytest.approx(contrast, abs=0.12)
    assert np.log(half[128, 100:160]).mean() == pytest.approx(np.log(whole[128, 100:160]).mean() / 2, abs=0.02)
    assert np.abs(half[:60] - 1).max() == 0 and np.abs(half[210:] - 1).max() == 0


def test_light_from_one_side_is_no_line():
    lit = skin() * np.linspace(0.5, 1.3, 256, dtype=np.float32)[None, :, None]
    assert np.abs(factors(pixels(lit))[:, 30:-30] - 1).max() < 0.02


@pytest.mark.parametrize("level", [60, 100, 170])
def test_the_white_beyond_the_frame_darkens_no_edge(level):
    """A face that is cut off by the frame: no band along its edge (a third darker with the white taken for light)."""
    face = pixels(skin(level))
    face[:61] = 255  # not on the grid of the small copy
    assert np.abs(factors(face, 0.8)[66:] - 1).max() < 0.02
    face[140:146, 60:200] = level / 2
    assert factors(face, 0.8)[143, 100:160].max() < 0.8


@pytest.mark.parametrize("level", [40, 90, 150])
def test_noise_of_a_camera_is_no_line(level):
    noisy = pixels(skin(level) + np.random.default_rng(3).normal(0, 5, (256, 256, 3)))
    assert np.abs(factors(noisy) - 1).mean() < 0.002


def test_factors_stay_within_bounds_whatever_comes():
    wild = np.random.default_rng(3).integers(0, 256, (8, 8, 3), np.uint8)
    wild = cv2.resize(wild, (256, 256), interpolation=cv2.INTER_NEAREST)
    found = factors(wild, 1.0)
    assert found.min() < 0.6 and found.max() == pytest.approx(LIGHTEST, abs=0.01) and found.min() >= DARKEST - 0.01
    assert (factors(np.zeros((256, 256, 3), np.uint8)) == 1).all()
    assert factors(pixels(skin())[:96, :96]).shape == (96, 96)


def test_the_drawing_takes_them_and_its_alpha_stays(portrait, finders):
    from faces.align import align_matrix, crop
    from faces.landmarks import five

    mesh = finders.fit_detection(portrait, finders.wide(portrait)[0])
    matrix = align_matrix(five(mesh.points))
    picture, points = crop(portrait, matrix), mesh.points[:, :2]
    paint = np.full((256, 256, 4), (240, 230, 225, 255), np.uint8)
    plain, own, all_of_it = (Finish()(paint, picture, points, matrix, 0.0, 0.0, share) for share in (0.0, 0.5, 1.0))
    assert (plain[..., :3] == paint[..., :3]).all()
    assert (own[..., 3] == plain[..., 3]).all() and (all_of_it[..., 3] == plain[..., 3]).all()
    # Brows, lashes and the line between the lips are the darkest of this face.
    eye = np.s_[112:126, 84:114]
    assert own[eye][..., :3].min() < 190 and all_of_it[eye][..., :3].min() < own[eye][..., :3].min() - 20
    like = [np.corrcoef(picture[80:190, 70:190, 1].ravel(), each[80:190, 70:190, 1].ravel())[0, 1] for each in (own,)]
    assert like[0] > 0.5
