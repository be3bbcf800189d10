import cv2
import numpy as np
import pytest

from faces.landmarks import OVAL, five, pose, square


def fitted(finders, frame):
    mesh = finders.fit_detection(frame, finders.wide(frame)[0])
    return finders.follow(frame, mesh, np.zeros(2, np.float32))


@pytest.mark.parametrize("turn", [-40, -15, 0, 15, 40])
@pytest.mark.parametrize("scale", [0.9, 1.5, 3.0])
def test_the_eyes_are_where_they_are(finders, scene, turn, scale):
    place = (320, 220, scale, turn)
    mesh = fitted(finders, scene(place))
    eyes = scene.eyes(*place)
    assert mesh.presence > 0.9
    assert np.abs(five(mesh.points)[:2] - eyes).max() < 0.12 * np.linalg.norm(eyes[1] - eyes[0])


def test_roll_is_the_turn_of_the_picture(finders, scene):
    upright = pose(fitted(finders, scene((320, 220, 1.5, 0))).points)[2]
    turned = pose(fitted(finders, scene((320, 220, 1.5, 25))).points)[2]
    assert upright - turned == pytest.approx(25, abs=3)  # OpenCV turns counter-clockwise


@pytest.mark.parametrize("turn", [-30, 20])
def test_a_turned_head_has_that_yaw(finders, scene, turn):
    points = fitted(finders, scene((320, 220, 1.5, 0))).points
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    turned = points @ np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], np.float32)
    assert pose(turned)[0] - pose(points)[0] == pytest.approx(turn, abs=2)


def test_a_wall_is_no_face(finders):
    wall = np.random.default_rng(2).integers(80, 120, (200, 200, 3), dtype=np.uint8)
    mesh = finders.fit(wall, np.array([[80.0, 90], [120, 90]]), (100.0, 100.0), 120.0)
    assert mesh.presence < 0.1


def test_blur_grows_with_blur(finders, scene):
    frame = scene((320, 220, 1.5, 0))
    values = [fitted(finders, cv2.GaussianBlur(frame, (0, 0), sigma)).blur for sigma in (0.1, 3, 8)]
    assert values == sorted(values)
    assert values[0] < 0.5 < values[2]


def test_the_square_holds_the_face_and_turns_with_it(finders, scene):
    upright, turned = (fitted(finders, scene((320, 220, 1.5, turn))).points for turn in (0, 40))
    (x, y), side = square(upright)
    assert np.abs(upright[:, :2] - (x, y)).max() < side / 2
    assert square(turned)[1] == pytest.approx(side, rel=0.05)


def test_the_oval_goes_once_around_the_eyes(finders, scene):
    points = fitted(finders, scene((320, 220, 1.5, 0))).points
    oval = points[OVAL, :2]
    for eye in five(points)[:2]:
        assert cv2.pointPolygonTest(oval, (float(eye[0]), float(eye[1])), False) > 0
    assert len(set(OVAL.tolist())) == len(OVAL)
