"""Exact rewrites of an exported graph: fewer passes over memory, the same numbers.

Measured with OpenVINO float32 on two AVX2 cores for the live generator (18 ms on one thread before):
the pixel-unshuffle as a 6x6 convolution saves 0.35 ms, the depth-first pixel-shuffle 1.0 ms, and one sigmoid
before the last pixel-shuffle, instead of tanh, sigmoid and concat after it, 2.5 ms.
"""

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper

BLOCK = 2  # every shuffle of our networks moves between a map and one of twice its side


def rgba_head(model: ModelProto) -> None:
    """Turn the graph's logits (N, 4, S, S) into red, green, blue and alpha, each in [0, 1], in place.

    (tanh(z) + 1) / 2 = sigmoid(2 z): the colour rows of the last convolution are doubled, then one sigmoid
    serves all four. Needs a graph that ends in convolution and pixel-shuffle.
    """
    shuffle = _producer(model, model.graph.output[0].name)
    convolution = _producer(model, shuffle.input[0]) if shuffle and shuffle.op_type == "DepthToSpace" else None
    if convolution is None or convolution.op_type != "Conv":
        raise ValueError("the graph does not end in a convolution and a pixel-shuffle")
    for place in range(1, len(convolution.input)):
        values = _array(model, convolution.input[place])
        values[: 3 * BLOCK**2] *= 2
        _replace(model, convolution, place, values)
    activated = f"{convolution.output[0]}.sigmoid"
    sigmoid = helper.make_node("Sigmoid", [convolution.output[0]], [activated], name=f"{convolution.name}.sigmoid")
    shuffle.input[0] = activated
    model.graph.node.insert(list(model.graph.node).index(shuffle), sigmoid)


def depth_first_shuffles(model: ModelProto) -> None:
    """Let every pixel-shuffle read whole pixels (mode DCR) by reordering the convolution before it, in place.

    In channels-last memory, torch's order (CRD) gathers single numbers, this one copies runs of channels.
    """
    for shuffle in model.graph.node:
        if shuffle.op_type != "DepthToSpace" or _attribute(shuffle, "mode") != b"CRD":
            continue
        source = _producer(model, shuffle.input[0])
        if source.op_type == "Sigmoid":
            source = _producer(model, source.input[0])
        if source.op_type != "Conv" or _attribute(shuffle, "blocksize") != BLOCK:
            continue
        for place in range(1, len(source.input)):
            values = _array(model, source.input[place])
            by_channel = values.reshape(-1, BLOCK**2, *values.shape[1:])
            _replace(model, source, place, by_channel.swapaxes(0, 1).reshape(values.shape))
        _set_attributes(shuffle, blocksize=BLOCK, mode="DCR")


