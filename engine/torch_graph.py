"""An ONNX graph of ours as a torch module: every model folder runs in torch, also where its training code is not.

Built once: each operation becomes one line of generated Python (torch.fx), constants become buffers, what reads
constants alone is computed at once. Precision is what is written in the graph (engine.graphs), Casts and all.
"""

import operator
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, fx, nn

from livetoon.errors import EngineError

Value = fx.Node | Tensor


def torch_module(model: ModelProto, half: torch.dtype = torch.float16) -> nn.Module:
    """What computes `model`'s first output from its first input, in eval mode and without gradients.

    half: stands for float16 wherever the graph says so; torch.bfloat16 makes a bf16 network of an fp16 graph.
    EngineError for an operation, or a way of using it, that none of our graphs has.
    """
    builder = _Builder(model, half)
    values: dict[str, Value] = {"": None}
    values |= {value.name: builder.tensor(numpy_helper.to_array(value)) for value in model.graph.initializer}
    crop = model.graph.input[0].name
    values[crop] = builder.graph.placeholder("crop")
    for node in model.graph.node:
        if node.op_type not in OPERATIONS:
            raise EngineError(f"the torch backend has no operation {node.op_type}, which the graph holds")
        made = OPERATIONS[node.op_type](_Operation(node, builder, values))
        values.update(zip(node.output, [made] if len(node.output) == 1 else made, strict=True))
    builder.graph.output(values[model.graph.output[0].name])
    return fx.GraphModule(builder.root, builder.graph).eval().requires_grad_(False)


class _Builder:
    """The Python that is written, and its constants."""

    def __init__(self, model: ModelProto, half: torch.dtype):
        self.graph, self.root, self.half = fx.Graph(), nn.Module(), half
        self._buffers: dict[int, fx.Node] = {}

    def tensor(self, array: np.ndarray) -> Tensor:
        made = torch.from_numpy(array.copy())
        return made.to(self.half) if made.dtype == torch.float16 else made

    def dtype(self, kind: int) -> torch.dtype:
        """Of an ONNX type."""
        if kind == TensorProto.FLOAT16:
            return self.half
        return torch.from_numpy(np.empty(0, helper.tensor_dtype_to_np_dtype(kind))).dtype

    def call(self, function: Callable, *values: object, **options: object) -> Value:
        """`function(*values, **options)`: written down, or computed where all of it is known."""
        if not any(isinstance(value, fx.Node) for value in _flat(values)):
            return function(*values, **options)
        return self.graph.call_function(function, tuple(map(self._read, values)), options)

    def _read(self, value: object) -> object:
        """As it is written: a tensor is a buffer of the module, stored once."""
        if isinstance(value, list):
            return [self._read(each) for each in value]
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self._buffers:
            name = f"constant{len(self._buffers)}"
            self.root.register_buffer(name, value)
            self._buffers[id(value)] = self.graph.get_attr(name)
        return self._buffers[id(value)]


class _Operation:
    """One node: its inputs, its options, and a pen."""

    def __init__(self, node: NodeProto, builder: _Builder, values: dict[str, Value]):
        self.kind, self.call, self.dtype = node.op_type, builder.call, builder.dtype
        self.inputs = [values[name] for name in node.input]
        self.options = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        self.outputs = len(node.output)

    def input(self, place: int) -> Value | None:
        """The input at `place`; None where it is left out."""
        return self.inputs[place] if place < len(self.inputs) else None

    def numbers(self, place: int) -> list:
        """A constant input as plain numbers."""
        known = self.inputs[place]
        self.expect(isinstance(known, Tensor))
        return known.tolist()

    def expect(self, is_so: bool) -> None:
        if not is_so:
            raise EngineError(f"the torch backend knows no {self.kind} with {self.options}, which the graph holds")

    def padding(self) -> list[int]:
        """The same rows above and below, the same columns left and right."""
        pads = self.options.get("pads", [0, 0, 0, 0])
        self.expect(list(pads[:2]) == list(pads[2:]) and self.options.get("auto_pad", b"NOTSET") == b"NOTSET")
        return list(pads[:2])

    def shape_options(self) -> dict[str, object]:
        """Those that convolutions share, by torch's names."""
        names = {"strides": "stride", "dilations": "dilation", "output_padding": "output_padding", "group": "groups"}
        return {"padding": self.padding()} | {
            names[name]: value for name, value in self.options.items() if name in names
        }


