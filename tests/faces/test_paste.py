import cv2
import numpy as np
import pytest

from faces.align import TEMPLATE, align_matrix, crop, inverse, move
from faces.paste import FEATHER, hide, outline, paste, weights
from faces.track import SURE

NO_OUTLINE = np.zeros((0, 2), np.float32)
# An oval as large as a face in the crop.
ANGLES = np.linspace(0, 2 * np.pi, 36, endpoint=False)
ROUND = np.stack([128 + 62 * np.cos(ANGLES), 140 + 78 * np.sin(ANGLES)], axis=1).astype(np.float32)


def cartoon(alpha: int = 255, colour=(0, 255, 0)) -> np.ndarray:
    return np.full((256, 256, 4), (*colour, alpha), np.uint8)


def matrix_at(x: float, y: float, scale: float = 1.0, turn: float = 0.0) -> np.ndarray:
    """The crop's middle at (x, y), `scale` frame px for each crop px."""
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    points = (TEMPLATE - 128) @ np.array([[cos, -sin], [sin, cos]]).T + (x, y)
    return align_matrix(points)


def wall(height=480, width=640) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_nothing_drawn_leaves_every_pixel():
    frame = wall()
    paste(frame, cartoon(alpha=0), matrix_at(320, 240), NO_OUTLINE)
    assert np.array_equal(frame, wall())


def test_strength_zero_leaves_every_pixel_and_half_is_half():
    frame = np.full((480, 640, 3), 100, np.uint8)
    paste(frame, cartoon(), matrix_at(320, 240), ROUND, strength=0)
    assert (frame == 100).all()
    paste(frame, cartoon(), matrix_at(320, 240), ROUND, strength=0.5)
    assert np.abs(frame[240, 320].astype(int) - (50, 178, 50)).max() <= 2


@pytest.mark.parametrize(("scale", "turn"), [(1.0, 0.0), (0.9, 0.3), (1.6, -0.5)])
def test_what_was_cut_out_goes_back_where_it_was(portrait, scale, turn):
    frame = cv2.GaussianBlur(portrait, (0, 0), 2)
    matrix = matrix_at(250, 250, scale, turn)
    picture = crop(frame, matrix)
    again = np.zeros_like(frame)
    paste(again, np.dstack([picture, np.full((256, 256), 255, np.uint8)]), matrix, NO_OUTLINE)
    # Well inside, where the window is 1: a fifth of a pixel of shift would show along the edges of the picture.
    inside = move(inverse(matrix), np.array([(70, 70), (186, 70), (186, 186), (70, 186)], np.float32))
    mask = cv2.fillConvexPoly(np.zeros(frame.shape[:2], np.uint8), inside.astype(np.int32), 1).astype(bool)
    error = np.abs(again[mask].astype(int) - frame[mask])
    assert error.mean() < 1
    assert np.percentile(error, 99) <= 4


def slope(height=480, width=640) -> np.ndarray:
    """(H, W, 3) uint8: every channel rises evenly, so that a place between pixels has the value between theirs."""
    rows, columns = np.mgrid[:height, :width]
    planes = columns * (255 / width), rows * (255 / height), (columns + rows) * (255 / (width + height))
    return np.round(np.stack(planes, axis=2)).astype(np.uint8)


