import cv2
import numpy as np
import pytest

from calib.crops import read_crops
from livetoon.errors import DataError, UsageError


@pytest.fixture
def folder(tmp_path):
    """Five red pictures, each brighter than the one before, the first three in a folder below."""
    made = tmp_path / "pictures"
    (made / "a").mkdir(parents=True)
    for index in range(5):
        path = made / ("a" if index < 3 else ".") / f"{index}.png"
        cv2.imwrite(str(path), np.full((100, 100, 3), (0, 0, 50 * index), np.uint8))
    (made / "notes.txt").write_text("no picture")
    return made


def test_spread_evenly_over_the_folder(folder):
    crops = read_crops([folder], 3, 32)
    assert (crops.shape, crops.dtype) == ((3, 32, 32, 3), np.uint8)
    assert sorted(crops[:, 0, 0, 0].tolist()) == [0, 100, 150]  # 3.png, a/0.png and a/2.png of the five, sorted
    assert not crops[..., 1:].any()


def test_no_more_than_there_are(folder):
    assert len(read_crops([folder], 100, 32)) == 5


def test_the_same_share_of_every_folder(folder, tmp_path):
    (tmp_path / "blue").mkdir()
    cv2.imwrite(str(tmp_path / "blue" / "only.jpg"), np.full((64, 64, 3), (200, 0, 0), np.uint8))
    crops = read_crops([folder, tmp_path / "blue"], 4, 32)
    assert len(crops) == 3
    assert crops[2, 0, 0, 2] > 150


def test_no_more_than_asked_for_of_many_folders(tmp_path):
    for index in range(5):
        (tmp_path / f"{index}").mkdir()
        cv2.imwrite(str(tmp_path / f"{index}" / "only.png"), np.full((64, 64, 3), (0, 0, 50 * index), np.uint8))
    crops = read_crops([tmp_path / f"{index}" for index in range(5)], 3, 32)
    assert crops[:, 0, 0, 0].tolist() == [0, 100, 200]


def test_the_middle_of_a_wide_picture(tmp_path):
    wide = np.zeros((50, 150, 3), np.uint8)
    wide[:, 50:100] = 255
    cv2.imwrite(str(tmp_path / "wide.png"), wide)
    assert read_crops([tmp_path], 1, 50).min() == 255


def test_a_folder_without_pictures(tmp_path):
    with pytest.raises(UsageError, match="no pictures in it"):
        read_crops([tmp_path], 2, 32)


def test_a_file_that_is_no_picture(tmp_path):
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match=r"cut\.jpg: not a picture"):
        read_crops([tmp_path], 2, 32)
