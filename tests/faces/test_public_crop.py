import math

import cv2
import numpy as np
import pytest

from faces.align import TEMPLATE, align_matrix, crop, inverse, move
from faces.landmarks import five
from faces.public_crop import SIXTY_EIGHT, HeadSquare, framing, head_square, square_matrix
from livetoon.errors import DataError, UsageError

CORNERS = np.array([(0, 0), (255, 0), (255, 255), (0, 255)], np.float32)


@pytest.fixture(scope="module")
def fitted(finders, scene):
    """(frame, landmarks (468, 2) px) of the portrait where it is asked for."""

    def fit(*place, **size):
        frame = scene(place, **size)
        found = max(finders.wide(frame), key=lambda found: found.score)
        return frame, finders.fit_detection(frame, found).points[:, :2]

    return fit


def as_published(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The published steps one by one, in whole pixels as there: (256, 256, 3) uint8 RGB."""
    room = max(picture.shape[:2])
    picture = cv2.copyMakeBorder(picture, *[room] * 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    points = points + room
    height, width = picture.shape[:2]
    (x1, y1), (x2, y2) = points[36], points[45]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), math.degrees(math.atan((y2 - y1) / (x2 - x1))), 1)
    picture = cv2.warpAffine(picture, turn, (width, height), borderValue=(255, 255, 255))
    points = move(turn, points)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    high, wide = bottom - top, right - left
    top, bottom = int(top - 0.8 * high), int(bottom + 0.3 * high)
    left, right = int(left - 0.3 * wide), int(right + 0.3 * wide)
    if bottom - top > right - left:
        left -= ((bottom - top) - (right - left)) // 2
        right = left + (bottom - top)
    else:
        top -= ((right - left) - (bottom - top)) // 2
        bottom = top + (right - left)
    return cv2.resize(picture[top : bottom + 1, left : right + 1], (256, 256), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(
    ("place", "size"),
    [
        ((320, 220, 1.5, 0), {}),
        ((320, 220, 1.2, 25), {}),
        ((300, 240, 1.3, -18), {}),
        ((60, 90, 1.4, 10), {}),
        ((700, 500, 4.2, -12), {"width": 1400, "height": 1200}),
    ],
    ids=["upright", "tilted", "tilted the other way", "across the corner", "large"],
)
def test_one_matrix_is_the_published_steps(fitted, place, size):
    frame, landmarks = fitted(*place, **size)
    points = landmarks[SIXTY_EIGHT]
    matrix = square_matrix(head_square(points))
    ours, theirs = crop(frame, matrix), as_published(frame, points)
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float64) for picture in (ours, theirs)]
    shift, _ = cv2.phaseCorrelate(*grey)
    # They cut in whole pixels of the picture, which are up to 1.1 of the crop here.
    assert np.hypot(*shift) < 1.2
    assert np.abs(grey[0] - grey[1]).mean() < 6


def test_a_face_from_the_front_lies_nearly_where_the_template_has_it(fitted):
    _, landmarks = fitted(320, 240, 1.4, 8)
    placed = move(HeadSquare()(five(landmarks), landmarks, 0.0), five(landmarks))
    assert np.abs(placed - TEMPLATE).max() < 12
    assert np.ptp(placed[:2, 0]) == pytest.approx(np.ptp(TEMPLATE[:2, 0]), rel=0.1)


def test_eyes_are_level_and_nothing_is_bent_or_mirrored(fitted):
    _, landmarks = fitted(320, 240, 1.3, 30)
    (a, b, _), (c, d, _) = matrix = square_matrix(head_square(landmarks[SIXTY_EIGHT]))
    assert a == pytest.approx(d) and b == pytest.approx(-c)
    left, right = move(matrix, landmarks[[33, 263]])
    assert left[1] == pytest.approx(right[1], abs=1e-2) and left[0] < right[0]


def test_half_the_size_is_the_same_square(fitted):
    _, landmarks = fitted(320, 240, 1.3, 10)
    corners = head_square(landmarks[SIXTY_EIGHT])
    edges = np.array([(-0.5, -0.5), (127.5, 127.5)])
    np.testing.assert_allclose(move(square_matrix(corners, 128), corners), edges, atol=1e-3)


def test_the_square_lies_as_still_as_the_five_points_do(fitted):
    """Still five points, and a jaw and brows that shake by half a pixel: the box alone would shake with them."""
    _, landmarks = fitted(320, 240, 1.4, 5)
    random, square, points = np.random.default_rng(3), HeadSquare(), five(landmarks)
    steady, raw = [], []
    for frame in range(90):
        shaken = landmarks + random.normal(0, 0.5, landmarks.shape).astype(np.float32)
        steady.append(move(inverse(square(points, shaken, frame / 30)), CORNERS))
        raw.append(move(inverse(square_matrix(head_square(shaken[SIXTY_EIGHT]))), CORNERS))
    steady, raw = (np.array(corners)[30:].std(axis=0).mean() for corners in (steady, raw))
    assert steady < 0.3 * raw
    assert steady < 0.4


def test_a_head_that_moves_takes_the_square_along_at_once(fitted):
    _, landmarks = fitted(320, 240, 1.4, 5)
    square = HeadSquare()
    before = square(five(landmarks), landmarks, 0.0)
    moved = landmarks * np.float32(1.2) + np.float32((40, -30))
    after = square(five(moved), moved, 0.04)
    np.testing.assert_allclose(move(after, moved), move(before, landmarks), atol=0.02)


def test_a_mouth_that_opens_widens_the_square_slowly_but_fully(fitted):
    _, landmarks = fitted(320, 240, 1.4, 0)
    opened = landmarks.copy()
    opened[[152, 176, 400, 150, 379, 148, 377]] += (0, 30)
    square, points = HeadSquare(), five(landmarks)

    def side(landmarks, t):
        return 256 / np.hypot(*square(points, landmarks, t)[:2, 0])

    closed = side(landmarks, 0.0)
    first = side(opened, 0.04)
    for frame in range(2, 100):
        last = side(opened, frame * 0.04)
    assert last - closed > 40
    assert first - closed < 0.2 * (last - closed)
    assert last == pytest.approx(256 / np.hypot(*HeadSquare()(points, opened, 0.0)[:2, 0]), rel=1e-3)


def test_framings_by_name(fitted):
    _, landmarks = fitted(320, 240, 1.4, 5)
    points = five(landmarks)
    np.testing.assert_array_equal(framing("livetoon")(points, landmarks, 0.0, 256), align_matrix(points))
    assert not np.allclose(framing("photo2cartoon")(points, landmarks, 0.0, 256), align_matrix(points))
    with pytest.raises(UsageError, match="crop 'head': choose one of livetoon, photo2cartoon"):
        framing("head")


@pytest.mark.parametrize(
    "points", [np.zeros((68, 2)), np.full((68, 2), np.nan), np.where(np.eye(68, 2) > 0, np.inf, 1.0)]
)
def test_points_that_are_no_head_are_refused(points):
    with pytest.raises(DataError, match="68 points"):
        head_square(points)
