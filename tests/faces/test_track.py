import dataclasses

import cv2
import numpy as np
import pytest

from faces.align import TEMPLATE, align_matrix, move
from faces.detect import Detection, Detector
from faces.finders import Finders
from faces.landmarks import Mesh
from faces.track import FADE_S, KEEP_S, Tracker

FPS = 25


@pytest.fixture
def tracker(finders):
    return Tracker(finders=finders)


def play(tracker, frames, start=0.0):
    """Faces of each frame."""
    return [tracker.update(frame, start + index / FPS).faces for index, frame in enumerate(frames)]


def test_a_face_is_there_from_the_first_frame_and_keeps_its_number(tracker, scene):
    places = [(200 + 6 * i, 200 + 2 * i, 1.5, i) for i in range(30)]
    seen = play(tracker, [scene(place) for place in places])
    assert [len(faces) for faces in seen] == [1] * 30
    assert {faces[0].track for faces in seen} == {seen[0][0].track}
    for faces, place in zip(seen, places, strict=True):
        face = faces[0]
        assert face.fitted and face.unseen_s == 0 and face.score > 0.9
        eyes = scene.eyes(*place)
        assert np.abs(face.landmarks[[33, 133]].mean(axis=0) - eyes[0]).max() < 8
        assert face.size == pytest.approx(2.2 * np.linalg.norm(eyes[1] - eyes[0]), rel=0.15)


def test_a_lost_face_stays_covered_for_a_while_and_then_goes(tracker, scene):
    play(tracker, [scene((320, 200, 1.5, 0))] * 10)
    empty = play(tracker, [scene()] * 25, start=10 / FPS)
    times = np.arange(1, 26) / FPS
    for faces, unseen in zip(empty, times, strict=True):
        assert bool(faces) == (unseen <= KEEP_S + FADE_S + 1e-9), unseen
        if faces:
            assert faces[0].unseen_s == pytest.approx(unseen)
            assert len(faces[0].landmarks) == 468


def test_a_lost_face_moves_on_with_its_speed_and_stops(tracker, scene):
    seen = play(tracker, [scene((150 + 8 * i, 200, 1.5, 0)) for i in range(20)])  # 200 px a second
    lost = play(tracker, [scene()] * 12, start=20 / FPS)
    moved = np.array([faces[0].points.mean(axis=0)[0] for faces in lost]) - seen[-1][0].points.mean(axis=0)[0]
    assert 3 < moved[0] < 12
    assert (np.diff(moved) > 0).all()
    assert moved[-1] < 80


def test_leaving_and_coming_back(tracker, scene):
    first = play(tracker, [scene((320, 200, 1.5, 0))] * 5)
    gone = play(tracker, [scene()] * 30, start=5 / FPS)
    back = play(tracker, [scene((200, 220, 1.3, 10))] * 5, start=35 / FPS)
    assert len(first[-1]) == 1 and not gone[-1]
    assert all(len(faces) == 1 and faces[0].fitted for faces in back)
    assert back[0][0].track != first[0][0].track


def test_the_first_face_is_drawn_in_its_first_frame_even_if_small(tracker, scene):
    for index in range(7):
        assert not play(tracker, [scene()], start=index / FPS)[0]
    small = play(tracker, [scene((200, 150, 0.6, 0))], start=7 / FPS)  # 55 px: the near search misses it
    assert [face.fitted for face in small[0]] == [True]


def test_in_the_first_second_every_frame_is_searched_widely(tracker, scene):
    near = (200, 240, 1.5, 0)
    for index in range(3):
        play(tracker, [scene(near)], start=index / FPS)
    both = play(tracker, [scene(near, (520, 150, 0.6, 0))], start=3 / FPS)  # the second is seen by the wide search only
    assert [face.fitted for face in both[0]] == [True, True]


@pytest.mark.parametrize("apart", [0.2, 1.0])
def test_where_frames_come_slowly_no_small_face_is_missed(tracker, scene, apart):
    near, small = (200, 240, 1.5, 0), (520, 150, 0.6, 0)
    for index in range(8):
        faces = tracker.update(scene(near, small), 2 * index * apart).faces
        assert len(faces) == 2, index
        faces = tracker.update(scene(near, small), (2 * index + 1) * apart).faces
        assert len(faces) == 2, index


def test_back_within_the_time_is_the_same_person(tracker, scene):
    first = play(tracker, [scene((320, 200, 1.5, 0))] * 5)
    play(tracker, [scene()] * 8, start=5 / FPS)
    back = play(tracker, [scene((330, 205, 1.5, 0))] * 2, start=13 / FPS)
    assert back[0][0].track == first[0][0].track
    assert back[0][0].unseen_s == 0


