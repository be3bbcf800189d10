import subprocess
import sys

import numpy as np
import pytest

from faces import weights
from faces.nets import Levels, OnnxRuntimeNet, OpenVinoNet, open_brought, open_net
from livetoon.errors import ModelError


@pytest.mark.parametrize(
    ("name", "shape"), [("retinaface_mobilenet025.onnx", (1, 3, 96, 128)), ("age_sex.onnx", (1, 3, 96, 96))]
)
def test_onnxruntime_and_openvino_agree(name, shape):
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    file = weights.path(name)
    one, other = OpenVinoNet(file, shape)(x), OnnxRuntimeNet(file, shape)(x)
    assert one.keys() == other.keys()
    for output in one:
        np.testing.assert_allclose(one[output], other[output], atol=2e-3)


@pytest.mark.parametrize("kind", [OpenVinoNet, OnnxRuntimeNet])
def test_pixels_are_taken_as_they_are(kind):
    file, shape = weights.path("retinaface_mobilenet025.onnx"), (1, 3, 96, 128)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    plain = kind(file, shape)((pixels.astype(np.float32) - 110) / 2)
    for output, value in kind(file, shape, Levels(110, 2))(pixels).items():
        np.testing.assert_allclose(value, plain[output], atol=2e-3)


def test_a_cut_file_is_a_model_error(tmp_path):
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(weights.path("retinaface_mobilenet025.onnx").read_bytes()[:50_000])
    for kind in (OpenVinoNet, OnnxRuntimeNet):
        with pytest.raises(ModelError, match=r"cut\.onnx cannot be read"):
            kind(cut)


@pytest.mark.parametrize("kind", [OpenVinoNet, OnnxRuntimeNet])
def test_a_network_of_another_kind_is_told_by_what_it_takes_and_gives(kind, monkeypatch, tmp_path):
    monkeypatch.setattr("faces.nets.OpenVinoNet", kind)
    ages, any_size = weights.path("age_sex.onnx"), weights.path("retinaface_mobilenet025.onnx")
    assert open_brought(ages, (1, 3, 96, 96), ["ages", "female"]).takes == (1, 3, 96, 96)
    assert open_brought(any_size, (1, 3, 96, 96), ["conf"]).takes[2:] == (0, 0)
    for file, shape, outputs, sentence in (
        (ages, (1, 3, 128, 128), ["ages"], "takes 1x3x96x96 and gives .*; expected one that takes 1x3x128x128"),
        (ages, (1, 3, 96, 96), ["alpha"], "gives .*ages.*; expected one that takes 1x3x96x96 and gives alpha"),
        (ages, (1, 96), ["ages"], "another kind of network"),
        (any_size, (1, 3, 96, 96), ["alpha"], "takes .*anyxany and gives"),
        (tmp_path / "nowhere.onnx", (1, 96), ["ages"], r"nowhere\.onnx: no such file"),
    ):
        with pytest.raises(ModelError, match=sentence):
            open_brought(file, shape, outputs)


def test_outputs_belong_to_the_latest_input():
    net = open_net(weights.path("face_landmark.tflite"))
    first = {name: value.copy() for name, value in net(np.zeros((1, 192, 192, 3), np.float32)).items()}
    net(np.ones((1, 192, 192, 3), np.float32))
    again = net(np.zeros((1, 192, 192, 3), np.float32))
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])


TWO_NETS_THEN_A_SIGNAL = """
import gc, os, signal
from faces import weights
from faces.nets import open_net
first, second = (open_net(weights.path("face_landmark.tflite")) for _ in range(2))
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_signal_is_heard_after_two_networks_were_given_back():
    """Each had an OpenVINO core of its own, and the second one to go left the thread a stack that was freed."""
    ended = subprocess.run([sys.executable, "-c", TWO_NETS_THEN_A_SIGNAL], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "heard\n"), ended.stderr
