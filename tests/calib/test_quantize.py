"""Ranges and INT8 graphs on a network of two convolutions, run by ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from calib.quantize import LARGEST_WEIGHT, int8_convolutions, share, sources, work
from calib.ranges import METHODS, PERCENT, activation_ranges
from livetoon.inference import openvino_core

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
        helper.make_node("Conv", ["crop", "first", "bias"], ["y"], name="one", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["y"], ["active"]),
        helper.make_node("Conv", ["active", "second"], ["rgba"], name="two", pads=[1, 1, 1, 1], group=4),
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


def ranges_of(model: onnx.ModelProto, crops: np.ndarray, method: str = "percentile") -> dict[str, float]:
    return activation_ranges(model, sources(model).values(), crops)[method]


def test_ranges_are_the_percentile_of_each_crop_averaged(model, crops):
    ranges = activation_ranges(model, ["crop", "active"], crops)["percentile"]
    assert set(ranges) == {"crop", "active"}
    assert ranges["crop"] == 1
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.append(helper.make_tensor_value_info("active", onnx.TensorProto.FLOAT, ["n", 4, SIDE, SIDE]))
    active = run(watched, crops, "active")
    assert activation_ranges(model, ["active"], crops)["largest"]["active"] == pytest.approx(np.abs(active).max())
    assert ranges["active"] == pytest.approx(
        np.mean([np.percentile(np.abs(each), PERCENT) for each in active]), rel=1e-4
    )


def test_ranges_leave_the_model_alone(model, crops):
    before = model.SerializeToString()
    int8_convolutions(model, ranges_of(model, crops))
    assert model.SerializeToString() == before


def test_the_result_stays_close_whatever_the_size_of_a_channel(model, crops):
    expected = run(model, crops)
    got = run(int8_convolutions(model, ranges_of(model, crops, "largest")), crops)
    for channel in range(1, 4):
        error = np.abs(got[:, channel] - expected[:, channel]).std() / expected[:, channel].std()
        assert error < (0.7 if channel == 1 else 0.07)


def test_weights_keep_to_half_the_range_and_use_it(model, crops):
    quantized = int8_convolutions(model, ranges_of(model, crops))
    codes = {
        value.name: numpy_helper.to_array(value)
        for value in quantized.graph.initializer
        if value.data_type == onnx.TensorProto.INT8 and len(value.dims) == 4
    }
    assert len(codes) == 2
    for each in codes.values():
        assert (np.abs(each.astype(int)).reshape(4, -1).max(axis=1) == LARGEST_WEIGHT).all()


def test_zero_points_are_zero_and_biases_float(model, crops):
    quantized = int8_convolutions(model, ranges_of(model, crops))
    values = {value.name: numpy_helper.to_array(value) for value in quantized.graph.initializer}
    zeros = [values[node.input[2]] for node in quantized.graph.node if node.op_type.endswith("Linear")]
    assert zeros and not any(zero.any() for zero in zeros)
    assert values["bias"].dtype == np.float32


def test_a_tensor_that_two_convolutions_read_is_quantized_once(model, crops):
    model.graph.node.append(
        helper.make_node("Conv", ["active", "second"], ["unused"], name="three", pads=[1, 1, 1, 1], group=4)
    )
    quantized = int8_convolutions(model, ranges_of(model, crops))
    assert sum(node.op_type == "QuantizeLinear" for node in quantized.graph.node) == 2


def test_a_dead_channel_and_a_dead_tensor(model, crops):
    for value in model.graph.initializer:
        if value.name in ("first", "bias"):
            value.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(value)), value.name))
    got = run(int8_convolutions(model, ranges_of(model, crops)), crops)
    assert np.isfinite(got).all() and not got.any()


def test_entropy_leaves_out_a_few_large_values_that_percentile_and_largest_keep(model):
    crops = np.random.default_rng(1).normal(0, 0.05, (6, 3, SIDE, SIDE)).astype(np.float32)
    crops[:, :, 0, 0] = 40
    found = {method: ranges_of(model, crops, method)["active"] for method in METHODS}
    assert found["entropy"] < 0.5 * found["largest"]


def test_a_convolution_that_is_kept_stays_as_it_was(model, crops):
    quantized = int8_convolutions(model, ranges_of(model, crops), keep=["two"])
    inputs = {node.name: list(node.input) for node in quantized.graph.node if node.op_type == "Conv"}
    assert inputs["two"] == ["active", "second"]
    assert inputs["one"][:2] == ["crop.dequantized", "first.dequantized"]


def test_work_and_its_share(model):
    assert work(model) == {"one": 4 * 3 * 9 * SIDE**2, "two": 4 * 9 * SIDE**2}
    assert share(model, ["two"]) == pytest.approx(0.75)
    assert share(model, []) == 1


def test_transposed_convolutions_are_work_that_is_never_int8():
    weight = numpy_helper.from_array(np.zeros((3, 4, 3, 3), np.float32), "weight")
    nodes = [
        helper.make_node("ConvTranspose", ["crop", "weight"], ["y"], name="up", strides=[2, 2]),
        helper.make_node("Conv", ["y", "second"], ["rgba"], name="one"),
    ]
    second = numpy_helper.from_array(np.zeros((4, 4, 1, 1), np.float32), "second")
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", channels, side, side])
        for name, channels, side in (("crop", 3, SIDE), ("rgba", 4, 2 * SIDE + 1))
    ]
    graph = helper.make_graph(nodes, "up", ends[:1], ends[1:], [weight, second])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    up, one = 3 * 4 * 9 * SIDE**2, 4 * 4 * (2 * SIDE + 1) ** 2
    assert work(model) == {"up": up, "one": one}
    assert share(model, []) == pytest.approx(one / (up + one))


def padded() -> onnx.ModelProto:
    """crop -> reflection pad -> 7x7 -> rgba."""
    constants = {"pads": np.array([0, 0, 3, 3, 0, 0, 3, 3])}
    constants["weight"] = np.random.default_rng(0).normal(size=(4, 3, 7, 7)).astype(np.float32)
    nodes = [
        helper.make_node("Pad", ["crop", "pads"], ["wide"], mode="reflect"),
        helper.make_node("Conv", ["wide", "weight"], ["rgba"], name="conv"),
    ]
    graph = helper.make_graph(
        nodes,
        "padded",
        [helper.make_tensor_value_info("crop", onnx.TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("rgba", onnx.TensorProto.FLOAT, [1, 4, SIDE, SIDE])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_openvino_draws_a_padded_convolution_as_onnx_runtime_does(crops):
    model = padded()
    quantized = int8_convolutions(model, ranges_of(model, crops))
    core = openvino_core()
    compiled = core.compile_model(
        core.read_model(quantized.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    expected = run(quantized, crops[:1])
    assert np.abs(compiled(crops[:1])[0] - expected).max() < 0.01 * np.abs(expected).max()
