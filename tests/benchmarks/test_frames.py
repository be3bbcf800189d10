"""`python -m benchmarks.frames`: what it writes, and what it refuses."""

import json

import cv2
import numpy as np
import pytest
import torch

from benchmarks.frames import SIZES, main, scene

pytestmark = pytest.mark.gpu


def test_both_ways_are_timed_and_agree(tmp_path, capsys):
    path = tmp_path / "frames.json"
    assert main(["--quick", "--sizes", "480p", "--faces", "1,2", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    rows = found["rows"]
    assert [(row["faces"], row["way"]) for row in rows] == [
        (count, way) for count in (1, 2) for way in ("OpenCV and engine", "torch")
    ]
    for opencv, ours in zip(rows[::2], rows[1::2], strict=True):
        assert opencv["ratio"] == 1 and ours["ratio"] == round(ours["p50_ms"] / opencv["p50_ms"], 2)
        assert ours["largest"] <= 2 and ours["psnr_db"] > 60
        assert ours["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert "x OpenCV" in capsys.readouterr().out


def test_every_face_of_the_scene_lies_in_its_crop():
    from faces.align import crops

    i420, places = scene(*SIZES["720p"], 3, 256)
    rgb = cv2.cvtColor(i420, cv2.COLOR_YUV2RGB_I420)
    one, two, three = crops(rgb, [place.matrix for place in places]).astype(float)
    assert rgb.shape == (720, 1280, 3)
    # the same face, turned by four degrees each time: alike in its middle, where the grey ground would be flat
    for other in (two, three):
        middle = (slice(96, 160), slice(96, 160))
        assert np.corrcoef(one[middle].ravel(), other[middle].ravel())[0, 1] > 0.6
        assert one[middle].std() > 20


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--sizes", "4k"], "--sizes 4k: expected some of 480p"),
        (["--faces", "0"], "--faces 0: expected whole numbers"),
        (["--precision", "int3"], "--precision int3: expected fp32 or fp16"),
        (["--model", "nobody"], "nobody"),
    ],
)
def test_what_cannot_be_measured_is_refused(capsys, options, sentence):
    assert main(options) in (1, 2)
    assert sentence in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_told(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--device", "cuda"]) == 1
    assert "--device cuda: torch finds no NVIDIA GPU here" in capsys.readouterr().err
