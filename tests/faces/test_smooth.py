import numpy as np

from faces.smooth import OneEuro


def test_a_still_face_shakes_less():
    random = np.random.default_rng(0)
    still = OneEuro()
    raw = [random.normal(0, 0.3, (5, 2)) + 100 for _ in range(120)]
    smooth = [still(points, frame / 30) for frame, points in enumerate(raw)]
    assert np.diff(smooth[30:], axis=0).std() < 0.25 * np.diff(raw[30:], axis=0).std()


def test_a_moving_face_is_followed_within_a_few_pixels():
    moving = OneEuro()
    for frame in range(60):
        points = np.full((5, 2), 10.0 * frame)  # 300 px a second
        smooth = moving(points, frame / 30)
    assert np.abs(smooth - points).max() < 3
    assert np.allclose(moving.velocity, 300, rtol=0.05)


def test_real_times_count_not_frames():
    slow, fast = OneEuro(), OneEuro()
    for frame in range(5):
        slow(np.full((5, 2), float(frame)), frame / 5)
        fast(np.full((5, 2), float(frame)), frame / 30)
    assert slow.velocity[0] < fast.velocity[0]


def test_a_time_that_stands_still_or_goes_back_changes_nothing():
    steady = OneEuro()
    first = steady(np.zeros((5, 2)), 1.0)
    assert np.array_equal(steady(np.full((5, 2), 50.0), 1.0), first)
    assert np.array_equal(steady(np.full((5, 2), 50.0), 0.5), first)


def test_reset_takes_the_next_points_as_they_are():
    steady = OneEuro()
    steady(np.zeros((5, 2)), 0.0)
    steady.reset()
    assert np.array_equal(steady(np.full((5, 2), 50.0), 0.1), np.full((5, 2), 50.0))
    assert np.array_equal(steady.velocity, [0, 0])


def test_points_keep_their_shape_when_they_move():
    moving = OneEuro()
    shape = np.array([(0, 0), (60, 0), (30, 40), (5, 60), (55, 60)], float)
    for frame in range(30):
        smooth = moving(shape + 5.0 * frame, frame / 30)
    assert np.abs((smooth - smooth[0]) - (shape - shape[0])).max() < 1e-3


def test_a_near_face_is_steadied_like_a_far_one():
    """The same shaking, twice as many pixels: what comes out shakes twice as many pixels, not more."""
    random = np.random.default_rng(0)
    far, near = OneEuro(), OneEuro()
    raw = [random.normal(0, 1, (5, 2)) for _ in range(90)]
    one = np.array([far(points, frame / 30) for frame, points in enumerate(raw)])
    other = np.array([near(2 * points, frame / 30, unit=2.0) for frame, points in enumerate(raw)])
    np.testing.assert_allclose(other, 2 * one, atol=1e-4)


def test_a_pan_that_begins_is_followed_within_a_frame():
    steady = OneEuro()
    behind = []
    for frame in range(60):
        place = 200 * max(0, frame - 30) / 30  # 200 px a second from the second second on
        behind.append((place - steady(np.full((5, 2), place), frame / 30)[0, 0]) / (200 / 30))
    assert max(behind) < 0.5
    assert abs(behind[-1]) < 0.1
