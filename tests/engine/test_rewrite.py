"""Every rewrite against ONNX Runtime's result for the graph as it was."""

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from engine import rewrite


def model_of(nodes, constants, outputs: int, side: int = 8, channels: int = 3) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("crop", onnx.TensorProto.FLOAT, ["n", channels, side, side])],
        [helper.make_tensor_value_info("rgba", onnx.TensorProto.FLOAT, ["n", outputs, None, None])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(model: onnx.ModelProto, channels: int = 3, side: int = 8) -> np.ndarray:
    onnx.checker.check_model(model)
    x = np.random.default_rng(0).normal(size=(2, channels, side, side)).astype(np.float32)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"crop": x})[0]


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def unshuffle_nodes(stride: int = 1) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Reshape", ["crop", "six"], ["blocks"]),
        helper.make_node("Transpose", ["blocks"], ["ordered"], perm=[0, 1, 3, 5, 2, 4]),
        helper.make_node("Reshape", ["ordered", "four"], ["unshuffled"]),
        helper.make_node(
            "Conv", ["unshuffled", "w", "b"], ["rgba"], name="e1", pads=[1, 1, 1, 1], strides=[stride, stride]
        ),
    ]


def unshuffle_model(stride: int = 1) -> onnx.ModelProto:
    constants = {
        "six": np.array([-1, 3, 4, 2, 4, 2]),
        "four": np.array([-1, 12, 4, 4]),
        "w": values(5, 12, 3, 3),
        "b": values(5),
    }
    return model_of(unshuffle_nodes(stride), constants, outputs=5)


def shuffle_model(mode: str = "CRD", activation: str | None = None) -> onnx.ModelProto:
    nodes = [helper.make_node("Conv", ["crop", "w", "b"], ["y"], name="out", pads=[1, 1, 1, 1])]
    last = "y"
    if activation:
        nodes.append(helper.make_node(activation, ["y"], ["activated"]))
        last = "activated"
    nodes.append(helper.make_node("DepthToSpace", [last], ["rgba"], blocksize=2, mode=mode))
    return model_of(nodes, {"w": values(16, 3, 3, 3), "b": values(16)}, outputs=4)


def test_unshuffle_becomes_one_convolution():
    model = unshuffle_model()
    before = run(model)
    rewrite.unshuffle_into_convolution(model)
    assert kinds(model) == ["Conv"]
    np.testing.assert_allclose(run(model), before, atol=1e-4)


def test_unshuffle_stays_before_a_convolution_of_another_stride():
    model = unshuffle_model(stride=2)
    rewrite.unshuffle_into_convolution(model)
    assert kinds(model) == ["Reshape", "Transpose", "Reshape", "Conv"]


@pytest.mark.parametrize("activation", [None, "Sigmoid"])
def test_depth_first_shuffle_gives_the_same_picture(activation):
    model = shuffle_model(activation=activation)
    before = run(model)
    rewrite.depth_first_shuffles(model)
    assert helper.get_node_attr_value(model.graph.node[-1], "mode") == b"DCR"
    np.testing.assert_allclose(run(model), before, atol=1e-5)


def test_depth_first_shuffle_leaves_what_is_depth_first():
    model = shuffle_model(mode="DCR")
    before = copy.deepcopy(model)
    rewrite.depth_first_shuffles(model)
    assert model == before


def test_rgba_head_maps_colours_as_tanh_and_alpha_as_sigmoid():
    model = shuffle_model()
    logits = run(model)
    rewrite.rgba_head(model)
    rgba = run(model)
    np.testing.assert_allclose(rgba[:, :3], (np.tanh(logits[:, :3]) + 1) / 2, atol=1e-6)
    np.testing.assert_allclose(rgba[:, 3:], 1 / (1 + np.exp(-logits[:, 3:])), atol=1e-6)


@pytest.mark.parametrize("rewrite_one", [rewrite.rgba_head, rewrite.depth_first_shuffles])
def test_a_bias_that_another_convolution_reads_too_stays_as_it_is_there(rewrite_one):
    nodes = [
        helper.make_node("Conv", ["crop", "w", "b"], ["x"], name="m1", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["x", "v", "b"], ["y"], name="out", pads=[1, 1, 1, 1]),
        helper.make_node("DepthToSpace", ["y"], ["rgba"], blocksize=2, mode="CRD"),
    ]
    model = model_of(nodes, {"w": values(16, 3, 3, 3), "v": values(16, 16, 3, 3), "b": values(16)}, outputs=4)
    apart = copy.deepcopy(model)
    apart.graph.initializer.append(numpy_helper.from_array(values(16), "c"))
    apart.graph.node[1].input[2] = "c"
    rewrite_one(model)
    rewrite_one(apart)
    np.testing.assert_array_equal(run(model), run(apart))


def test_rgba_head_refuses_another_ending():
    model = unshuffle_model()
    with pytest.raises(ValueError, match="does not end in a convolution and a pixel-shuffle"):
        rewrite.rgba_head(model)


def test_clean_keeps_the_result_and_nothing_of_the_machine():
    model = shuffle_model()
    before = run(model)
    model.doc_string = "made in /home/someone"
    model.producer_version = "1.2.3"
    for node in model.graph.node:
        node.doc_string = "File /home/someone/train.py, line 3"
        node.metadata_props.add(key="stack", value="/home/someone/train.py")
    model.graph.initializer.append(numpy_helper.from_array(values(7), "unused"))
    cleaned = rewrite.clean(model, "small/adults")
    assert b"someone" not in cleaned.SerializeToString()
    assert sorted(value.name for value in cleaned.graph.initializer) == ["b", "w"]
    np.testing.assert_array_equal(run(cleaned), before)


def test_what_reads_constants_alone_is_computed():
    constants = {"w": values(4, 3, 1, 1), "scale": np.float32(2), "shape": np.array([1, 4, 1, 1]), "b": values(4)}
    nodes = [
        helper.make_node("Mul", ["w", "scale"], ["twice"]),
        helper.make_node("Reshape", ["b", "shape"], ["wide"]),
        helper.make_node("Conv", ["crop", "twice"], ["y"]),
        helper.make_node("Add", ["y", "wide"], ["rgba"]),
    ]
    model = model_of(nodes, constants, outputs=4)
    before = run(model)
    rewrite.fold_constants(model)
    assert kinds(model) == ["Conv", "Add"]
    np.testing.assert_allclose(run(model), before, rtol=1e-6)
