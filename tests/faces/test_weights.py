import re

import pytest

from faces import weights
from livetoon.errors import ModelError


@pytest.mark.parametrize("name", sorted(weights.SHA256))
def test_every_shipped_file_is_there_and_whole(name):
    assert weights.path(name).stat().st_size > 10_000


def test_the_readme_names_every_file_with_its_hash():
    text = (weights.FOLDER / "README.md").read_text()
    rows = dict(re.findall(r"^\| (\S+\.(?:tflite|onnx)) .* ([0-9a-f]{64}) \|$", text, re.MULTILINE))
    assert rows == weights.SHA256


def test_a_missing_file_is_named_with_what_to_do(tmp_path):
    with pytest.raises(ModelError, match=r"face_landmark\.tflite is missing; install livetoon again"):
        weights.path("face_landmark.tflite", tmp_path)


def test_one_changed_byte_is_refused(tmp_path):
    data = bytearray(weights.path("face_detection_short_range.tflite").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "face_detection_short_range.tflite").write_bytes(data)
    with pytest.raises(ModelError, match="was altered"):
        weights.path("face_detection_short_range.tflite", tmp_path)


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(ModelError, match=r"face_landmark\.tflite"):
        weights.path("yolo.onnx")
