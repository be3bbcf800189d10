"""FP16 graphs: what becomes half, what stays, and what the rounding costs."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from calib.half import half_precision, rounding
from calib.quantize import int8_convolutions, sources
from calib.ranges import activation_ranges

SIDE = 16


def model_of(scale: float = 1.0) -> onnx.ModelProto:
    """crop -> 3x3 -> instance norm -> resize -> rgba."""
    random = np.random.default_rng(0)
    constants = {
        "weight": (random.normal(size=(4, 3, 3, 3)) * scale).astype(np.float32),
        "ones": np.ones(4, np.float32),
        "zeros": np.zeros(4, np.float32),
        "factors": np.array([1, 1, 2, 2], np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["crop", "weight"], ["y"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("InstanceNormalization", ["y", "ones", "zeros"], ["z"], name="norm"),
        helper.make_node("Resize", ["z", "", "factors"], ["rgba"], name="up", mode="nearest"),
    ]
    graph = helper.make_graph(
        nodes,
        "half",
        [helper.make_tensor_value_info("crop", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("rgba", TensorProto.FLOAT, ["n", 4, 2 * SIDE, 2 * SIDE])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (2, 3, SIDE, SIDE)).astype(np.float32)


def run(model: onnx.ModelProto, crops: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(["rgba"], {"crop": crops})[0]


def kinds(model: onnx.ModelProto) -> dict[str, int]:
    inferred = shape_inference.infer_shapes(model).graph
    found = {value.name: value.data_type for value in inferred.initializer}
    return found | {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}


def test_convolutions_compute_in_half_and_norms_in_float():
    model = half_precision(model_of())
    of = kinds(model)
    inputs = {node.name: list(node.input) for node in model.graph.node}
    assert {of[name] for name in inputs["conv"]} == {TensorProto.FLOAT16}
    assert {of[name] for name in inputs["norm"]} == {TensorProto.FLOAT}
    assert of[inputs["up"][0]] == TensorProto.FLOAT16 and of["factors"] == TensorProto.FLOAT
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT


def test_a_node_that_is_kept_stays_float():
    model = half_precision(model_of(), keep=["conv"])
    assert kinds(model)["weight"] == TensorProto.FLOAT


def test_it_draws_the_same_within_half_precision(crops):
    expected = run(model_of(), crops)
    for model in (half_precision(model_of()), rounding(half_precision(model_of()))):
        assert 0 < np.abs(run(model, crops) - expected).max() < 0.01


def test_rounding_shows_an_overflow_that_a_processor_hides(crops):
    huge = half_precision(model_of(scale=1.2e4))
    assert np.isfinite(run(huge, crops)).all()
    assert not np.isfinite(run(rounding(huge), crops)).all()


def test_what_int8_leaves_becomes_half(crops):
    model = model_of()
    quantized = int8_convolutions(model, activation_ranges(model, sources(model).values(), crops)["largest"])
    half = half_precision(quantized)
    of = kinds(half)
    scales = [node.input[1] for node in half.graph.node if node.op_type.endswith("Linear")]
    assert scales and {of[name] for name in scales} == {TensorProto.FLOAT16}
    assert np.abs(run(rounding(half), crops) - run(quantized, crops)).max() < 0.1


def test_a_channel_of_nearly_nothing_keeps_a_scale(crops):
    model = model_of()
    weight = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight[1] *= 1e-8  # float16's smallest number is 6e-8
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "weight"))
    quantized = int8_convolutions(model, activation_ranges(model, sources(model).values(), crops)["largest"])
    half = half_precision(quantized)
    scales = {node.input[1] for node in half.graph.node if node.op_type.endswith("Linear")}
    stored = [numpy_helper.to_array(value) for value in half.graph.initializer if value.name in scales]
    assert len(stored) == 2 and min(each.min() for each in stored) > 0
