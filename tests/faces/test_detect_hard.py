"""Faces that are hard to find, through the doors that video uses: small, turned, cut off, behind glass, dark."""

import cv2
import numpy as np
import pytest

from faces.detect import Detection, belongs, merged
from faces.track import Tracker

FPS = 25


@pytest.fixture
def tracker(finders):
    return Tracker(finders=finders)


def seen(tracker, frame, frames=12):
    """Faces of a standing picture after some frames."""
    for index in range(frames):
        faces = tracker.update(frame, index / FPS).faces
    return faces


def eyes_are_found(face, eyes, share=0.2):
    distance = np.linalg.norm(eyes[1] - eyes[0])
    return np.abs(face.points[:2] - eyes).max() < share * distance


@pytest.mark.parametrize("x", [40, 320, 600])
@pytest.mark.parametrize("width", [40, 55])
def test_a_small_face_is_drawn(tracker, scene, x, width):
    place = (x, 240, width / 92, 0)  # the astronaut's face is about 92 px wide
    (face,) = seen(tracker, scene(place))
    assert face.fitted and eyes_are_found(face, scene.eyes(*place))


@pytest.mark.parametrize("turn", [-55, -40, 40, 55])
@pytest.mark.parametrize("scale", [0.8, 1.5])
def test_a_tilted_face_is_drawn_as_it_is_tilted(tracker, scene, turn, scale):
    place = (320, 230, scale, turn)
    (face,) = seen(tracker, scene(place))
    assert face.fitted and eyes_are_found(face, scene.eyes(*place))
    assert face.pose[2] == pytest.approx(-turn, abs=8)


@pytest.mark.parametrize("turn", [90, 135, 180, -90])
def test_a_face_on_its_side_or_upside_down_breaks_nothing(tracker, scene, turn):
    """It may be found or not; what is drawn is turned as the face is."""
    place = (320, 230, 1.5, turn)
    for face in seen(tracker, scene(place)):
        assert np.isfinite(face.points).all() and np.isfinite(face.box).all()
        left, top, right, bottom = face.box
        assert left < 320 < right and top < 230 < bottom


@pytest.mark.parametrize(
    "place",
    [(15, 230, 1.5, 0), (625, 230, 1.5, 0), (320, 25, 1.5, 0), (320, 440, 1.5, 0), (12, 20, 2.0, 0)],
    ids=["left", "right", "top", "bottom", "corner"],
)
def test_half_a_face_across_the_border_is_covered(tracker, scene, place):
    (face,) = seen(tracker, scene(place))
    left, top, right, bottom = face.box
    assert left < place[0] < right and top < place[1] < bottom


@pytest.mark.parametrize("glasses", ["frame", "dark"])
def test_a_face_with_glasses_is_drawn(tracker, scene, glasses):
    place = (320, 230, 1.5, 0)
    frame = scene(place)
    for x, y in scene.eyes(*place):
        cv2.circle(frame, (round(x), round(y)), 26, (20, 20, 20), -1 if glasses == "dark" else 4)
    cv2.line(frame, *(tuple(int(value) for value in eye) for eye in scene.eyes(*place)), (20, 20, 20), 4)
    (face,) = seen(tracker, frame)
    assert face.fitted and eyes_are_found(face, scene.eyes(*place), 0.3)


@pytest.mark.parametrize("light", [0.12, 0.25])
@pytest.mark.parametrize("scale", [0.7, 1.5])
def test_a_face_before_a_bright_window_is_drawn(tracker, scene, light, scale):
    place = (320, 230, scale, 0)
    frame = scene(place)
    window = (frame == scene()).all(axis=2)
    frame = (frame * light).astype(np.uint8)
    frame[window] = (245, 248, 255)
    (face,) = seen(tracker, cv2.GaussianBlur(frame, (0, 0), 1.5))  # light spills over the edge
    assert face.fitted and eyes_are_found(face, scene.eyes(*place))


def test_a_face_half_behind_something_is_covered(tracker, scene):
    frame = scene((320, 230, 1.5, 0))
    frame[255:] = (60, 120, 60)  # from the tip of the nose down
    (face,) = seen(tracker, frame)
    assert face.box[0] < 320 < face.box[2] and face.box[1] < 230 < face.box[3]


def find(left, top, side, score):
    box = np.array([left, top, left + side, top + side], np.float32)
    points = box[:2] + side * np.float32([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)])
    return Detection(box, points, score)


def test_two_searches_together_give_each_face_once():
    near = [find(100, 100, 80, 0.6), find(300, 100, 80, 0.9)]
    wide = [find(106, 96, 84, 0.95), find(500, 300, 20, 0.7)]
    faces = merged(near, wide)
    assert [face.score for face in faces] == [0.95, 0.9, 0.7]
    assert np.array_equal(faces[0].box, near[0].box)


def test_a_second_face_beside_a_known_one_is_not_swallowed():
    """Two faces that overlap, of which the near search sees one."""
    near = [find(100, 100, 80, 0.9)]
    wide = [find(98, 100, 80, 0.9), find(140, 105, 78, 0.8)]
    assert belongs(near[0].box, wide[1])
    assert [face.score for face in merged(near, wide)] == [0.9, 0.8]


def test_a_surer_find_beside_a_known_one_does_not_take_its_place():
    near = [find(100, 100, 80, 0.9)]
    wide = [find(140, 105, 78, 0.95), find(98, 100, 80, 0.9)]
    assert [tuple(face.box[:2]) for face in merged(near, wide)] == [(100, 100), (140, 105)]


def test_a_find_belongs_to_a_box_that_it_lies_in_only_if_it_is_about_as_large():
    box = np.array([100, 100, 300, 300], np.float32)
    assert belongs(box, find(140, 130, 120, 0.9))
    assert not belongs(box, find(180, 180, 40, 0.9))
    assert not belongs(box, find(400, 100, 200, 0.9))


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (1280, 720)])
@pytest.mark.parametrize("second", [False, True])
def test_a_half_is_searched_and_its_finds_lie_in_the_whole(finders, scene, width, height, second):
    along = (0.8 if second else 0.2), 0.5
    x, y = along if width >= height else along[::-1]
    place = (x * width, y * height, 0.6 * min(width, height) / 480, 0)
    (found,) = finders.search_half(scene(place, width=width, height=height), second).found()
    eyes = scene.eyes(*place)
    assert np.abs(found.points[:2] - eyes).max() < 0.35 * np.linalg.norm(eyes[1] - eyes[0])
    assert finders.search_half(scene(place, width=width, height=height), not second).found() == []


def test_a_face_that_a_half_cuts_is_left_to_the_other(finders, scene):
    place = (0.6 * 640 - 4, 240, 0.8, 0)  # on the edge of the first half, whole in the second
    frame = scene(place)
    assert finders.search_half(frame, False).found() == []
    assert len(finders.search_half(frame, True).found()) == 1
