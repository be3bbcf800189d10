import cv2
import numpy as np
import pytest

from faces.align import CROP, TEMPLATE, align_matrix, crop, crops, inverse, move
from livetoon.errors import DataError


def test_any_similarity_of_the_template_is_undone_exactly():
    angle, scale = 0.4, 1.7
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = TEMPLATE @ turn.T + (300, 40)
    np.testing.assert_allclose(move(align_matrix(points), points), TEMPLATE, atol=1e-3)


def test_the_matrix_is_turn_scale_and_shift_only():
    points = TEMPLATE + np.random.default_rng(0).normal(0, 8, TEMPLATE.shape)
    (a, b, _), (c, d, _) = align_matrix(points)
    assert a == pytest.approx(d)
    assert b == pytest.approx(-c)


def test_it_is_the_best_such_matrix():
    random = np.random.default_rng(1)
    points = TEMPLATE * 2 + random.normal(0, 10, TEMPLATE.shape)
    best = align_matrix(points)
    error = np.square(move(best, points) - TEMPLATE).sum()
    for _ in range(50):
        a, b, x, y = np.array([best[0, 0], best[1, 0], *best[:, 2]]) * (1 + random.normal(0, 0.02, 4))
        other = np.array([[a, -b, x], [b, a, y]])
        assert np.square(move(other, points) - TEMPLATE).sum() >= error


def test_another_size_is_the_same_crop_smaller():
    points = TEMPLATE * 1.3 + 20
    half, whole = move(align_matrix(points, 128), points), move(align_matrix(points), points)
    np.testing.assert_allclose(half, whole / 2, atol=1e-3)


@pytest.mark.parametrize(
    "points",
    [np.full((5, 2), np.nan), np.full((5, 2), 7.0), np.where(np.eye(5, 2) > 0, np.inf, TEMPLATE), TEMPLATE[:4]],
    ids=["nan", "one place", "infinite", "four"],
)
def test_points_that_are_no_face_are_refused(points):
    with pytest.raises(DataError):
        align_matrix(points)


def test_inverse_goes_back():
    matrix = align_matrix(TEMPLATE * 1.4 + (100, -20))
    np.testing.assert_allclose(move(inverse(matrix), move(matrix, TEMPLATE)), TEMPLATE, atol=1e-3)


def test_outside_the_frame_is_white():
    frame = np.zeros((100, 100, 3), np.uint8)
    matrix = align_matrix(TEMPLATE - 128)  # the face's middle is the frame's corner
    picture = crop(frame, matrix)
    assert picture.shape == (CROP, CROP, 3)
    assert (picture[:120, :120] == 255).all()
    assert (picture[132:220, 132:220] == 0).all()


def test_a_large_face_is_averaged_not_sampled():
    checks = np.zeros((2048, 2048, 3), np.uint8)
    checks[::2, ::2] = checks[1::2, 1::2] = 255
    picture = crop(checks, align_matrix(TEMPLATE * 8))
    assert np.abs(picture[8:-8, 8:-8].astype(int) - 127).max() <= 2


def test_a_large_face_lies_where_a_small_one_does(portrait):
    points = np.array([(204, 107), (240, 107), (221, 130), (208, 148), (236, 148)], np.float32)
    small = crop(portrait, align_matrix(points))
    large = cv2.resize(portrait, None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
    again = crop(large, align_matrix((points + 0.5) * 6 - 0.5))
    shift, _ = cv2.phaseCorrelate(small[..., 1].astype(np.float64), again[..., 1].astype(np.float64))
    assert np.hypot(*shift) < 0.2


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5, 7.0])
def test_a_crop_is_the_same_wherever_the_frame_begins(portrait, scale):
    """Large pixels lie on the frame's own: a face that moves by whole ones is averaged alike."""
    frame = cv2.resize(portrait, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    points = (TEMPLATE - 128) * scale + (1024, 1024)
    whole = crop(frame, align_matrix(points))
    part = crop(frame[64:], align_matrix(points - (0, 64)))
    np.testing.assert_array_equal(part, whole)


def test_crops_of_one_frame_are_those_cut_one_by_one(portrait):
    matrices = [align_matrix(TEMPLATE * scale + shift) for scale, shift in ((0.5, 40), (1.2, 90), (3.0, -60))]
    together = crops(portrait, matrices, 128)
    assert together.shape == (3, 128, 128, 3) and together.dtype == np.uint8
    for matrix, picture in zip(matrices, together, strict=True):
        np.testing.assert_array_equal(picture, crop(portrait, matrix, 128))
    assert crops(portrait, [], 64).shape == (0, 64, 64, 3)


@pytest.mark.parametrize("place", [(5000, 5000), (-4000, 90), (90, -4000)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 9.0])
def test_a_face_beside_the_frame_is_a_white_crop(place, scale):
    frame = np.zeros((120, 160, 3), np.uint8)
    assert (crop(frame, align_matrix(TEMPLATE * scale + place)) == 255).all()