def _flat(values: Sequence[object]) -> list[object]:
    return [each for value in values for each in (value if isinstance(value, list) else [value])]


def _convolution(operation: _Operation) -> Value:
    return operation.call(F.conv2d, *operation.inputs, **operation.shape_options())


def _transposed_convolution(operation: _Operation) -> Value:
    return operation.call(F.conv_transpose2d, *operation.inputs, **operation.shape_options())


def _average_pool(operation: _Operation) -> Value:
    options = operation.options
    return operation.call(
        F.avg_pool2d,
        operation.input(0),
        kernel_size=options["kernel_shape"],
        stride=options["strides"],
        padding=operation.padding(),
        ceil_mode=bool(options.get("ceil_mode", 0)),
        count_include_pad=bool(options.get("count_include_pad", 0)),
    )


def _pad(operation: _Operation) -> Value:
    pads = operation.numbers(1)
    mode = operation.options.get("mode", b"constant").decode()
    before, after = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    # torch begins with the last side
    both = [pad for pair in zip(reversed(before), reversed(after), strict=True) for pad in pair]
    if mode == "reflect":
        operation.expect(not any(both[4:]))
        return operation.call(F.pad, operation.input(0), both[:4], mode="reflect")
    operation.expect(mode == "constant")
    value = 0.0 if operation.input(2) is None else operation.numbers(2)
    return operation.call(F.pad, operation.input(0), both, value=value)


def _resize(operation: _Operation) -> Value:
    options = {name: operation.options.get(name) for name in ("mode", "coordinate_transformation_mode", "nearest_mode")}
    operation.expect(list(options.values()) == [b"nearest", b"asymmetric", b"floor"])
    scales = operation.numbers(2)
    operation.expect(scales[:2] == [1, 1] and all(scale == int(scale) for scale in scales))
    return operation.call(F.interpolate, operation.input(0), scale_factor=scales[2:], mode="nearest")


def _depth_to_space(operation: _Operation) -> Value:
    block = operation.options["blocksize"]
    if operation.options.get("mode", b"DCR") == b"CRD":
        return operation.call(F.pixel_shuffle, operation.input(0), block)
    return operation.call(depth_first_shuffle, operation.input(0), block)


def depth_first_shuffle(x: Tensor, block: int) -> Tensor:
    """(N, block^2 C, H, W) -> (N, C, block H, block W), each pixel's channels side by side in the input."""
    n, channels, height, width = x.shape
    c = channels // block**2
    moved = x.reshape(n, block, block, c, height, width).permute(0, 3, 4, 1, 5, 2)
    return moved.reshape(n, c, block * height, block * width)


def _instance_norm(operation: _Operation) -> Value:
    x, scale, shift = operation.inputs
    scale, shift = (operation.call(torch.reshape, each, [-1, 1, 1]) for each in (scale, shift))
    normed = operation.call(layer_norm, x, 2, operation.options.get("epsilon", 1e-5))
    return _affine(operation, normed, scale, shift)


def _layer_norm(operation: _Operation) -> Value:
    normed = operation.call(
        layer_norm, operation.input(0), operation.options.get("axis", -1), operation.options.get("epsilon", 1e-5)
    )
    return _affine(operation, normed, operation.input(1), operation.input(2))


def layer_norm(x: Tensor, first: int, epsilon: float) -> Tensor:
    """Over the sides from `first` on. (torch's instance norm takes three times as long on a processor.)"""
    return F.layer_norm(x, x.shape[first:], eps=epsilon)


