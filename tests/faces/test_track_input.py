"""Frames and files that a tracker cannot use, and those that are strange but can be."""

import numpy as np
import pytest

from faces import weights
from faces.finders import Finders, opened
from faces.track import Tracker
from livetoon.errors import DataError, ModelError


@pytest.fixture
def tracker(finders):
    return Tracker(finders=finders)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((480, 640), np.uint8),
        np.zeros((480, 640, 1), np.uint8),
        np.zeros((480, 640, 4), np.uint8),
        np.zeros((480, 640, 3), np.uint16),
        np.zeros((480, 640, 3), np.float32),
        None,
    ],
    ids=["grey", "one channel", "rgba", "16 bits", "float", "nothing"],
)
def test_what_is_no_rgb_frame_is_refused(tracker, frame):
    with pytest.raises(DataError, match=r"expected a frame \(H, W, 3\) uint8 RGB, got"):
        tracker.update(frame, 0.0)


@pytest.mark.parametrize("shape", [(8, 8, 3), (1, 1, 3), (3, 2000, 3), (9000, 12000, 3)])
def test_black_frames_of_any_size_show_nobody(tracker, shape):
    assert [tracker.update(np.zeros(shape, np.uint8), t).faces for t in (0.0, 0.04, 1.2)] == [[], [], []]


def test_a_face_in_a_huge_frame_is_found(tracker, portrait):
    frame = np.zeros((9000, 12000, 3), np.uint8)
    large = portrait.repeat(14, axis=0).repeat(14, axis=1)
    frame[1000 : 1000 + large.shape[0], 2000 : 2000 + large.shape[1]] = large
    (face,) = tracker.update(frame, 0.0).faces
    assert face.fitted
    np.testing.assert_allclose(face.points[0], (2000 + 204.5 * 14, 1000 + 102.5 * 14), atol=8 * 14)


def test_the_picture_goes_black_and_comes_back(tracker, scene):
    bright, black = scene((320, 200, 1.5, 0)), scene() * 0
    numbers = set()
    for index in range(30):
        for face in tracker.update(black if index in range(10, 18) else bright, index / 25).faces:
            numbers.add(face.track)
    assert numbers == {0}


def test_frames_that_change_size_and_shape_all_the_time(tracker, scene):
    sizes = [(640, 480), (480, 640), (320, 240), (1280, 720), (640, 480), (96, 72)]
    for index in range(24):
        width, height = sizes[index % len(sizes)]
        place = (width / 2, height * 0.4, 1.3 * min(width, height) / 480, 0)
        faces = tracker.update(scene(place, width=width, height=height), index / 25).faces
        assert any(face.fitted and face.unseen_s == 0 for face in faces), index


def test_a_hidden_face_keeps_its_points_in_its_box_when_the_size_changes(finders, scene):
    tracker = Tracker(1, finders)
    small = scene((170, 200, 1.4, 0), (460, 200, 1.3, 0))
    for index in range(5):
        tracker.update(small, index / 25)
    faces = tracker.update(np.zeros((960, 1280, 3), np.uint8), 5 / 25).faces
    (hidden,) = (face for face in faces if not face.fitted)
    left, top, right, bottom = hidden.box
    assert right - left > 100 and hidden.size > 0.5 * (right - left)
    assert left < hidden.points[:, 0].min() and hidden.points[:, 0].max() < right
    assert top < hidden.points[:, 1].min() and hidden.points[:, 1].max() < bottom


@pytest.mark.parametrize(
    "name", ["face_detection_short_range.tflite", "face_landmark.tflite", "retinaface_mobilenet025.onnx"]
)
def test_a_network_that_was_altered_is_refused(tmp_path, name):
    for other in weights.SHA256:
        data = bytearray(weights.path(other).read_bytes())
        if other == name:
            data[len(data) // 2] ^= 1
        (tmp_path / other).write_bytes(data)
    for make in (lambda: Finders(models=tmp_path), lambda: opened("shipped", tmp_path)):
        with pytest.raises(ModelError, match=f"{name} was altered"):
            make()