FIVE = [(120, 130, 1.2, 0), (330, 120, 1.4, 10), (540, 130, 1.2, 0), (200, 350, 1.2, -10), (460, 360, 1.2, 0)]


def test_five_faces_two_drawn_three_hidden(finders, scene):
    seen = play(Tracker(max_faces=2, finders=finders), [scene(*FIVE)] * 12)
    for faces in seen:
        assert len(faces) == 5
        assert [face.fitted for face in faces] == [True, True, False, False, False]
        assert len({face.track for face in faces}) == 5
    for hidden in seen[-1][2:]:
        left, top, right, bottom = hidden.box
        assert any(left < x < right and top < y < bottom for x, y, _, _ in FIVE)


def test_four_faces_are_all_drawn(tracker, scene):
    assert all(face.fitted for face in play(tracker, [scene(*FIVE[:4])] * 3)[-1])


TEN = [
    (90 + 115 * column, y, 0.55 + 0.03 * row, 4 * column - 8) for row, y in enumerate((120, 320)) for column in range(5)
]


def test_of_ten_faces_eight_are_drawn_and_two_are_reported_to_be_hidden(tracker, scene):
    seen = play(tracker, [scene(*TEN)] * 20)
    for faces in seen:
        assert [face.fitted for face in faces] == [True] * 8 + [False] * 2
    numbers = [[face.track for face in faces] for faces in seen]
    assert all(row == numbers[0] for row in numbers)
    for x, y, _, _ in TEN:
        assert any(box[0] < x < box[2] and box[1] < y < box[3] for box in (face.box for face in seen[-1]))


def test_a_place_that_becomes_free_is_taken_by_a_face_that_was_hidden(tracker, scene):
    play(tracker, [scene(*TEN)] * 8)
    after = play(tracker, [scene(*TEN[2:])] * 30, start=8 / FPS)[-1]
    assert [face.fitted for face in after] == [True] * 8


def test_a_larger_face_takes_the_place_of_a_small_one(finders, scene):
    tracker = Tracker(max_faces=1, finders=finders)
    play(tracker, [scene((140, 130, 0.9, 0))] * 5)
    both = play(tracker, [scene((140, 130, 0.9, 0), (430, 240, 2.2, 0))] * 8, start=5 / FPS)
    for faces in both:
        assert [face.fitted for face in faces] == [True, False]
        assert faces[0].size > faces[1].size


def test_the_camera_changes_size_in_the_middle(tracker, scene):
    place = (320, 200, 1.5, 0)
    small = (160, 100, 0.75, 0)
    first = play(tracker, [scene(place)] * 6)
    second = play(tracker, [scene(small, width=320, height=240)] * 6, start=6 / FPS)
    third = play(tracker, [scene(place)] * 6, start=12 / FPS)
    numbers = {faces[0].track for faces in first + second + third}
    assert len(numbers) == 1
    assert all(len(faces) == 1 and faces[0].unseen_s == 0 for faces in second + third)
    assert second[0][0].size == pytest.approx(first[-1][0].size / 2, rel=0.1)


@pytest.mark.parametrize(
    ("width", "height", "scale"), [(160, 120, 0.5), (1920, 1080, 5.0), (720, 1280, 3.0), (320, 240, 1.0)]
)
def test_frame_sizes(tracker, scene, width, height, scale):
    frame = scene((width / 2, height * 0.4, scale, 0), width=width, height=height)
    assert [face.fitted for face in play(tracker, [frame] * 3)[-1]] == [True]


def test_a_face_half_out_of_the_picture_is_followed(tracker, scene):
    seen = play(tracker, [scene((420 + 8 * i, 220, 2.0, 0)) for i in range(28)])  # its middle leaves at frame 27
    assert all(len(faces) == 1 and faces[0].fitted for faces in seen)


def test_a_wall_of_noise_has_no_face(tracker):
    random = np.random.default_rng(0)
    frames = [random.integers(0, 255, (240, 320, 3), dtype=np.uint8) for _ in range(15)]
    assert not any(play(tracker, frames))


class Changing(Finders):
    """Finders that are exchanged in the middle."""

    near = property(lambda self: self.now.near)
    wide = property(lambda self: self.now.wide)
    fit = property(lambda self: self.now.fit)

    def __init__(self, finders):
        self.now = finders