def unshuffle_into_convolution(model: ModelProto) -> None:
    """Merge a pixel-unshuffle of the input and the 3x3 convolution after it into one 6x6 of stride 2, in place.

    The same multiplications in the same places, without the pass that reorders the picture.
    """
    nodes = list(model.graph.node[:4])
    if [node.op_type for node in nodes] != ["Reshape", "Transpose", "Reshape", "Conv"]:
        return
    transpose, convolution = nodes[1], nodes[3]
    weight = _array(model, convolution.input[1])
    outputs, inputs, height, width = weight.shape
    plain = {"group": 1, "strides": [1, 1], "dilations": [1, 1], "pads": [1, 1, 1, 1], "auto_pad": b"NOTSET"}
    if (
        list(_attribute(transpose, "perm")) != [0, 1, 3, 5, 2, 4]
        or (height, width) != (3, 3)
        or inputs % BLOCK**2
        or any(_attribute(convolution, name, value) != value for name, value in plain.items())
    ):
        return
    merged = weight.reshape(outputs, inputs // BLOCK**2, BLOCK, BLOCK, 3, 3).transpose(0, 1, 4, 2, 5, 3)
    _replace(model, convolution, 1, merged.reshape(outputs, inputs // BLOCK**2, 3 * BLOCK, 3 * BLOCK))
    _set_attributes(convolution, kernel_shape=[6, 6], strides=[BLOCK, BLOCK], pads=[2, 2, 2, 2])
    convolution.input[0] = nodes[0].input[0]
    for node in nodes[:3]:
        model.graph.node.remove(node)


def plain_lerps(model: ModelProto) -> None:
    """Let every torch.lerp be (1 - weight) start + weight end, in place.

    Exported, it chooses by weight < 0.5 between start + weight (end - start) and end - (1 - weight)(end - start): the
    same number. Where both ends are Gemms, OpenVINO 2026.4 ends the process as it compiles either of these.
    """
    graph = model.graph
    for choice in [node for node in graph.node if node.op_type == "Where"]:
        plain = _producer(model, choice.input[1])
        weighed = _producer(model, plain.input[1]) if plain is not None and plain.op_type == "Add" else None
        apart = _producer(model, weighed.input[1]) if weighed is not None and weighed.op_type == "Mul" else None
        if apart is None or apart.op_type != "Sub" or apart.input[1] != plain.input[0]:
            continue
        (end, start), weight, made = apart.input, weighed.input[0], choice.output[0]
        one, rest, first, second = (f"{made}.{part}" for part in ("one", "rest", "first", "second"))
        graph.initializer.append(numpy_helper.from_array(np.ones((), np.float32), one))
        nodes = [
            helper.make_node("Sub", [one, weight], [rest], name=rest),
            helper.make_node("Mul", [start, rest], [first], name=first),
            helper.make_node("Mul", [end, weight], [second], name=second),
            helper.make_node("Add", [first, second], [made], name=choice.name),
        ]
        place = list(graph.node).index(choice)
        graph.node.remove(choice)
        for offset, node in enumerate(nodes):
            graph.node.insert(place + offset, node)
    _drop_unused(model)


def _drop_unused(model: ModelProto) -> None:
    """Remove nodes whose results nothing reads, in place."""
    wanted, kept = {end.name for end in model.graph.output}, []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))


def clean(model: ModelProto, name: str) -> ModelProto:
    """The same graph without what depends on the exporting machine: traces, comments, unused constants, shapes."""
    graph = model.graph
    used = {tensor for node in graph.node for tensor in node.input}
    nodes = []
    for node in graph.node:
        bare = helper.make_node(node.op_type, node.input, node.output, name=node.name)
        bare.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
        for attribute in bare.attribute:
            attribute.doc_string = ""
        nodes.append(bare)
    constants = sorted(
        (
            numpy_helper.from_array(_array(model, value.name), value.name)
            for value in graph.initializer
            if value.name in used
        ),
        key=lambda value: value.name,
    )
    ends = [
        helper.make_tensor_value_info(
            end.name,
            end.type.tensor_type.elem_type,
            [dim.dim_value or dim.dim_param for dim in end.type.tensor_type.shape.dim],
        )
        for end in (*graph.input, *graph.output)
    ]
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    made = helper.make_model(
        helper.make_graph(nodes, name, ends[:1], ends[1:], constants),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,  # read by ONNX Runtime 1.20 and OpenVINO 2025.1, the oldest that livetoon allows
        producer_name="livetoon",
    )
    onnx.checker.check_model(made)
    return made


def _producer(model: ModelProto, tensor: str) -> NodeProto | None:
    return next((node for node in model.graph.node if tensor in node.output), None)


def _attribute(node: NodeProto, name: str, default=None):
    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)


def _set_attributes(node: NodeProto, **values) -> None:
    kept = [each for each in node.attribute if each.name not in values]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in values.items())])


def _array(model: ModelProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(value for value in model.graph.initializer if value.name == name)).copy()


def _replace(model: ModelProto, node: NodeProto, place: int, values: np.ndarray) -> None:
    """Give `node` new values at input `place`; another node that reads the old ones keeps them."""
    name = node.input[place]
    constants = model.graph.initializer
    if sum(name in each.input for each in model.graph.node) > 1:
        name = node.input[place] = f"{node.name}.{place}"
        constants.add().name = name
    stored = next(value for value in constants if value.name == name)
    stored.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))