def _affine(operation: _Operation, x: Value, scale: Value, shift: Value | None) -> Value:
    """x scale + shift, without what changes nothing."""
    if not _is_all(scale, 1):
        x = operation.call(operator.mul, x, scale)
    return x if shift is None or _is_all(shift, 0) else operation.call(operator.add, x, shift)


def _is_all(value: Value, number: float) -> bool:
    return isinstance(value, Tensor) and bool((value == number).all())


def _gemm(operation: _Operation) -> Value:
    options = operation.options
    plain = options.get("alpha", 1) == options.get("beta", 1) == 1 and not options.get("transA")
    operation.expect(plain)
    weight = operation.input(1)
    if not options.get("transB"):
        weight = operation.call(torch.t, weight)
    return operation.call(F.linear, operation.input(0), weight, operation.input(2))


def _reduce_mean(operation: _Operation) -> Value:
    keep = bool(operation.options.get("keepdims", 1))
    return operation.call(torch.mean, operation.input(0), operation.numbers(1), keepdim=keep)


def _reshape(operation: _Operation) -> Value:
    shape = operation.numbers(1)
    operation.expect(0 not in shape)
    return operation.call(torch.reshape, operation.input(0), shape)


def _unsqueeze(operation: _Operation) -> Value:
    value = operation.input(0)
    for axis in sorted(operation.numbers(1)):
        operation.expect(axis >= 0)
        value = operation.call(torch.unsqueeze, value, axis)
    return value


def _split(operation: _Operation) -> list[Value]:
    operation.expect(operation.input(1) is None)
    axis = operation.options.get("axis", 0)
    parts = operation.call(torch.chunk, operation.input(0), operation.outputs, dim=axis)
    return [operation.call(operator.getitem, parts, place) for place in range(operation.outputs)]


def _quantize(operation: _Operation) -> Value:
    x, scale, zero = operation.inputs
    operation.expect(zero.ndim == 0)
    limits = torch.iinfo(zero.dtype)
    return operation.call(quantized, x, scale, int(zero), limits.min, limits.max, zero.dtype)


def quantized(x: Tensor, scale: Tensor, zero: int, least: int, most: int, kind: torch.dtype) -> Tensor:
    """x in steps of `scale`, rounded to even, from `least` to `most`."""
    return (torch.round(x / scale) + zero).clamp(least, most).to(kind)


def _dequantize(operation: _Operation) -> Value:
    codes, scale, zero = operation.inputs
    if scale.ndim:
        sides = [1] * codes.ndim
        sides[operation.options.get("axis", 1)] = -1
        scale, zero = scale.reshape(sides), zero.reshape(sides)
    return operation.call(dequantized, codes, scale, zero)


def dequantized(codes: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return (codes.to(scale.dtype) - zero.to(scale.dtype)) * scale


def _plainly(function: Callable) -> Callable[[_Operation], Value]:
    """An operation that is `function` of its inputs."""
    return lambda operation: operation.call(function, *operation.inputs)


OPERATIONS: dict[str, Callable[[_Operation], Value | list[Value]]] = {
    "Add": _plainly(operator.add),
    "AveragePool": _average_pool,
    "Cast": lambda operation: operation.call(Tensor.to, operation.input(0), operation.dtype(operation.options["to"])),
    "Concat": lambda operation: operation.call(torch.cat, operation.inputs, dim=operation.options["axis"]),
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "DepthToSpace": _depth_to_space,
    "DequantizeLinear": _dequantize,
    "Div": _plainly(operator.truediv),
    "Gemm": _gemm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "MatMul": _plainly(torch.matmul),
    "Mul": _plainly(operator.mul),
    "Pad": _pad,
    "QuantizeLinear": _quantize,
    "ReduceMean": _reduce_mean,
    "Relu": _plainly(F.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Round": _plainly(torch.round),
    "Sigmoid": _plainly(torch.sigmoid),
    "Split": _split,
    "Sub": _plainly(operator.sub),
    "Tanh": _plainly(torch.tanh),
    "Transpose": lambda operation: operation.call(torch.permute, operation.input(0), operation.options["perm"]),
    "Unsqueeze": _unsqueeze,
}
