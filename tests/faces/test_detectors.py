"""Detectors that the user brings: what they find is put where it is, and what cannot be had is one sentence."""

import subprocess
import sys
import textwrap

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from faces import weights
from faces.detectors import check
from faces.finders import opened
from faces.track import Tracker
from livetoon.errors import EngineError, ModelError, UsageError

STRIDES = (8, 16, 32)


@pytest.fixture(scope="module")
def yunet(tmp_path_factory):
    """A graph with YuNet's input and outputs that takes any square of 32 px that is brighter than 200 for a face."""
    nodes, outputs = [], []
    constants = {
        "grey": np.full((1, 3, 1, 1), 1 / 3 / 255, np.float32),
        "dim": np.array(0.8, np.float32),
        "none": np.array(0.0, np.float32),
        "one": np.array([0, -1, 1], np.int64),
        "four": np.array([0, -1, 4], np.int64),
        "ten": np.array([0, -1, 10], np.int64),
        **{f"repeat{count}": np.array([1, 1, count], np.int64) for count in (4, 10)},
    }
    nodes.append(helper.make_node("Conv", ["input", "grey"], ["level"], kernel_shape=[1, 1]))
    for stride in STRIDES:
        nodes += [
            helper.make_node(
                "AveragePool", ["level"], [f"mean{stride}"], kernel_shape=[stride] * 2, strides=[stride] * 2
            ),
            helper.make_node("Sub", [f"mean{stride}", "dim"], [f"over{stride}"]),
            helper.make_node("Relu", [f"over{stride}"], [f"bright{stride}"]),
            helper.make_node("Reshape", [f"bright{stride}", "one"], [f"row{stride}"]),
            helper.make_node("Ceil", [f"row{stride}"], [f"face{stride}"]),
            # Only the cells of 32 px say face; a box of one cell: exp(0) times the stride, its middle at the corner.
            helper.make_node("Identity" if stride == 32 else "Mul", _inputs(stride), [f"cls_{stride}"]),
            helper.make_node("Identity", [f"cls_{stride}"], [f"obj_{stride}"]),
            helper.make_node("Mul", [f"row{stride}", "none"], [f"zero{stride}"]),
            helper.make_node("Tile", [f"zero{stride}", "repeat4"], [f"bbox_{stride}"]),
            helper.make_node("Tile", [f"zero{stride}", "repeat10"], [f"kps_{stride}"]),
        ]
    for kind, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
        outputs += [
            helper.make_tensor_value_info(f"{kind}_{stride}", TensorProto.FLOAT, [1, None, width]) for stride in STRIDES
        ]
    graph = helper.make_graph(
        nodes,
        "bright squares",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, None, None])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    file = tmp_path_factory.mktemp("yunet") / "yunet.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8), file)
    return file


def _inputs(stride):
    return [f"face{stride}"] if stride == 32 else [f"face{stride}", "none"]


@pytest.mark.parametrize(("width", "height", "scale"), [(640, 512, 0.5), (1280, 720, 0.25), (512, 640, 0.5)])
def test_yunets_finds_lie_in_the_frame(yunet, width, height, scale):
    search = opened(f"yunet:{yunet}").wide
    frame = np.zeros((height, width, 3), np.uint8)
    side = round(32 / scale)
    frame[side : 2 * side, 3 * side : 4 * side] = 255
    (found,) = search(frame)
    # The graph's boxes have their middle at the corner of their cell.
    np.testing.assert_allclose(found.box, np.array([2.5, 0.5, 3.5, 1.5]) * side, atol=2)
    assert found.points.shape == (5, 2) and found.score == pytest.approx(1, abs=0.01)
    assert search(np.zeros((height, width, 3), np.uint8)) == []


def test_a_tracker_works_with_a_brought_detector(yunet, scene):
    tracker = Tracker(finders=opened(f"yunet:{yunet}"))
    seen = [tracker.update(scene((320 + index, 200, 1.5, 0)), index / 25).faces for index in range(40)]
    assert all(any(face.fitted for face in faces) for faces in seen)


@pytest.mark.parametrize(
    ("name", "error", "sentence"),
    [
        ("yolo", UsageError, "--detector yolo: choose shipped, yunet:FILE.onnx or insightface:PACK"),
        ("yunet", UsageError, "--detector yunet: choose"),
        ("yunet:", UsageError, "--detector yunet:: choose"),
        ("insightface:", UsageError, "--detector insightface:: choose"),
        ("", UsageError, "--detector : choose"),
        ("yunet:no/such.onnx", UsageError, "no/such.onnx: there is no such file"),
    ],
)
def test_a_name_that_is_none_is_refused_in_one_sentence(name, error, sentence):
    for door in (check, opened):
        with pytest.raises(error) as caught:
            door(name)
        assert sentence in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["noise", "empty", "another network", "cut"])
