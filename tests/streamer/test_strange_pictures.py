"""Pictures of every kind with a face in them, and pictures of impossible sizes, through convert."""

import cv2
import numpy as np
import pytest
from skimage import data

from streamer.convert import main


@pytest.fixture(scope="module")
def portrait():
    """(512, 512, 3) uint8 BGR."""
    return cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR)


def drawn(folder, name, pixels, model, *options):
    """What convert makes of `pixels`, as 8 bits."""
    source, target = folder / name, folder / f"out-{name}"
    cv2.imwrite(str(source), pixels)
    assert main([str(source), str(target), "--model", model, *options]) == 0
    return cv2.imread(str(target), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("kind", ["grey", "grey of 16 bits", "colour of 16 bits", "with alpha", "colour"])
def test_the_face_is_drawn_whatever_the_pixels_are(tmp_path, portrait, model, kind):
    grey = cv2.cvtColor(portrait, cv2.COLOR_BGR2GRAY)
    pixels = {
        "grey": grey,
        "grey of 16 bits": grey.astype(np.uint16) * 257,
        "colour of 16 bits": portrait.astype(np.uint16) * 257,
        "with alpha": np.dstack([portrait, np.full((512, 512), 255, np.uint8)]),
        "colour": portrait,
    }[kind]
    shown = drawn(tmp_path, "in.png", pixels, model)[..., :3].astype(int)
    before = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR) if "grey" in kind else portrait
    change = np.abs(shown - before).max(axis=2)
    assert (change[90:150, 195:255] > 12).mean() > 0.5  # from the eyes to the mouth
    assert change[300:].max() <= 1


def test_a_black_picture_comes_out_black(tmp_path, model):
    assert drawn(tmp_path, "in.png", np.zeros((480, 640, 3), np.uint8), model).max() == 0


@pytest.mark.parametrize(
    ("width", "height", "sentence"),
    [
        (8, 8, "8x8 px is too small, a side must have 16"),
        (12000, 9000, "12000x9000 px is too large, a side may have 8192"),
    ],
)
def test_a_picture_of_an_impossible_size_is_explained(tmp_path, model, capsys, width, height, sentence):
    source = tmp_path / "in.png"
    cv2.imwrite(str(source), np.zeros((height, width), np.uint8))
    assert main([str(source), str(tmp_path / "out.png"), "--model", model]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert sentence in said and "make it" in said and str(source) in said
    assert not (tmp_path / "out.png").exists()
