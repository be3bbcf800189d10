"""Faces that pass, hide and leave each other keep their numbers."""

import numpy as np
import pytest

from faces.track import Tracker

FPS = 25


def same(pixels):
    return pixels


def red_and_blue_swapped(pixels):
    return pixels[..., ::-1]


def dark(pixels):
    return (pixels * 0.45).astype(np.uint8)


class Cast:
    """Several people in one scene, the last one in front; each: (x, y, scale, turn in degrees) and how it looks."""

    def __init__(self, scene):
        self._scene = scene
        self._wall = scene()

    def __call__(self, *people):
        frame = self._wall.copy()
        for place, looks in people:
            alone = self._scene(place)
            person = (alone != self._wall).any(axis=2)
            frame[person] = looks(alone)[person]
        return frame


@pytest.fixture
def cast(scene):
    return Cast(scene)


@pytest.fixture
def tracker(finders):
    return Tracker(finders=finders)


def play(tracker, frames, fps=FPS, start=0):
    """Faces of each frame."""
    return [tracker.update(frame, (start + index) / fps).faces for index, frame in enumerate(frames)]


def number_at(faces, place):
    """Number of the face that is seen nearest to `place`; it must be there."""
    x, y, scale, _ = place
    away = {face.track: np.hypot(*(face.points[:2].mean(axis=0) - (x, y))) for face in faces if face.unseen_s == 0}
    assert away, "no face is seen"
    nearest = min(away, key=away.get)
    assert away[nearest] < 25 * scale, "no face is seen there"
    return nearest


@pytest.mark.parametrize("speed", [120, 400])
@pytest.mark.parametrize("looks", [same, red_and_blue_swapped])
@pytest.mark.parametrize("front", ["from the left", "from the right"])
def test_two_faces_pass_each_other(tracker, cast, speed, looks, front):
    count = round(380 / speed * FPS)
    xs = np.linspace(130, 510, count)
    left = [(x, 190, 1.2, 0) for x in xs]
    right = [(x, 205, 1.2, 0) for x in xs[::-1]]
    seen = []
    for one, other in zip(left, right, strict=True):
        people = [(one, same), (other, looks)]
        seen.append(cast(*(people if front == "from the right" else people[::-1])))
    faces = play(tracker, seen)
    first, last = faces[3], faces[-1]
    assert number_at(last, left[-1]) == number_at(first, left[3])
    assert number_at(last, right[-1]) == number_at(first, right[3])
    assert len(last) == 2


@pytest.mark.parametrize("front", [0, 1])
def test_two_faces_meet_and_turn_back(tracker, cast, front):
    """The way alone would say that they passed each other; their colours say that they did not."""
    offsets = [*range(0, 146, 6), *range(140, -1, -6)]
    left = [(160 + offset, 190, 1.2, 0) for offset in offsets]
    right = [(480 - offset, 205, 1.2, 0) for offset in offsets]
    frames = []
    for one, other in zip(left, right, strict=True):
        people = [(one, same), (other, red_and_blue_swapped)]
        frames.append(cast(*(people if front else people[::-1])))
    faces = play(tracker, frames)
    assert number_at(faces[-1], left[-1]) == number_at(faces[3], left[3])
    assert number_at(faces[-1], right[-1]) == number_at(faces[3], right[3])


@pytest.mark.parametrize("wait", [0, 30])
def test_a_person_before_a_poster(tracker, cast, wait):
    """The poster is hidden for a while and keeps its number, and the person never becomes the poster."""
    poster = (320, 180, 1.1, 0)
    xs = [*range(120, 320, 8), *[320] * wait, *range(320, 530, 8)]
    ways = [(x, 195, 1.5, 0) for x in xs]
    faces = play(tracker, [cast((poster, red_and_blue_swapped), (way, same)) for way in ways])
    person = {number_at(seen, way) for seen, way in zip(faces[3:], ways[3:], strict=True)}
    assert len(person) == 1
    assert number_at(faces[-1], poster) == number_at(faces[3], poster)


@pytest.mark.parametrize(("fps", "gap"), [(30, 10), (25, 10), (25, 4), (12, 10)])
@pytest.mark.parametrize(("x", "y"), [(320, 200), (380, 215), (270, 160)])
def test_a_face_that_was_lost_for_ten_frames_is_the_same(tracker, scene, fps, gap, x, y):
    before = play(tracker, [scene((320, 200, 1.5, 0))] * 8, fps)
    play(tracker, [scene()] * gap, fps, 8)
    after = play(tracker, [scene((x, y, 1.45, 4))] * 3, fps, 8 + gap)
    assert [len(faces) for faces in after] == [1, 1, 1]
    assert after[0][0].track == before[-1][0].track


def test_only_the_face_that_was_lost_comes_back(tracker, cast):
    stays, goes = (170, 200, 1.3, 0), (460, 200, 1.3, 0)
    before = play(tracker, [cast((stays, same), (goes, dark))] * 8)
    play(tracker, [cast((stays, same))] * 9, start=8)
    back = (420, 230, 1.3, 0)
    after = play(tracker, [cast((stays, same), (back, dark))] * 3, start=17)
    assert number_at(after[-1], stays) == number_at(before[-1], stays)
    assert number_at(after[-1], back) == number_at(before[-1], goes)
    assert len(after[-1]) == 2


def test_two_identical_faces_stay_two(tracker, scene):
    places = [(220, 200, 1.2, 0), (400, 200, 1.2, 0)]
    faces = play(tracker, [scene(*places)] * 50)
    for place in places:
        assert len({number_at(seen, place) for seen in faces}) == 1
    assert {len(seen) for seen in faces} == {2}


def test_another_person_elsewhere_is_new(tracker, cast):
    before = play(tracker, [cast(((150, 180, 1.5, 0), same))] * 8)
    play(tracker, [cast()] * 5, start=8)
    other = (500, 260, 1.1, 0)
    after = play(tracker, [cast((other, red_and_blue_swapped))] * 3, start=13)
    assert number_at(after[-1], other) != before[-1][0].track


def test_nobody_is_bare_while_faces_pass(tracker, cast):
    """In every frame each face that stands free is inside the box of a reported one."""
    xs = np.linspace(130, 510, 48)
    for index, x in enumerate(xs):
        left, right = (x, 190, 1.2, 0), (640 - x, 205, 1.2, 0)
        faces = tracker.update(cast((left, same), (right, red_and_blue_swapped)), index / FPS).faces
        for at in (left, right) if abs(left[0] - right[0]) > 90 else (right,):
            inside = [face.box[0] < at[0] < face.box[2] and face.box[1] < at[1] < face.box[3] for face in faces]
            assert any(inside), (index, at)
