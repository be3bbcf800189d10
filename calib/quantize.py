"""INT8 written into an ONNX graph: quantizer pairs at the convolutions, everything else stays as it is.

    activations   int8, one scale for a tensor, zero point 0
    weights       int8 codes, one scale for an output channel, zero point 0; biases float32

One form for every runtime: TensorRT takes no other zero point and no integer bias.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

LARGEST_ACTIVATION = 127
# AVX2 multiplies pairs of bytes and adds two products in 16 bits: full-range weights overflow there
# (measured: 25 dB on the worst crop instead of 44), half of it cannot
LARGEST_WEIGHT = 63


def sources(model: ModelProto, keep: Collection[str] = ()) -> dict[str, str]:
    """Name of each convolution that is not in `keep` -> the tensor that is quantized for it: what it reads.

    Never what a pad before it reads, though the pad would move bytes then: OpenVINO 2026.4 draws wrong pictures so.
    """
    return {node.name: node.input[0] for node in model.graph.node if node.op_type == "Conv" and node.name not in keep}


def work(model: ModelProto) -> dict[str, int]:
    """Multiplications of each convolution for one crop, transposed ones too."""
    inferred = shape_inference.infer_shapes(model).graph
    sizes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    weights = {value.name: list(value.dims) for value in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):  # at every pixel that is made, or that is read
            pixels = sizes[node.output[0] if node.op_type == "Conv" else node.input[0]][2:]
            found[node.name] = math.prod(weights[node.input[1]]) * math.prod(pixels)
    return found


def share(model: ModelProto, keep: Collection[str]) -> float:
    """How much of the convolutions' work is int8 when those named in `keep` are not; transposed ones never are."""
    of = work(model)
    return sum(of[name] for name in sources(model, keep)) / max(1, sum(of.values()))


def int8_convolutions(model: ModelProto, ranges: Mapping[str, float], keep: Collection[str] = ()) -> ModelProto:
    """A copy of `model` whose convolutions read int8, but for those named in `keep`.

    ranges: of each tensor of `sources`, see calib.ranges.
    """
    made = ModelProto()
    made.CopyFrom(model)
    weights = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    constants: dict[str, np.ndarray] = {}
    quantized = sources(model, keep)
    read: dict[str, str] = {}
    nodes = []
    for node in made.graph.node:
        if node.name in quantized and node.op_type == "Conv":
            tensor, weight = quantized[node.name], node.input[1]
            if tensor not in read:
                pair, read[tensor] = _activation_pair(tensor, ranges[tensor], constants)
                nodes.extend(pair)
            if weight not in read:
                codes, read[weight] = _weight_codes(weight, weights[weight], constants)
                nodes.append(codes)
            node.input[0], node.input[1] = read[tensor], read[weight]
        nodes.append(node)
    made.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    _keep_what_is_read(made, nodes)
    return made


def _keep_what_is_read(model: ModelProto, nodes: Sequence[NodeProto]) -> None:
    """Give `model` those of `nodes` and constants that its outputs need; float weights that became codes are not."""
    wanted, kept = {end.name for end in model.graph.output}, []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(NodeProto.FromString(node.SerializeToString()))
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    constants = [value for value in model.graph.initializer if value.name in wanted]
    copies = [TensorProto.FromString(value.SerializeToString()) for value in constants]
    del model.graph.initializer[:]
    model.graph.initializer.extend(copies)


def _activation_pair(tensor: str, largest: float, constants: dict[str, np.ndarray]) -> tuple[list, str]:
    scale, zero, codes, values = (f"{tensor}.{part}" for part in ("scale", "zero", "int8", "dequantized"))
    constants[scale] = np.asarray(max(largest, 1e-6) / LARGEST_ACTIVATION, np.float32)
    constants[zero] = np.asarray(0, np.int8)
    return [
        helper.make_node("QuantizeLinear", [tensor, scale, zero], [codes], name=codes),
        helper.make_node("DequantizeLinear", [codes, scale, zero], [values], name=values),
    ], values


def _weight_codes(name: str, weight: np.ndarray, constants: dict[str, np.ndarray]) -> tuple[object, str]:
    scale, zero, codes, values = (f"{name}.{part}" for part in ("scale", "zero", "int8", "dequantized"))
    channels = len(weight)
    largest = np.maximum(np.abs(weight.reshape(channels, -1)).max(axis=1), 1e-8)
    constants[scale] = (largest / LARGEST_WEIGHT).astype(np.float32)
    constants[zero] = np.zeros(channels, np.int8)
    steps = weight / constants[scale].reshape(-1, *[1] * (weight.ndim - 1))
    constants[codes] = np.clip(np.rint(steps), -LARGEST_WEIGHT, LARGEST_WEIGHT).astype(np.int8)
    return helper.make_node("DequantizeLinear", [codes, scale, zero], [values], name=values, axis=0), values
