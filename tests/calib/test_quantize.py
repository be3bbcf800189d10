"""Ranges and INT8 graphs on a network of two convolutions, run by ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from calib.quantize import LARGEST_WEIGHT, int8_convolutions
from calib.ranges import activation_ranges

SIDE = 16


@pytest.fixture
def model() -> onnx.ModelProto:
    """crop -> 3x3 -> ReLU -> depthwise 3x3 -> rgba; channels of very different size."""
    random = np.random.default_rng(0)
    size = np.array([0.01, 0.1, 1, 10], np.float32)
    constants = {
        "first": random.normal(size=(4, 3, 3, 3)).astype(np.float32) * size[:, None, None, None],
        "bias": random.normal(size=4).astype(np.float32) * size,
        "second": random.normal(size=(4, 1, 3, 3)).astype(np.float32) / size[:, None, None, None],
    }
    nodes = [
        helper.make_node("Conv", ["crop", "first", "bias"], ["y"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["y"], ["active"]),
        helper.make_node("Conv", ["active", "second"], ["rgba"], pads=[1, 1, 1, 1], group=4),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("crop", onnx.TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("rgba", onnx.TensorProto.FLOAT, ["n", 4, SIDE, SIDE])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (6, 3, SIDE, SIDE)).astype(np.float32)


def run(model: onnx.ModelProto, crops: np.ndarray, output: str | None = None) -> np.ndarray:
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(output and [output], {"crop": crops})[0]


def test_ranges_are_the_percentile_of_each_crop_averaged(model, crops):
    ranges = activation_ranges(model, crops, percent=90)
    assert set(ranges) == {"crop", "active"}
    assert ranges["crop"] == 1
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.append(helper.make_tensor_value_info("active", onnx.TensorProto.FLOAT, ["n", 4, SIDE, SIDE]))
    active = run(watched, crops, "active")
    assert ranges["active"] == pytest.approx(np.mean([np.percentile(np.abs(each), 90) for each in active]), rel=1e-4)


def test_ranges_leave_the_model_alone(model, crops):
    before = model.SerializeToString()
    int8_convolutions(model, activation_ranges(model, crops))
    assert model.SerializeToString() == before


def test_the_result_stays_close_whatever_the_size_of_a_channel(model, crops):
    expected = run(model, crops)
    got = run(int8_convolutions(model, activation_ranges(model, crops, percent=100)), crops)
    for channel in range(1, 4):
        error = np.abs(got[:, channel] - expected[:, channel]).std() / expected[:, channel].std()
        assert error < (0.5 if channel == 1 else 0.05)


def test_weights_keep_to_half_the_range_and_use_it(model, crops):
    quantized = int8_convolutions(model, activation_ranges(model, crops))
    codes = {
        value.name: numpy_helper.to_array(value)
        for value in quantized.graph.initializer
        if value.data_type == onnx.TensorProto.INT8 and len(value.dims) == 4
    }
    assert len(codes) == 2
    for each in codes.values():
        assert (np.abs(each.astype(int)).reshape(4, -1).max(axis=1) == LARGEST_WEIGHT).all()


def test_zero_points_are_zero_and_biases_float(model, crops):
    quantized = int8_convolutions(model, activation_ranges(model, crops))
    values = {value.name: numpy_helper.to_array(value) for value in quantized.graph.initializer}
    zeros = [values[node.input[2]] for node in quantized.graph.node if node.op_type.endswith("Linear")]
    assert zeros and not any(zero.any() for zero in zeros)
    assert values["bias"].dtype == np.float32


def test_a_tensor_that_two_convolutions_read_is_quantized_once(model, crops):
    model.graph.node.append(helper.make_node("Conv", ["active", "second"], ["unused"], pads=[1, 1, 1, 1], group=4))
    quantized = int8_convolutions(model, activation_ranges(model, crops))
    assert sum(node.op_type == "QuantizeLinear" for node in quantized.graph.node) == 2


def test_a_dead_channel_and_a_dead_tensor(model, crops):
    for value in model.graph.initializer:
        if value.name in ("first", "bias"):
            value.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(value)), value.name))
    got = run(int8_convolutions(model, activation_ranges(model, crops)), crops)
    assert np.isfinite(got).all() and not got.any()
