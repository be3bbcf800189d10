import cv2
import numpy as np
import pytest

from faces.detect import BlazeFace, Detector, overlap


@pytest.fixture(scope="module")
def searches(finders):
    return {"near": finders.near, "wide": finders.wide, "full": BlazeFace("full")}


@pytest.mark.parametrize("search", ["near", "wide", "full"])
@pytest.mark.parametrize(
    ("width", "height", "place"),
    [
        (640, 480, (320, 200, 1.5, 0)),
        (640, 480, (150, 180, 1.3, 20)),
        (160, 120, (80, 50, 0.5, 0)),
        (1920, 1080, (960, 500, 4.0, 0)),
        (720, 1280, (360, 500, 3.0, -15)),
    ],
)
def test_the_face_is_found_where_it_is(searches, scene, search, width, height, place):
    found = searches[search](scene(place, width=width, height=height))
    assert len(found) == 1
    eyes = scene.eyes(*place)
    distance = np.linalg.norm(eyes[1] - eyes[0])
    assert np.abs(found[0].points[:2] - eyes).max() < 0.35 * distance
    left, top, right, bottom = found[0].box
    assert left < eyes[0, 0] < eyes[1, 0] < right
    assert top < eyes[:, 1].min() < bottom
    assert found[0].score > 0.6


def test_the_wide_search_finds_small_faces_that_the_near_one_misses(finders, scene):
    frame = scene((90, 90, 0.6, 0), (320, 240, 0.6, 0), (560, 400, 0.6, 0))  # 55 px wide each
    assert len(finders.wide(frame)) == 3
    assert len(finders.near(frame)) < 3


def test_five_faces_are_five(finders, scene):
    places = [(120, 120, 1, 0), (330, 120, 1, 10), (540, 120, 1, 0), (200, 350, 1, -10), (450, 350, 1, 0)]
    assert len(finders.wide(scene(*places))) == 5


def test_points_are_in_the_order_of_the_template(searches, scene):
    frame = scene((320, 200, 1.5, 0))
    for name, search in searches.items():
        left_eye, right_eye, nose, left_mouth, right_mouth = search(frame)[0].points
        assert left_eye[0] < nose[0] < right_eye[0], name
        assert left_mouth[0] < right_mouth[0], name
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1]), name


@pytest.mark.parametrize("search", ["near", "wide", "full"])
@pytest.mark.parametrize("shape", [(480, 640), (120, 160), (1080, 40)])
def test_no_face_is_no_face(searches, search, shape):
    noise = np.random.default_rng(1).integers(0, 255, (*shape, 3), dtype=np.uint8)
    assert searches[search](noise) == []
    assert searches[search](np.zeros((*shape, 3), np.uint8)) == []


def test_a_strided_frame_is_searched_like_a_whole_one(finders, scene):
    frame = scene((320, 200, 1.5, 0))
    mirrored = frame[:, ::-1]
    whole = finders.near(np.ascontiguousarray(mirrored))
    assert np.array_equal(finders.near(mirrored)[0].box, whole[0].box)


def test_overlap_of_boxes():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], np.float32)
    np.testing.assert_allclose([overlap(boxes[0], box) for box in boxes], [1, 1 / 3, 0], atol=1e-6)


def test_a_blurred_face_is_still_found(finders, scene):
    assert finders.wide(cv2.GaussianBlur(scene((320, 200, 1.5, 0)), (0, 0), 4))


def test_a_search_that_failed_stands_in_the_way_of_no_other():
    class Failing(Detector):
        """One whose first search fails, as a library of the user's may."""

        fails = True

        def _begin(self, frame):
            fails, self.fails = self.fails, False
            return (lambda: 1 / 0) if fails else list

    detector, frame = Failing(), np.zeros((48, 64, 3), np.uint8)
    first = detector.start(frame)
    for _ in range(2):  # what was not searched is never an empty frame
        with pytest.raises(ZeroDivisionError):
            first.found()
    assert detector(frame) == []
