"""FP16 written into an ONNX graph, for engines that take the precision from the graph and nowhere else.

Everything computes in float16 but what sums over whole maps: norms and reductions keep float32, with their scales and
shifts, because sums over 65,536 pixels overflow half precision or lose its digits. Casts stand where the two meet, at
the input and at the output, so that a graph takes and gives what it did before.
"""

from collections.abc import Collection

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

SUMMING = {
    "InstanceNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "BatchNormalization",
    "MeanVarianceNormalization",
    "ReduceMean",
    "ReduceSum",
    "ReduceL2",
    "GlobalAveragePool",
    "Softmax",
}
# Inputs by place that are float32 whatever the node computes in: the factors of a Resize
ALWAYS_FLOAT = {"Resize": (1, 2)}
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
OPSET = 21  # from 19 on quantizers take half precision; what else changed since 18 touches no operation of ours


def half_precision(model: ModelProto, keep: Collection[str] = ()) -> ModelProto:
    """A copy of `model` (float32, or with int8 quantizer pairs) that computes in float16.

    keep: names of nodes that stay in float32, beside the norms. Weights are stored as float16; those that are too large
    for it (beyond 65504) become infinite, which a comparison shows. A quantizer's scale that it would round to zero, of
    a channel whose weights are all but zero, becomes its smallest number: TensorRT refuses zero.
    """
    floats = _tensors_of(model, FLOAT)
    constants = {value.name: value for value in model.graph.initializer}
    made = ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:], made.graph.initializer[:], made.graph.value_info[:]
    width = dict.fromkeys((each.name for each in model.graph.input), FLOAT)
    scales = {node.input[1] for node in model.graph.node if node.op_type in QUANTIZERS}
    written: dict[tuple[str, int], str] = {}

    def read(tensor: str, wanted: int) -> str:
        """The name under which `tensor` can be read as `wanted`."""
        if (tensor, wanted) in written:
            return written[tensor, wanted]
        name = f"{tensor}.half" if wanted == HALF else f"{tensor}.float"
        if tensor in constants:
            values = numpy_helper.to_array(constants[tensor]).astype(np.float16 if wanted == HALF else np.float32)
            if tensor in scales:
                values = np.maximum(values, np.finfo(values.dtype).smallest_subnormal)
            name = tensor if wanted == FLOAT else name
            made.graph.initializer.append(numpy_helper.from_array(values, name))
        elif width[tensor] == wanted:
            name = tensor
        else:
            made.graph.node.append(helper.make_node("Cast", [tensor], [name], name=name, to=wanted))
        written[tensor, wanted] = name
        return name

    for node in model.graph.node:
        computes = FLOAT if node.op_type in SUMMING or node.name in keep else HALF
        copied = NodeProto()
        copied.CopyFrom(node)
        for place, tensor in enumerate(node.input):
            if tensor in floats:
                exact = place in ALWAYS_FLOAT.get(node.op_type, ())
                copied.input[place] = read(tensor, FLOAT if exact else computes)
        for tensor in node.output:
            width[tensor] = computes
        if node.op_type == "Cast" and helper.get_node_attr_value(node, "to") == FLOAT:
            width[node.output[0]] = FLOAT  # as it is written there
        made.graph.node.append(copied)
    made.graph.initializer.extend(value for value in model.graph.initializer if value.name not in floats)
    for end in made.graph.output:
        if end.name in floats and width[end.name] == HALF:
            _rename_output(made, end.name, f"{end.name}.half")
            made.graph.node.append(helper.make_node("Cast", [f"{end.name}.half"], [end.name], name=end.name, to=FLOAT))
    for entry in made.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = max(entry.version, OPSET)
    return made


def rounding(model: ModelProto) -> ModelProto:
    """A half-precision graph as a float32 one that rounds every result to float16: what a GPU computes, to the order of
    its sums, on machines without half arithmetic. (ONNX Runtime on a CPU widens a half graph silently: 92 dB instead of
    79 on the live generator.)
    """
    halves = _tensors_of(model, HALF)
    made = ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:], made.graph.value_info[:]
    for value in made.graph.initializer:
        if value.data_type == HALF:
            value.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(value).astype(np.float32), value.name))
    for node in model.graph.node:
        rounded = [tensor for tensor in node.output if tensor in halves]
        node = NodeProto.FromString(node.SerializeToString())
        if rounded and node.op_type != "Cast":
            for place, tensor in enumerate(node.output):
                node.output[place] = f"{tensor}.exact" if tensor in rounded else tensor
            made.graph.node.append(node)
        elif not rounded:
            made.graph.node.append(node)
        for tensor in rounded:
            exact = node.input[0] if node.op_type == "Cast" else f"{tensor}.exact"
            made.graph.node.append(helper.make_node("Cast", [exact], [f"{tensor}.rounded"], to=HALF))
            made.graph.node.append(helper.make_node("Cast", [f"{tensor}.rounded"], [tensor], to=FLOAT))
    return made


def _tensors_of(model: ModelProto, wanted: int) -> set[str]:
    """Names of all tensors that hold `wanted`."""
    inferred = shape_inference.infer_shapes(model).graph
    kinds = {value.name: value.data_type for value in inferred.initializer}
    for value in (*inferred.input, *inferred.output, *inferred.value_info):
        kinds[value.name] = value.type.tensor_type.elem_type
    return {name for name, kind in kinds.items() if kind == wanted}


def _rename_output(model: ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for places in (node.input, node.output):
            for place, tensor in enumerate(places):
                if tensor == old:
                    places[place] = new