@pytest.fixture
def changing(finders):
    return Changing(finders)


class Deaf(Finders):
    """Real meshes without any search: nothing is found."""

    def __init__(self, finders):
        self.near = self.wide = Silence()
        self.fit = finders.fit


class Silence(Detector):
    def _begin(self, frame):
        return list


def test_a_face_that_only_the_mesh_holds_stays_drawn(finders, changing, scene):
    tracker = Tracker(finders=changing)
    play(tracker, [scene((320, 200, 1.5, 0))] * 5)
    changing.now = Deaf(finders)
    held = play(tracker, [scene((320 + i, 200, 1.5, 0)) for i in range(70)], start=5 / FPS)
    assert all(len(faces) == 1 and faces[0].unseen_s == 0 for faces in held)


def test_a_small_face_before_a_large_one_is_a_face_of_its_own(tracker, scene):
    seen = play(tracker, [scene((320, 200, 3.0, 0), (350, 330, 0.9, 0))] * 8)
    assert [face.fitted for face in seen[-1]] == [True, True]
    assert abs(seen[-1][1].points[:2].mean(axis=0)[0] - 350) < 10


class Blind(Finders):
    """Real searches whose faces nothing can be fitted to."""

    def __init__(self, finders, values=None):
        self.near, self.wide = finders.near, finders.wide
        self.values = values

    def fit(self, *_):
        points = np.zeros((468, 3), np.float32) if self.values is None else np.full((468, 3), self.values, np.float32)
        return Mesh(points, 0.0 if self.values is None else 1.0, 0.0)


def test_a_face_that_is_found_but_cannot_be_fitted_is_reported_to_be_hidden(finders, scene):
    seen = play(Tracker(finders=Blind(finders)), [scene((320, 200, 1.5, 0))] * 8)
    for faces in seen:
        assert len(faces) == 1 and not faces[0].fitted
        assert faces[0].box[0] < 320 < faces[0].box[2]


def test_a_drawn_face_that_can_no_longer_be_fitted_is_carried_by_the_search(finders, changing, scene):
    tracker = Tracker(finders=changing)
    play(tracker, [scene((200, 200, 1.5, 0))] * 5)
    changing.now = Blind(finders)
    carried = play(tracker, [scene((200 + 6 * i, 200, 1.5, 0)) for i in range(40)], start=5 / FPS)
    for index, faces in enumerate(carried):
        assert len(faces) == 1 and faces[0].fitted
        assert abs(faces[0].landmarks[168, 0] - (200 + 6 * index)) < 30


def test_points_that_are_not_numbers_are_no_fit(finders, changing, scene):
    tracker = Tracker(finders=changing)
    play(tracker, [scene((200, 200, 1.5, 0))] * 5)
    changing.now = Blind(finders, values=np.nan)
    for faces in play(tracker, [scene()] * 5, start=5 / FPS):
        assert all(np.isfinite(face.points).all() and np.isfinite(face.landmarks).all() for face in faces)


def test_the_same_frames_give_the_same_faces(finders, scene):
    frames = [scene((150 + 7 * i, 200, 1.5, i), (480, 300, 0.9, -i)) for i in range(14)] + [scene()] * 4
    one, other = (play(Tracker(finders=finders), frames) for _ in range(2))
    for first, second in zip(one, other, strict=True):
        assert [face.track for face in first] == [face.track for face in second]
        for a, b in zip(first, second, strict=True):
            assert np.array_equal(a.points, b.points) and np.array_equal(a.landmarks, b.landmarks)


def errors(tracker, scene, places):
    """(T, 5, 2): where the crop's template points lie, less the known motion; px of the frame, in which the eyes lie 64
    px apart. Before the camera stands what a webcam has: noise and JPEG."""
    random = np.random.default_rng(0)
    found, home = [], None
    for index, place in enumerate(places):
        noisy = (scene(place) + random.normal(0, 5, (480, 640, 3))).clip(0, 255).astype(np.uint8)
        frame = cv2.imdecode(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], cv2.IMREAD_COLOR)
        face = tracker.update(frame, index / 30).faces[0]
        template = move(_inverse(align_matrix(face.points)), TEMPLATE)
        matrix = scene.matrix(*place)
        at_home = move(_inverse(matrix), template)
        home = at_home if home is None else home
        found.append((at_home - home) @ matrix[:, :2].T)
    return np.array(found)


def _inverse(matrix):
    return cv2.invertAffineTransform(np.asarray(matrix, np.float64))