PLACES = {
    "inside": (320, 240, 1.0, 0.0),
    "between pixels": (320.37, 240.81, 1.0, 0.0),
    "turned": (310.4, 250.2, 1.1, 0.5),
    "small": (200.3, 200.7, 0.3, -0.2),
    "tiny": (200.3, 200.7, 0.07, 0.1),
    "large": (320.6, 240.1, 1.9, 0.3),
    "beyond the left": (20.3, 240.6, 1.2, 0.2),
    "beyond the right": (630.2, 200.4, 0.9, -0.3),
    "beyond the top": (300.7, 10.1, 1.3, 0.1),
    "beyond the bottom": (300.2, 470.9, 1.3, -0.1),
    "top left corner": (15.5, 12.25, 1.0, 0.4),
    "top right corner": (622.1, 20.6, 1.7, 0.0),
    "bottom left corner": (40.9, 455.3, 0.6, -0.6),
    "bottom right corner": (610.4, 450.2, 2.4, 0.25),
    "beyond all sides": (320.2, 240.3, 4.0, 0.1),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_crop_pasted_as_it_was_cut_changes_nothing(place):
    frame, matrix = slope(), matrix_at(*place)
    picture = crop(frame, matrix)
    paste(frame, np.dstack([picture, np.full((256, 256), 255, np.uint8)]), matrix, ROUND)
    # Colours, weights and what remains are each rounded once to a whole level.
    assert np.abs(frame.astype(int) - slope()).max() <= 2


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_no_white_from_beyond_the_frame_comes_back_along_its_edge(place):
    frame = np.zeros((480, 640, 3), np.uint8)
    matrix = matrix_at(*place)
    paste(frame, np.dstack([crop(frame, matrix), np.full((256, 256), 255, np.uint8)]), matrix, NO_OUTLINE)
    assert frame.max() == 0


def test_what_is_drawn_is_noted_for_every_face():
    frame, drawn = wall(), np.zeros((480, 640), np.uint8)
    for x in (200, 440):
        paste(frame, cartoon(), matrix_at(x, 240, 0.8), ROUND, 1.0, drawn)
    assert drawn[240, 200] == drawn[240, 440] == 255
    assert np.array_equal(frame[drawn == 0], wall()[drawn == 0])
    assert (drawn[240, [60, 320, 580]] == 0).all()


def test_only_the_rectangle_of_the_crop_is_touched():
    frame = wall()
    paste(frame, cartoon(), matrix_at(320, 240, 0.5), ROUND)
    changed = (frame != wall()).any(axis=2)
    rows, columns = np.where(changed)
    assert columns.min() > 190 and columns.max() < 450
    assert rows.min() > 110 and rows.max() < 370


def test_no_step_is_seen_where_the_crop_ends():
    frame = np.full((480, 640, 3), 40, np.uint8)
    paste(frame, cartoon(colour=(240, 240, 240)), matrix_at(320, 240), NO_OUTLINE)
    red = frame[..., 0].astype(int)
    steps = np.maximum(np.abs(np.diff(red, axis=0))[:, 1:], np.abs(np.diff(red, axis=1))[1:])
    assert frame.max() == 240
    # 200 levels over the shortest feather; the steepest part of a smooth ramp is less than twice the mean.
    assert steps.max() <= 2 * 200 / min(FEATHER) + 1
    # At the very border nothing is left.
    assert (frame[240, [192, 448]] <= 42).all()


def test_the_window_stays_open_where_the_frame_ends_first():
    matrix = matrix_at(320, 480 - 60)  # the lower third of the crop lies below the frame
    alpha = np.full((256, 256), 255, np.uint8)
    weight = weights(alpha, inverse(matrix), (480, 640, 3), NO_OUTLINE)
    last_row = round(float(move(matrix, np.array([[320.0, 479.0]]))[0, 1]))
    assert weight[last_row, 128] == 255
    assert weight[128, 0] == 0 and weight[0, 128] == 0


def test_the_window_opens_without_a_jump_as_a_face_leaves_the_frame():
    frames = []
    for y in np.arange(330, 420, 1.0):
        frame = np.full((480, 640, 3), 40, np.uint8)
        paste(frame, cartoon(colour=(240, 240, 240)), matrix_at(320, y), NO_OUTLINE)
        frames.append(frame[479, 320, 0].astype(int))
    assert max(frames) == 240
    assert np.abs(np.diff(frames)).max() <= 16


def test_no_hole_inside_the_face_even_if_the_generator_draws_none():
    matrix = matrix_at(320, 240, 1.2, 0.2)
    frame = np.full((480, 640, 3), 200, np.uint8)
    paste(frame, cartoon(alpha=0), matrix, ROUND)
    inside = move(inverse(matrix), ROUND * 0.88 + ROUND.mean(axis=0) * 0.12)
    mask = cv2.fillPoly(np.zeros((480, 640), np.uint8), [inside.round().astype(np.int32)], 1).astype(bool)
    assert mask.sum() > 10_000
    assert (frame[mask][:, 0] <= 3).all()


@pytest.mark.parametrize(("x", "y"), [(0, 0), (640, 480), (-60, 240), (320, 520), (5000, 5000), (-400, -400)])
def test_a_face_across_the_border_or_beyond_it(x, y):
    frame = wall()
    paste(frame, cartoon(), matrix_at(x, y, 1.1, 0.1), ROUND)
    assert frame.shape == (480, 640, 3)
    if x > 1000 or x < -300:
        assert np.array_equal(frame, wall())
    else:
        assert not np.array_equal(frame, wall())


@pytest.mark.parametrize("scale", [0.05, 0.2, 0.5, 4.0])
def test_tiny_and_huge_faces(scale):
    frame = np.full((480, 640, 3), 200, np.uint8)
    paste(frame, cartoon(), matrix_at(320, 240, scale), ROUND)
    assert np.abs(frame[240, 320].astype(int) - (0, 255, 0)).max() <= 25


def test_a_small_face_is_averaged_and_does_not_flicker():
    checks = cartoon()
    checks[::2, ::2, :3] = checks[1::2, 1::2, :3] = 255
    checks[::2, 1::2, :3] = checks[1::2, ::2, :3] = 0
    frame = np.full((480, 640, 3), 127, np.uint8)
    paste(frame, checks, matrix_at(320, 240, 0.25), ROUND)
    assert np.abs(frame[232:248, 312:328].astype(int) - 127).max() <= 6


def test_a_matrix_that_is_no_number_draws_nothing():
    frame = wall()
    paste(frame, cartoon(), np.full((2, 3), np.nan), NO_OUTLINE)
    assert np.array_equal(frame, wall())


def test_the_outline_of_an_unfitted_face_is_empty():
    assert outline(np.zeros((0, 2), np.float32), np.eye(2, 3)).shape == (0, 2)


def test_a_hidden_face_cannot_be_found_again(finders, scene):
    frame = scene((320, 220, 1.5, 0))
    hide(frame, finders.wide(frame)[0].box)
    assert finders.wide(frame) == []
    for unsure in finders.near(frame):
        assert unsure.score < SURE
        assert finders.fit_detection(frame, unsure).presence < 0.5


@pytest.mark.parametrize("box", [(-50, -50, 20, 20), (630, 470, 900, 900), (1000, 0, 1100, 90), (10, 10, 10, 10)])
def test_hiding_at_the_border_and_beyond(box):
    frame = wall()
    hide(frame, np.array(box, np.float32))
    far = np.s_[150:400, 150:500]
    assert np.array_equal(frame[far], wall()[far])
