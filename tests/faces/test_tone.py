import cv2
import numpy as np
import pytest

from faces.align import align_matrix, crop
from faces.landmarks import five
from faces.tone import SkinTone


@pytest.fixture(scope="module")
def face(finders, portrait):
    """Crop, matrix and landmarks of the portrait."""
    mesh = finders.fit_detection(portrait, finders.wide(portrait)[0])
    matrix = align_matrix(five(mesh.points))
    return crop(portrait, matrix), matrix, mesh.points[:, :2]


def white_cartoon() -> np.ndarray:
    """Near-white paint with one dark line across the forehead."""
    cartoon = np.full((256, 256, 4), (250, 242, 238, 255), np.uint8)
    cartoon[80:83, 60:200, :3] = 40
    return cartoon


def lab(colour) -> np.ndarray:
    return cv2.cvtColor(np.float32([[colour]]) / 255, cv2.COLOR_RGB2LAB)[0, 0]


def test_paint_moves_the_asked_share_towards_the_persons_skin(face):
    picture, matrix, landmarks = face
    cheek = []
    for tone in (0, 0.5, 1):
        toned = SkinTone()(white_cartoon(), picture, landmarks, matrix, 0.0, tone)
        cheek.append(lab(toned[165, 95, :3]))
    columns = (*range(90, 105), *range(155, 165))
    person = np.median([lab(picture[y, x]) for y in range(150, 170) for x in columns], axis=0)
    # Not all the way: the cartoon takes the skin in the light, this is the middle of light and shade.
    assert np.linalg.norm(cheek[2] - person) < 0.5 * np.linalg.norm(cheek[0] - person)
    assert np.linalg.norm(cheek[1] - (cheek[0] + cheek[2]) / 2) < 4


def test_lines_eyes_and_everything_outside_stay(face):
    picture, matrix, landmarks = face
    cartoon = white_cartoon()
    toned = SkinTone()(cartoon, picture, landmarks, matrix, 0.0, 1.0)
    assert (toned[81, 100:150, :3] <= 40).all()
    assert np.array_equal(toned[:20], cartoon[:20])
    assert np.array_equal(toned[..., 3], cartoon[..., 3])


def test_dark_hair_is_not_tinted(face):
    picture, matrix, landmarks = face
    cartoon = white_cartoon()
    cartoon[:110, :, :3] = 60
    toned = SkinTone()(cartoon, picture, landmarks, matrix, 0.0, 1.0)
    assert np.array_equal(toned[:90], cartoon[:90])


def test_zero_and_no_landmarks_give_the_same_object(face):
    picture, matrix, landmarks = face
    cartoon = white_cartoon()
    assert SkinTone()(cartoon, picture, landmarks, matrix, 0.0, 0.0) is cartoon
    assert SkinTone()(cartoon, picture, np.zeros((0, 2), np.float32), matrix, 0.0, 1.0) is cartoon


def test_a_flash_of_light_changes_the_skin_slowly(face):
    picture, matrix, landmarks = face
    tone = SkinTone()
    before = tone(white_cartoon(), picture, landmarks, matrix, 0.0, 1.0)[165, 95, :3].astype(int)
    flash = np.clip(picture.astype(int) - 60, 0, 255).astype(np.uint8)
    soon = tone(white_cartoon(), flash, landmarks, matrix, 0.12, 1.0)[165, 95, :3].astype(int)
    for step in range(40):
        late = tone(white_cartoon(), flash, landmarks, matrix, 0.3 + 0.12 * step, 1.0)[165, 95, :3].astype(int)
    assert 0 < np.abs(soon - before).max() < 0.3 * np.abs(late - before).max()


def test_a_cartoon_without_paint_stays(face):
    picture, matrix, landmarks = face
    dark = np.full((256, 256, 4), 60, np.uint8)
    assert np.array_equal(SkinTone()(dark, picture, landmarks, matrix, 0.0, 1.0), dark)


def test_reset_forgets_the_person(face):
    picture, matrix, landmarks = face
    tone = SkinTone()
    tone(white_cartoon(), picture, landmarks, matrix, 0.0, 1.0)
    tone.reset()
    dark = (picture // 3).astype(np.uint8)
    again = tone(white_cartoon(), dark, landmarks, matrix, 0.01, 1.0)
    fresh = SkinTone()(white_cartoon(), dark, landmarks, matrix, 0.0, 1.0)
    assert np.array_equal(again, fresh)
