"""Where a face is in a picture or a drawing, how sharp it is, and what it looks like."""

import cv2
import numpy as np
import pytest
from skimage import data

from faces.still import FaceFinder
from trainer.prepare_face import aligned, near_duplicates, on_white, perceptual_hash, sharpness
from trainer.prepare_plan import Settings

EYES = np.array([(204.5, 102.5), (247.0, 105.0)])  # px of the astronaut, middle of each eye
HAND_SET = np.array([(204, 102), (247, 105), (223, 126), (200, 139), (247, 141)], float)


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """(300, 300, 3) uint8 RGB: the astronaut's head, with the places above still right."""
    return np.ascontiguousarray(data.astronaut()[:300, :300])


def mirrored(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture[:, ::-1])


@pytest.fixture(scope="module")
def find() -> FaceFinder:
    return FaceFinder("photo")


def test_no_face_is_seen_where_there_is_none(find):
    for search in (find, FaceFinder("cartoon")):
        for picture in (data.coffee(), data.chelsea()):
            assert search(picture) is None


@pytest.mark.parametrize("shape", [(2, 2), (2, 5000), (4000, 3), (9, 9)])
def test_pictures_of_odd_shapes_hold_no_face(shape, find):
    assert find(np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)) is None


def test_a_large_picture_is_searched_small_and_its_points_are_its_own(face, find):
    small = find(face)
    large = find(cv2.resize(face, None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC))
    # Pixel p of the picture is the middle of 6 p to 6 p + 5.
    assert np.abs((large.points + 0.5) / 6 - 0.5 - small.points).max() < 1
    assert large.side == pytest.approx(6 * small.side, rel=0.03)


def test_the_larger_of_two_faces_is_cut(face, find):
    both = np.full((420, 640, 3), 110, np.uint8)
    both[:300, :300] = face
    both[200:350, 400:550] = cv2.resize(face, (150, 150), interpolation=cv2.INTER_AREA)
    found = find(both)
    assert np.abs(found.points[:2] - EYES).max() < 4


def test_a_larger_face_half_out_of_the_picture_does_not_hide_a_whole_one(face, find):
    both = np.full((300, 460, 3), 110, np.uint8)
    both[:, :300] = face
    large = cv2.resize(face, None, fx=1.5, fy=1.5)
    both[:, 330:] = large[20:320, 220:350]  # from the middle of that face on
    found = find(both)
    assert found is not None and np.abs(found.points[:2] - EYES).max() < 4


def test_sharpness_falls_with_blur_and_not_with_light(face):
    cut = aligned(face, HAND_SET, 256)
    blurred = [sharpness(cv2.GaussianBlur(cut, (0, 0), sigma)) for sigma in (1, 2, 3, 5)]
    assert sharpness(cut) > blurred[0] > blurred[1] > blurred[2] > blurred[3]
    assert blurred[3] < Settings().min_sharpness < sharpness(cut)
    assert sharpness((cut * 0.6).astype(np.uint8)) == pytest.approx(sharpness(cut), rel=0.1)


def test_hashes_know_a_copy_from_another_face(face):
    cut = aligned(face, HAND_SET, 256)
    copies = [cv2.convertScaleAbs(cut, alpha=1.1, beta=6), cv2.GaussianBlur(cut, (0, 0), 2), np.roll(cut, 1, axis=1)]
    hashes = [perceptual_hash(picture) for picture in (cut, *copies, mirrored(cut))]
    assert near_duplicates(hashes, Settings().near) == [None, 0, 0, 0, None]
    assert near_duplicates([hashes[0], hashes[4], hashes[0]], 0) == [None, None, 0]
    assert near_duplicates([], 30) == []


def test_white_is_where_nobody_is():
    picture = np.zeros((4, 4, 3), np.uint8)
    alpha = np.full((4, 4), 255, np.uint8)
    alpha[0], alpha[1] = 0, 51
    found = on_white(picture, alpha)
    assert (found[0] == 255).all() and (found[1] == 204).all() and (found[2:] == 0).all()
