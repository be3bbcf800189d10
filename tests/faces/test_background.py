import cv2
import numpy as np
import pytest

from faces.background import BLUR, PLAIN, Background, blurred, rgb_of
from faces.matte import Matte
from livetoon.errors import UsageError

COLOUR, PLACE = "#204060", (320, 260, 1.6)


@pytest.fixture(scope="module")
def matte() -> Matte:
    return Matte()


@pytest.fixture
def background(matte) -> Background:
    return Background(matte)


@pytest.fixture(scope="module")
def frame(scene) -> np.ndarray:
    """A head before a wall of stripes."""
    plain, striped = scene((*PLACE, 0)), scene()
    striped[:, ::16] = striped[:, 1::16] = 20
    wall = (plain == scene()).all(axis=2)
    return np.where(wall[..., None], striped, plain)


def nothing(frame) -> np.ndarray:
    return np.zeros(frame.shape[:2], np.uint8)


def face(shape) -> np.ndarray:
    mask = np.zeros(shape[:2], np.uint8)
    cv2.ellipse(mask, (320, 292), (45, 60), 0, 0, 360, 1, -1)
    return mask.astype(bool)


def test_a_plain_background_takes_the_rooms_place_and_the_person_stays(background, frame):
    shown = background(frame, frame, nothing(frame), 0.0, PLAIN, COLOUR)
    region = face(frame.shape)
    assert (np.abs(shown[region].astype(int) - frame[region]).max(axis=1) <= 3).mean() > 0.95
    for corner in (shown[:120, :160], shown[:120, -160:]):
        assert (corner == rgb_of(COLOUR)).all()


def test_the_colour_and_the_size_may_change_between_two_frames(background, frame):
    for step, (colour, size) in enumerate([("#ff0000", 640), ("#00ff00", 640), ("#00ff00", 320)]):
        picture = cv2.resize(frame, (size, size * 3 // 4))
        shown = background(picture, picture, nothing(picture), step / 30, PLAIN, colour)
        assert shown.shape == picture.shape and tuple(shown[2, 2]) == rgb_of(colour)


def test_a_blurred_room_has_no_stripes_and_its_own_colour(background, frame):
    shown = background(frame, frame, nothing(frame), 0.0, BLUR, COLOUR)
    room, soft = frame[:120, :160].astype(float), shown[:120, :160].astype(float)
    assert soft[..., 0].std() < 0.1 * room[..., 0].std()
    assert np.abs(soft.mean(axis=(0, 1)) - room.mean(axis=(0, 1))).max() < 4


def test_the_person_does_not_glow_into_a_blurred_room():
    picture = np.full((480, 640, 3), 40, np.uint8)
    picture[160:, 220:420] = 250
    alpha = np.zeros((480, 640), np.uint8)
    alpha[160:, 220:420] = 255
    soft = blurred(picture, alpha)
    assert soft[300, 215].max() < 60 and soft[150, 320].max() < 60
    assert cv2.GaussianBlur(picture, (0, 0), 19)[300, 215].max() > 100


def test_what_is_drawn_stays_wherever_it_is(background, frame):
    drawn = nothing(frame)
    drawn[20:60, 20:60] = 255
    shown = background(frame, frame, drawn, 0.0, PLAIN, COLOUR)
    assert np.abs(shown[20:60, 20:60].astype(int) - frame[20:60, 20:60]).max() <= 1


@pytest.mark.parametrize("kind", [PLAIN, BLUR])
def test_only_the_drawn_picture_is_shown_never_the_cameras(background, frame, kind):
    black = np.zeros_like(frame)
    shown = background(frame, black, nothing(frame), 0.0, kind, "#000000")
    assert shown.max() == 0


@pytest.mark.parametrize("colour", ["", "red", "#12345", "#12345g", "123456#", None, 7, "#١٢٣٤٥٦"])
def test_what_is_no_colour_is_refused(colour):
    with pytest.raises(UsageError, match="written as #rrggbb"):
        rgb_of(colour)
