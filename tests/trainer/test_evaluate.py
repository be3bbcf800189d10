"""Measuring: what is refused, and the figures of a perfect drawing."""

import shutil

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from trainer import evaluate
from trainer.data import load


@pytest.fixture
def wrong_size(tmp_path):
    """A network that takes (1, 3, 64, 64)."""
    crop, same = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 64, 64]) for name in ("crop", "same"))
    graph = helper.make_graph([helper.make_node("Identity", ["crop"], ["same"])], "same", [crop], [same])
    path = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--data", "{tmp}"], 2, "holds train/"),
        (["--behind", "{tmp}/nowhere"], 1, "nowhere: no pictures there"),
        (["--identity", "{tmp}/nowhere.onnx"], 1, "--identity {tmp}/nowhere.onnx: not a network that can be read"),
        (["--identity", "{tmp}/cut.onnx"], 1, "--identity {tmp}/cut.onnx: not a network that can be read"),
        (["--identity", "{tmp}/small.onnx"], 1, "takes [1, 3, 64, 64], expected (1, 3, 112, 112)"),
    ],
    ids=["train", "behind", "no file", "cut file", "wrong size"],
)
def test_wrong_use_is_one_sentence(pairs, tmp_path, wrong_size, capsys, arguments, code, sentence):
    shutil.copytree(pairs / "many", tmp_path / "train")
    (tmp_path / "cut.onnx").write_bytes(wrong_size.read_bytes()[:20])
    arguments = [each.format(tmp=tmp_path) for each in arguments]
    assert evaluate.main(["model", "--data", str(pairs / "many"), *arguments]) == code
    lines = capsys.readouterr().err.splitlines()
    assert sentence.format(tmp=tmp_path) in lines[-1]


def test_the_drawing_itself_is_measured_as_perfect(pairs):
    data = load([pairs], [], ["many"], 64)["many"]
    data.alphas = [np.full_like(alpha, 255) for alpha in data.alphas]
    drawings = iter(data.cartoons)

    def draw(x):
        picture = torch.from_numpy(next(drawings).astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
        return torch.cat([picture, torch.ones(1, 1, 64, 64)], dim=1)

    figures = evaluate.measure(draw, data.photos, data)
    assert figures["l1"] == pytest.approx(0, abs=1e-6)
    assert figures["ssim"] == figures["alpha_accuracy"] == pytest.approx(1)


def test_photos_before_a_room_are_the_same_at_every_call(pairs):
    data = load([pairs], [], ["many"], 64)["many"]
    first, again = (evaluate.composed(data, []) for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    corner = [cv2.absdiff(one, white)[0, 0].max() for one, white in zip(first, data.photos, strict=True)]
    assert max(corner) > 20