def test_a_file_that_is_no_yunet_is_a_model_error(yunet, tmp_path, content):
    file = tmp_path / "face.onnx"
    file.write_bytes(
        {
            "noise": np.random.default_rng(0).bytes(5000),
            "empty": b"",
            "another network": weights.path("retinaface_mobilenet025.onnx").read_bytes(),
            "cut": yunet.read_bytes()[:-700],
        }[content]
    )
    with pytest.raises(ModelError, match=r"face\.onnx is no YuNet that OpenCV .* can run") as caught:
        opened(f"yunet:{file}")
    assert "\n" not in str(caught.value)


PACKAGE = """
class FaceAnalysis:
    def __init__(self, name="buffalo_l", root="~/.insightface", allowed_modules=None, **kwargs):
        print("find model:", name)
        if name != "buffalo_l":
            raise RuntimeError(f"Failed downloading url for {name}\\nsecond line")
        assert allowed_modules == ["detection"]

    def prepare(self, ctx_id, det_thresh=0.5, det_size=(640, 640)):
        assert ctx_id < 0 and det_size[0] % 32 == det_size[1] % 32 == 0

    def get(self, img, max_num=0):
        import types, numpy
        assert img.dtype == numpy.uint8 and img.shape[2] == 3
        rows, columns = numpy.nonzero((img[..., 0] == 0) & (img[..., 2] > 200))  # BGR: red is a face
        if not len(rows):
            return []
        box = numpy.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], numpy.float32)
        points = numpy.tile((box[:2] + box[2:]) / 2, (5, 1))
        return [
            types.SimpleNamespace(bbox=box + 200, kps=points + 200, det_score=numpy.float32(0.6)),
            types.SimpleNamespace(bbox=box, kps=points, det_score=numpy.float32(0.9)),
        ]
"""


@pytest.fixture
def python(tmp_path):
    """Runs a few lines of Python beside a package that has InsightFace's interface, and returns what they print."""
    package = tmp_path / "insightface" / "app"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").write_text(PACKAGE)

    def run(lines):
        code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + textwrap.dedent(lines)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_insightface_finds_are_put_where_they_are(python):
    said = python("""
        import numpy
        from faces.finders import opened
        search = opened("insightface:buffalo_l").wide
        frame = numpy.zeros((480, 640, 3), numpy.uint8)
        frame[100:200, 300:380] = (255, 0, 0)
        found = search(frame)
        print([float(f.score) for f in found], found[0].box.round().tolist(), found[0].points.shape, found[0].box.dtype)
        print(search(frame * 0))
    """)
    scores, empty = said.strip().splitlines()
    assert scores == "[0.8999999761581421, 0.6000000238418579] [300.0, 100.0, 380.0, 200.0] (5, 2) float32"
    assert empty == "[]"


def test_an_insightface_pack_that_cannot_be_opened_is_a_model_error(python):
    said = python("""
        from faces.finders import opened
        from livetoon.errors import ModelError
        try:
            opened("insightface:no_such_pack")
        except ModelError as error:
            print(error)
    """)
    assert said.startswith("InsightFace cannot open pack no_such_pack (RuntimeError: Failed downloading url for")
    assert said.count("\n") == 1 and "buffalo_l" in said


def test_without_insightface_one_sentence_says_how_to_get_it_and_its_terms(monkeypatch):
    monkeypatch.setitem(sys.modules, "insightface", None)
    for door in (check, opened):
        with pytest.raises(EngineError) as caught:
            door("insightface:buffalo_l")
        said = str(caught.value)
        assert "pip install insightface onnxruntime" in said and "non-commercial research only" in said
        assert said.startswith("--detector insightface:buffalo_l") and "\n" not in said


def test_a_frame_may_change_while_it_is_searched(yunet):
    search = opened(f"yunet:{yunet}").wide
    frame = np.zeros((512, 640, 3), np.uint8)
    cv2.rectangle(frame, (192, 64), (255, 127), (255, 255, 255), -1)
    begun = search.start(frame)
    frame[:] = 0
    assert len(begun.found()) == 1
