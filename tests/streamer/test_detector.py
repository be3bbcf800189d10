"""`--detector` of both commands: what cannot be had is told in one sentence before anything is drawn."""

import sys

import cv2
import numpy as np
import pytest

from streamer import __main__ as server
from streamer import convert


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "in.png"
    cv2.imwrite(str(path), np.full((64, 96, 3), 90, np.uint8))
    return path


def run(command, options, picture, model):
    if command == "convert":
        return convert.main([str(picture), str(picture.with_name("out.png")), "--model", model, *options])
    return server.main(["--port", "0", "--model", model, *options])


@pytest.mark.parametrize("command", ["convert", "livetoon"])
@pytest.mark.parametrize(
    ("detector", "code", "sentence"),
    [
        ("yolo", 2, "--detector yolo: choose shipped, yunet:FILE.onnx or insightface:PACK"),
        ("yunet:missing.onnx", 2, "missing.onnx: there is no such file"),
        ("insightface:buffalo_l", 1, "pip install insightface onnxruntime"),
    ],
)
def test_a_detector_that_cannot_be_had_is_named(
    command, detector, code, sentence, picture, model, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "insightface", None)  # not to be imported, also where it is installed
    assert run(command, ["--detector", detector], picture, model) == code
    said = capsys.readouterr().err.strip().splitlines()
    assert sentence in said[-1]
    assert not picture.with_name("out.png").exists()


@pytest.mark.parametrize("command", ["convert", "livetoon"])
def test_a_detector_file_of_another_kind_is_named(command, picture, model, capsys):
    assert run(command, ["--detector", f"yunet:{picture}"], picture, model) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert "in.png is no YuNet that OpenCV" in said[-1]