def test_a_still_face_does_not_shake(tracker, scene):
    settled = errors(tracker, scene, [(320, 220, 1.5, 0)] * 45)[10:]
    assert np.linalg.norm(settled - settled.mean(axis=0), axis=2).mean() < 0.15
    assert np.linalg.norm(np.diff(settled, axis=0), axis=2).mean() < 0.15


def test_a_moving_face_shakes_little(tracker, scene):
    places = [(320 + 100 * np.sin(i / 12), 220 + 20 * np.sin(i / 7), 1.5, 8 * np.sin(i / 9)) for i in range(60)]
    moved = errors(tracker, scene, places)[10:]
    assert np.linalg.norm(np.diff(moved, axis=0), axis=2).mean() < 0.6


def test_a_pan_is_followed_within_a_frame(tracker, scene):
    places = [(170 + 200 / 30 * max(0, i - 15), 220, 1.5, 0) for i in range(60)]  # 200 px a second
    found = errors(tracker, scene, places)[..., 0].mean(axis=1)
    behind = (found[5:15].mean() - found[16:]) / (200 / 30)
    assert behind.max() < 1
    assert abs(behind[15:].mean()) < 0.3


class Told(Detector):
    """Finds what it is told in a whole frame, without looking at it, and nothing in a half."""

    def __init__(self, detection):
        super().__init__()
        self._detection = detection
        self.score = 1.0

    def _begin(self, frame):
        whole = frame.shape == (480, 640, 3)
        return lambda: [dataclasses.replace(self._detection, score=self.score)] if whole else []


def test_a_find_that_was_never_fitted_is_not_held_by_unsure_finds(finders, scene):
    """A curtain that was surely a face once is covered for a moment, not for as long as it looks a little like one."""
    points = np.array([(400, 220), (430, 220), (415, 240), (402, 255), (428, 255)], np.float32)
    curtain = Told(Detection(np.array([380, 190, 450, 280], np.float32), points, 1.0))
    told = Finders(near=finders.near, wide=curtain)
    tracker = Tracker(finders=told)
    wall = scene()
    curtain.score = 0.85
    assert [face.fitted for face in play(tracker, [wall])[0]] == [False]
    curtain.score = 0.6
    seen = play(tracker, [wall] * 25, start=1 / FPS)
    assert seen[0] and not seen[-1]


def test_a_small_face_that_comes_is_covered_within_two_frames(tracker, scene):
    """Somebody sits there quietly, so wide searches are rare; who comes is a change, and is looked for at once."""
    near = (200, 240, 1.5, 0)
    play(tracker, [scene(near)] * 60)
    seen = play(tracker, [scene(near, (540, 140, 0.6, 0))] * 3, start=60 / FPS)
    assert [len(faces) for faces in seen[1:]] == [2, 2]


class Counting(Detector):
    """A search that counts how often it is asked for a whole frame."""

    def __init__(self, search):
        super().__init__()
        self._search, self.count = search, 0

    def _begin(self, frame):
        self.count += frame.shape == (480, 640, 3)
        found = self._search(frame)
        return lambda: found


@pytest.mark.parametrize(("moves", "most", "least"), [(False, 5, 3), (True, 14, 10)])
def test_wide_searches_are_rare_where_nothing_moves(finders, scene, moves, most, least):
    counting = Counting(finders.wide)
    tracker = Tracker(finders=Finders(near=finders.near, wide=counting))
    play(tracker, [scene((200, 240, 1.5, 0))] * 30)
    counting.count = 0
    frames = []
    for index in range(50):  # two seconds
        frame = scene((200 + index % 5, 240, 1.5, 0))
        if moves:
            frame[100:140, 400 + 3 * index : 440 + 3 * index] = (230, 220, 40)
        frames.append(frame)
    play(tracker, frames, start=30 / FPS)
    assert least <= counting.count <= most


@pytest.mark.parametrize("aside", [0.3, 0.5, 0.7, 0.8, 0.9])
def test_a_false_find_beside_a_face_whose_fit_slips_over_to_it_is_no_second_face(finders, scene, aside):
    frame = scene((260, 200, 1.5, 0))
    face = finders.wide(frame)[0]
    shift = np.array([aside * (face.box[2] - face.box[0]), 0], np.float32)
    beside = Told(Detection(face.box + np.tile(shift, 2), face.points + shift, 0.6))
    beside.score = 0.6
    tracker = Tracker(finders=Finders(near=finders.near, wide=beside))
    assert [len(faces) for faces in play(tracker, [frame] * 10)] == [1] * 10
