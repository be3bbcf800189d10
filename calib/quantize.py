"""INT8 written into an ONNX graph: quantizer pairs at the convolutions, everything else stays float32.

    activations   int8, one scale for a tensor, zero point 0
    weights       int8 codes, one scale for an output channel, zero point 0; biases float32

One form for every runtime: TensorRT takes no other zero point and no integer bias.
"""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, helper, numpy_helper

LARGEST_ACTIVATION = 127
# AVX2 multiplies pairs of bytes and adds two products in 16 bits: full-range weights overflow there
# (measured: 25 dB on the worst crop instead of 44), half of it cannot
LARGEST_WEIGHT = 63


def int8_convolutions(model: ModelProto, ranges: Mapping[str, float]) -> ModelProto:
    """A copy of `model` whose convolutions read int8. ranges: see calib.ranges.activation_ranges."""
    made = ModelProto()
    made.CopyFrom(model)
    weights = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    constants: dict[str, np.ndarray] = {}
    read: dict[str, str] = {}
    nodes = []
    for node in made.graph.node:
        if node.op_type == "Conv":
            tensor, weight = node.input[:2]
            if tensor not in read:
                pair, read[tensor] = _activation_pair(tensor, ranges[tensor], constants)
                nodes.extend(pair)
            if weight not in read:
                codes, read[weight] = _weight_codes(weight, weights[weight], constants)
                nodes.append(codes)
            node.input[0], node.input[1] = read[tensor], read[weight]
        nodes.append(node)
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del made.graph.node[:]
    made.graph.node.extend(copies)
    made.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return made


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
