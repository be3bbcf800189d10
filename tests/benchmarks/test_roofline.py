"""Work counted by hand, and what a machine makes of it."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import roofline


def model(nodes, weights, size=(1, 3, 16, 16), made=(1, 8, 16, 16)):
    constants = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", size), ("y", made))]
    return helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], constants))


def convolution(**options):
    return helper.make_node("Conv", ["x", "w", "b"], ["y"], **options)


def test_one_convolution():
    counted = roofline.counted(model([convolution(pads=[1, 1, 1, 1])], {"w": (8, 3, 3, 3), "b": (8,)}))
    assert counted.macs == 8 * 3 * 3 * 3 * 16 * 16
    assert counted.moved == 4 * (3 * 16 * 16 + 8 * 16 * 16 + 8 * 3 * 3 * 3 + 8)


@pytest.mark.parametrize(
    ("node", "weights", "size", "made", "macs"),
    [
        (convolution(group=4), {"w": (4, 1, 1, 1), "b": (4,)}, (2, 4, 8, 8), (2, 4, 8, 8), 2 * 4 * 8 * 8),
        (convolution(strides=[2, 2]), {"w": (8, 4, 2, 2), "b": (8,)}, (1, 4, 8, 8), (1, 8, 4, 4), 8 * 4 * 4 * 4 * 4),
        (
            helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]),
            {"w": (4, 8, 2, 2)},
            (1, 4, 8, 8),
            (1, 8, 16, 16),
            4 * 8 * 2 * 2 * 8 * 8,
        ),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), {"w": (5, 7)}, (3, 7), (3, 5), 3 * 5 * 7),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transA=1), {"w": (7, 5)}, (7, 3), (3, 5), 3 * 5 * 7),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), {"w": (7, 5)}, (2, 3, 7), (2, 3, 5), 2 * 3 * 5 * 7),
        (helper.make_node("Relu", ["x"], ["y"]), {}, (1, 4, 8, 8), (1, 4, 8, 8), 0),
    ],
)
def test_multiply_adds(node, weights, size, made, macs):
    assert roofline.counted(model([node], weights, size, made)).macs == macs


def test_another_view_moves_nothing_and_a_shared_weight_is_read_once():
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["scaled"]),
        helper.make_node("Identity", ["scaled"], ["same"]),
        helper.make_node("Mul", ["same", "w"], ["y"]),
    ]
    counted = roofline.counted(model(nodes, {"w": (8, 1, 1)}, (1, 8, 16, 16)))
    assert counted.moved == 4 * (4 * 8 * 16 * 16 + 8)


def test_a_free_batch_is_named():
    free = model([convolution(pads=[1, 1, 1, 1])], {"w": (8, 3, 3, 3), "b": (8,)}, ("n", 3, 16, 16), ("n", 8, 16, 16))
    with pytest.raises(ValueError, match=r"x: shape \(0, 3, 16, 16\) is not fixed"):
        roofline.counted(free)


def test_the_roof_is_the_slower_of_arithmetic_and_memory():
    work = roofline.Work(macs=10**9, moved=10**8)
    assert roofline.roof_ms(work, roofline.Rates("f32", 1e11, 1e11)) == pytest.approx(20)
    assert roofline.roof_ms(work, roofline.Rates("f32", 1e13, 1e9)) == pytest.approx(100)
    assert roofline.roof_ms(work, roofline.Rates("f16", 1e13, 1e9)) == pytest.approx(50)  # half the bytes
    assert roofline.Rates("f32", 1, 5).best(roofline.Rates("f32", 2, 4)) == roofline.Rates("f32", 2, 5)


def test_rates_of_this_machine():
    found = roofline.rates("cpu", 1)
    assert found.arithmetic == "f32"
    assert 1e8 < found.operations_per_s < 1e13 and 1e7 < found.bytes_per_s < 1e12
