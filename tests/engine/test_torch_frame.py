"""The way of a frame in torch operations, beside the same way in OpenCV, pixel by pixel."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from engine import manifest
from engine.graphs import read_graph
from engine.torch_frame import FramePath, Place
from engine.torch_graph import torch_module
from faces.align import align_matrix, crops, move
from faces.paste import paste
from livetoon.errors import DataError

pytestmark = pytest.mark.gpu

SIZE = 64
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EYES_TO_MOUTH = np.float32([(205, 102), (250, 99), (232, 130), (211, 150), (248, 147)])  # of the astronaut
LEVELS = 2  # I420's planes are rounded twice on each way
PLACES = {  # scale, degrees, shift in px, size of the frame
    "as it is": (1.0, 0, (0, 0), (640, 480)),
    "turned": (1.3, 25, (40, 60), (640, 480)),
    "small": (0.35, 0, (60, 100), (640, 480)),
    "large": (3.6, -5, (100, 160), (1280, 720)),
    "larger than the frame": (8.0, -5, (60, 60), (640, 480)),
    "cut off at the left": (1.2, 10, (-190, -60), (640, 480)),
    "cut off below": (1.2, 10, (60, 370), (640, 480)),
}


@pytest.fixture(scope="module")
def network(exported):
    return torch_module(read_graph(manifest.open_files(exported), "fp32", pictures=True))


def scene(scale: float, degrees: float, shift, size, oval: bool = True) -> tuple[np.ndarray, Place]:
    """An I420 frame of the astronaut, and the place of her face."""
    turn = cv2.getRotationMatrix2D((228, 125), degrees, scale)
    turn[:, 2] += shift
    rgb = cv2.warpAffine(data.astronaut(), turn, size, borderMode=cv2.BORDER_REFLECT)
    matrix = align_matrix(move(turn, EYES_TO_MOUTH), SIZE)
    around = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    outline = np.stack([32 + 15 * np.cos(around), 36 + 20 * np.sin(around)], 1).astype(np.float32)
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), Place(matrix, outline if oval else outline[:0])


def with_opencv(network, i420: np.ndarray, places: list[Place]) -> np.ndarray:
    rgb = cv2.cvtColor(i420, cv2.COLOR_YUV2RGB_I420)
    with torch.no_grad():
        cartoons = network(torch.from_numpy(crops(rgb, [place.matrix for place in places], SIZE))).numpy()
    for cartoon, place in zip(cartoons, places, strict=True):
        paste(rgb, cartoon, place.matrix, place.outline, place.strength)
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)


def with_torch(network, i420: np.ndarray, places: list[Place]) -> np.ndarray:
    return FramePath(network.to(DEVICE), SIZE, DEVICE)(i420, places)


def apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    assert one.shape == other.shape and one.dtype == other.dtype == np.uint8
    return np.abs(one.astype(int) - other)


@pytest.mark.parametrize("oval", [True, False])
@pytest.mark.parametrize("name", PLACES)
def test_it_draws_what_opencv_draws(network, name, oval):
    i420, place = scene(*PLACES[name], oval=oval)
    expected = with_opencv(network.to("cpu"), i420, [place])
    assert apart(expected, i420).max() > 30
    assert apart(with_torch(network, i420, [place]), expected).max() <= LEVELS


def test_two_faces_that_overlap_are_both_cut_from_the_camera(network):
    i420, first = scene(*PLACES["as it is"])
    _, second = scene(1.0, 0, (40, 20), (640, 480))
    places = [first, replace(second, strength=0.5)]
    expected = with_opencv(network.to("cpu"), i420, places)
    assert apart(with_torch(network, i420, places), expected).max() <= LEVELS
    assert apart(with_torch(network, i420, places), with_torch(network, i420, places[:1])).max() > 30


def test_without_a_face_or_with_no_strength_the_frame_stays(network):
    i420, place = scene(*PLACES["as it is"])
    before = i420.copy()
    for places in ([], [replace(place, strength=0.0)]):
        assert apart(with_torch(network, i420, places), with_opencv(network.to("cpu"), i420, [])).max() <= LEVELS
    assert (i420 == before).all()


def test_a_face_outside_of_the_frame_draws_nothing(network):
    i420, _ = scene(*PLACES["as it is"])
    _, place = scene(1.0, 0, (2000, 0), (640, 480))
    assert (with_torch(network, i420, [place]) == with_torch(network, i420, [])).all()


@pytest.mark.parametrize(
    "frame", [np.zeros((480, 640, 3), np.uint8), np.zeros((721, 640), np.uint8), np.zeros((720, 640), np.float32)]
)
def test_another_kind_of_frame_is_refused(network, frame):
    with pytest.raises(DataError, match="expected an I420 frame"):
        FramePath(network, SIZE)(frame, [])
